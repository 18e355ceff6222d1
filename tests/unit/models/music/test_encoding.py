"""Files of sound: exact there and back, the same bytes each time, no metadata, and remote bytes that are no music."""

from __future__ import annotations

import io
import struct
import tracemalloc

import av
import numpy as np
import pytest

from serve_app.errors import ProcessingError
from serve_app.models.music import encoding
from serve_app.models.music.encoding import encode, from_audio, to_flac, to_mp3

from .sounds import melody

RATE = 44_100


def stereo(seconds: float = 3.0, rate: int = RATE) -> np.ndarray:
    return np.stack((melody(seconds, rate), melody(seconds, rate, tonic=65)), axis=1)


def coded(audio: np.ndarray, kind: str, codec: str, rate: int = RATE) -> bytes:
    """Return a file as another program would write it, with metadata."""
    output = io.BytesIO()
    with av.open(output, "w", format=kind) as container:
        container.metadata["title"] = "\x1b[31mSecret"
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono" if audio.shape[1] == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(audio.reshape(1, -1), format="flt", layout=stream.layout.name)
        frame.sample_rate, frame.pts = rate, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return output.getvalue()


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_flac_is_exact_to_24_bits(rate: int, channels: int) -> None:
    audio = stereo(1.0, rate)[:, :channels]
    found, found_rate = from_audio(to_flac(audio, rate))
    assert (found.shape, found.dtype, found_rate) == (audio.shape, np.float32, rate)
    assert np.abs(found - audio).max() <= 2.0**-22


def test_flac_has_24_bits() -> None:
    with av.open(io.BytesIO(to_flac(stereo(1.0), RATE))) as container:
        assert container.streams.audio[0].codec_context.name == "flac"
        assert container.streams.audio[0].format.bits == 32  # what FFmpeg decodes 24 bits to
    quiet = np.full((RATE, 1), 2.0**-20, dtype=np.float32)  # below the last of 16 bits
    found, _ = from_audio(to_flac(quiet, RATE))
    assert found == pytest.approx(quiet, rel=0.1)


def test_sound_above_full_scale_is_scaled_and_not_clipped() -> None:
    loud = 3.0 * stereo(1.0) / np.abs(stereo(1.0)).max()
    found, _ = from_audio(to_flac(loud, RATE))
    assert np.abs(found).max() == pytest.approx(1.0, abs=1e-3)
    assert np.abs(3.0 * found - loud).max() < 1e-4


@pytest.mark.parametrize("audio", [np.zeros((0, 2)), np.full((100, 2), np.nan)])
def test_what_can_not_be_kept(audio: np.ndarray) -> None:
    with pytest.raises(ProcessingError, match="empty or not numbers"):
        to_flac(audio.astype(np.float32), RATE)


@pytest.mark.parametrize(
    ("rate", "coded_rate"), [(32_000, 32_000), (44_100, 44_100), (48_000, 48_000), (24_000, 48_000)]
)
def test_mp3_has_a_constant_bit_rate_and_the_exact_length(rate: int, coded_rate: int) -> None:
    audio = stereo(3.0, rate)
    content = to_mp3(audio, rate)
    assert len(content) == pytest.approx(160_000 / 8 * 3.0, rel=0.05)
    found, found_rate = from_audio(content)
    assert found_rate == coded_rate
    assert abs(len(found) / found_rate - 3.0) < 0.002
    if rate == coded_rate:
        assert np.corrcoef(found[: len(audio), 0], audio[: len(found), 0])[0, 1] > 0.99


def mp3_frames(content: bytes) -> list[int]:
    """Return the lengths of the MPEG frames after the tag."""
    at = 10 + int.from_bytes(bytes(b & 0x7F for b in content[6:10]), "big") if content.startswith(b"ID3") else 0
    lengths = []
    while at + 4 <= len(content):
        header = struct.unpack(">I", content[at : at + 4])[0]
        assert header >> 21 == 0x7FF
        bits = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[(header >> 12 & 15) - 1]
        lengths.append(144 * bits * 1000 // RATE + (header >> 9 & 1))
        at += lengths[-1]
    return lengths


def test_every_frame_of_the_mp3_is_as_long_as_the_others() -> None:
    lengths = mp3_frames(to_mp3(stereo(), RATE))
    assert len(lengths) > 100
    assert set(lengths) <= {522, 523}  # with the padding of 160 kbit/s at 44.1 kHz


def test_the_same_sound_gives_the_same_bytes() -> None:
    audio = stereo(1.0)
    assert to_flac(audio, RATE) == to_flac(audio.copy(), RATE)
    assert to_mp3(audio, RATE) == to_mp3(audio.copy(), RATE)


def test_files_have_no_metadata_but_a_title() -> None:
    files = encode(to_flac(stereo(1.0), RATE))
    for content in (files.mp3, files.flac):
        with av.open(io.BytesIO(content)) as container:
            assert container.metadata == {"title": "Music"}
        assert b"Lavc" not in content


def test_the_mastered_file_itself_is_the_one_to_keep() -> None:
    flac = to_flac(stereo(1.0), RATE)
    files = encode(flac)
    assert files.flac == flac
    assert files.mp3 == to_mp3(*from_audio(flac))


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("wav", "pcm_s16le"), ("wav", "pcm_f32le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("ogg", "libopus")],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_files_of_engines_are_known_by_their_content(kind: str, codec: str, channels: int) -> None:
    made_rate = 48_000 if codec == "libopus" else RATE
    audio = stereo(2.0, made_rate)[:, :channels]
    found, rate = from_audio(coded(np.ascontiguousarray(audio), kind, codec, made_rate))
    assert (found.shape[1], rate) == (channels, made_rate)
    assert len(found) / rate == pytest.approx(2.0, abs=0.06)


@pytest.mark.parametrize(("rate", "channels"), [(192_000, 2), (96_000, 1), (88_200, 2)])
def test_a_higher_rate_becomes_48_khz(rate: int, channels: int) -> None:
    found, found_rate = from_audio(coded(np.ascontiguousarray(stereo(2.0, rate)[:, :channels]), "flac", "flac", rate))
    expected = stereo(2.0, 48_000)[:, :channels]
    assert (found.shape[1], found_rate) == (channels, 48_000)
    assert len(found) == pytest.approx(len(expected), abs=50)
    least = min(len(found), len(expected))
    assert np.corrcoef(found[:least, 0], expected[:least, 0])[0, 1] > 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "channels"), [("stereo", 2), ("7.1", 8)])
def test_a_small_file_of_a_long_sound_takes_little_memory(layout: str, channels: int) -> None:
    rate = 192_000
    output = io.BytesIO()
    with av.open(output, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate)
        stream.layout, stream.format = layout, "s16"
        for second in range(179):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, rate * channels), np.int16), format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, second * rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    tracemalloc.start()
    try:
        found, found_rate = from_audio(output.getvalue())
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found.shape[1], found_rate) == (2, 48_000)
    assert len(found) / found_rate == pytest.approx(179.0, abs=0.1)
    assert most < 100 << 20


def test_an_mp3_without_a_tag() -> None:
    content = to_mp3(stereo(1.0), RATE)
    bare = content[content.index(b"\xff\xfb") :]
    assert len(from_audio(bare)[0]) == len(from_audio(content)[0])


def test_a_file_that_breaks_off_gives_its_part() -> None:
    content = coded(stereo(3.0), "wav", "pcm_s16le")
    found, rate = from_audio(content[: len(content) // 2])
    assert len(found) / rate == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"fLaC" + bytes(100),
        b"ID3" + bytes(100),
        b"OggS" + bytes(100),
        b"#EXTM3U\nfile:///etc/passwd\n",
        b'{"error": "quota"}',
        b"<html>",
        b"\x7fELF",
    ],
)
def test_bytes_that_are_no_music_are_refused(content: bytes) -> None:
    with pytest.raises(ProcessingError):
        from_audio(content)


def test_long_and_large_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = coded(stereo(3.0), "wav", "pcm_s16le")
    monkeypatch.setattr(encoding, "MAX_S", 2.5)
    with pytest.raises(ProcessingError, match="longer than"):
        from_audio(content)
    monkeypatch.setattr(encoding, "MAX_BYTES", len(content) - 1)
    with pytest.raises(ProcessingError, match="MiB"):
        from_audio(content)
