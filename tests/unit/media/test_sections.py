"""Files that are not as their headers say: unfinished WAVs, tags in front, files one behind the other, odd formats."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile

from serve_app.errors import AudioExtractionError
from serve_app.media.decode import AudioStream, decode_audio
from serve_app.media.downmix import equal_weights
from serve_app.media.samples import DecodedAudio
from tests.unit.media.media_files import id3_tag, tone, wav, write_media

LIST = b"LIST" + struct.pack("<I", 4) + b"INFO"
BEXT = b"bext" + struct.pack("<I", 3) + b"abc\0"
READ_ON = "The file's header declares {:.1f} s of sound, but more follows; it was read to its end"


def decoded(data: bytes) -> DecodedAudio:
    return decode_audio(io.BytesIO(data))


def pitches(audio: DecodedAudio) -> list[int]:
    """Return the loudest frequency of each second, in tens of Hz."""
    seconds = audio.samples[: len(audio.samples) // 16_000 * 16_000].reshape(-1, 16_000)
    return [round(int(np.argmax(np.abs(np.fft.rfft(second)))), -1) for second in seconds]


def assert_is_tone(audio: DecodedAudio, num_s: int = 2) -> None:
    assert audio.duration_s == pytest.approx(num_s, abs=0.03)
    assert pitches(audio)[:num_s] == [440] * len(pitches(audio)[:num_s])
    assert np.abs(audio.samples).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("size", [0, 36, 8_000, 32_001])
def test_a_header_that_declares_less_than_there_is_is_not_believed(size: int) -> None:
    audio = decoded(wav(tone(2.0), size=size, riff_size=size + 36))
    assert_is_tone(audio)
    assert audio.notes == (READ_ON.format(size / 32_000),)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x7FFFF000, 0x7FFFFF00, 0x80000000])
@pytest.mark.parametrize("riff_size", [0, 0xFFFFFFFF, 0x7FFFF024])
def test_a_size_that_the_writer_did_not_know_is_no_cut(size: int, riff_size: int) -> None:
    audio = decoded(wav(tone(2.0), size=size, riff_size=riff_size))
    assert_is_tone(audio)
    assert audio.notes == ()


@pytest.mark.parametrize(
    "after",
    [
        LIST,
        BEXT + LIST,
        b"id3 " + struct.pack("<I", 310) + id3_tag(),
        b"cue " + struct.pack("<I", 5) + b"abcde" + LIST,  # the byte that makes a size even is missing
        b"wxyz" + struct.pack("<I", 20_000) + b"a" * 20_000,
        LIST[:4] + struct.pack("<I", 90_000) + b"INFO",  # the file ends inside a chunk
        id3_tag(),
        b"TAG" + b"a" * 125,
        b"\0" * 7,
        b"\x9c\x17\xf1",
    ],
)
def test_what_follows_the_sound_is_not_sound(after: bytes) -> None:
    audio = decoded(wav(tone(2.0), after=after))
    assert_is_tone(audio)
    assert (audio.duration_s, audio.notes) == (2.0, ())


def test_no_sound_but_a_chunk_is_no_sound() -> None:
    with pytest.raises(AudioExtractionError, match="no sound that can be decoded"):
        decoded(wav(tone(0.0), after=LIST))


@pytest.mark.parametrize("odd", [b"abcde", b"abcde\0"], ids=["without a pad byte", "with it"])
def test_chunks_of_odd_size(odd: bytes) -> None:
    before = b"JUNK" + struct.pack("<I", 5) + odd
    eight_bits = wav(tone(2.0)[:-1], bits=8, before=before, after=LIST if len(odd) == 5 else b"\0" + LIST)
    for data in (wav(tone(2.0), before=before), eight_bits):
        assert_is_tone(decoded(data))
        assert decoded(data).notes == ()


def test_a_wav_that_is_cut_off_says_so() -> None:
    for size in (None, 3_000_000_000):  # of a file of more than 2 GiB, too
        audio = decoded(wav(tone(2.0), size=size)[:48_044])
        assert audio.duration_s == 1.5
        assert audio.notes == ("The file is cut off or damaged after 1.5 s",)


def rf64(samples: np.ndarray, size: int) -> bytes:
    data = bytearray(wav(samples, size=0xFFFFFFFF, before=b"ds64" + struct.pack("<IQQQI", 28, 0, size, 0, 0)))
    data[:8] = b"RF64\xff\xff\xff\xff"
    return bytes(data)


@pytest.mark.parametrize(
    ("size", "notes"),
    [
        (64_000, ()),
        (0, ()),
        (2**64 - 1, ()),
        (8_000, (READ_ON.format(0.25),)),
        (80_000, ("The file is cut off or damaged after 2.0 s",)),
    ],
)
def test_sizes_of_64_bits(size: int, notes: tuple[str, ...]) -> None:
    audio = decoded(rf64(tone(2.0), size))
    assert_is_tone(audio)
    assert audio.notes == notes


SHAPES = [(8, 8), (12, 16), (16, 16), (20, 24), (24, 24), (20, 32), (24, 32), (32, 32)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(("bits", "container"), SHAPES)
def test_integers_of_any_size(bits: int, container: int, extensible: bool, order: str) -> None:
    sound = tone(1.0)
    data = wav(sound, bits=bits, container_bits=container, extensible=extensible, order=order, mask=4)
    audio = decoded(data)
    np.testing.assert_allclose(audio.samples, sound, atol=1.5 / 2 ** (bits - 1))
    assert audio.notes == ()
    stream = AudioStream(io.BytesIO(data), sample_rate_hz=44_100, max_duration_s=9.0, weigh=equal_weights)  # of drums
    assert sum(map(len, stream)) == pytest.approx(44_100, abs=2)


def test_integers_of_64_bits(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.wav", tone(1.0)[np.newaxis], 16_000, codec="pcm_s64le")
    audio = decoded(path.read_bytes())
    np.testing.assert_allclose(audio.samples, tone(1.0), atol=1e-6)
    assert audio.notes == ()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("bits", [32, 64])
def test_floats(bits: int, extensible: bool, order: str) -> None:
    data = wav(tone(1.0), tag=3, bits=bits, extensible=extensible, order=order)
    np.testing.assert_allclose(decoded(data).samples, tone(1.0), atol=1e-6)


@pytest.mark.parametrize("num_channels", range(1, 9))
@pytest.mark.parametrize("mask", [None, 0, 0x3, 0x63F])
def test_channels_and_masks(num_channels: int, mask: int | None) -> None:
    sound = np.repeat(tone(1.0)[:, None], num_channels, axis=1)
    data = wav(sound, extensible=mask is not None, mask=mask or 0)
    _, reference = scipy.io.wavfile.read(io.BytesIO(data))
    expected = reference.reshape(len(reference), -1)[:, 0] / 32768
    np.testing.assert_allclose(decoded(data).samples, expected, atol=1e-4)


@pytest.mark.parametrize("rate_hz", [4_000, 7_350, 11_025, 22_050, 192_000, 384_000])
def test_rates(rate_hz: int) -> None:
    assert_is_tone(decoded(wav(tone(2.0, rate_hz), rate_hz)))


OTHERS = [
    *[("WAV", kind, end) for kind in ("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610") for end in ("LITTLE", "BIG")],
    ("AIFF", "PCM_16", "BIG"),
    ("AIFF", "PCM_16", "LITTLE"),  # AIFC of kind sowt
    ("AIFF", "FLOAT", "FILE"),
    ("AIFF", "GSM610", "FILE"),
    ("AU", "PCM_16", "BIG"),
    ("AU", "ULAW", "FILE"),
    ("CAF", "PCM_24", "LITTLE"),
    ("W64", "PCM_16", "FILE"),
    ("RF64", "PCM_24", "FILE"),
]


@pytest.mark.parametrize(("container", "kind", "order"), OTHERS)
def test_other_formats_are_read_as_libsndfile_reads_them(container: str, kind: str, order: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, tone(2.0), 16_000, format=container, subtype=kind, endian=order)
    reference, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    audio = decoded(file.getvalue())
    assert audio.notes == ()
    assert audio.duration_s == pytest.approx(len(reference) / 16_000, abs=0.04)
    common = min(len(reference), len(audio.samples))
    np.testing.assert_allclose(audio.samples[:common], reference[:common], atol=0.02)


FORMATS = [
    ("a.wav", "pcm_s16le"),
    ("a.flac", "flac"),
    ("a.m4a", "aac"),
    ("a.ogg", "libopus"),
    ("a.mp3", "libmp3lame"),
    ("a.aac", "aac"),
    ("a.aiff", "pcm_s16be"),
    ("a.caf", "pcm_s16be"),
    ("a.webm", "libopus"),
    ("a.w64", "pcm_s16le"),
    ("a.au", "pcm_s16be"),
    ("a.flv", "aac"),
    ("a.tta", "tta"),
    ("a.wv", "wavpack"),
    ("a.ts", "aac"),
    ("a.avi", "pcm_s16le"),
]


def written(folder: Path, name: str, codec: str, num_s: float, hz: float) -> bytes:
    return write_media(folder / name, tone(num_s, 48_000, hz)[None], 48_000, codec=codec).read_bytes()


@pytest.mark.parametrize(("name", "codec"), FORMATS)
def test_a_tag_or_zeros_in_front_of_a_file(tmp_path: Path, name: str, codec: str) -> None:
    plain = written(tmp_path, name, codec, 2.0, 440.0)
    duration_s = decoded(plain).duration_s
    for before in (id3_tag(), id3_tag(16_000), id3_tag() + id3_tag(), b"\xef\xbb\xbf", b"\0" * 512):
        audio = decoded(before + plain)
        assert audio.duration_s == pytest.approx(duration_s, abs=0.06)  # MP3 counts its encoder's delay then
        assert pitches(audio) == [440, 440]
        assert audio.notes == ()


@pytest.mark.parametrize(("name", "codec"), FORMATS)
def test_two_files_one_behind_the_other_are_read(tmp_path: Path, name: str, codec: str) -> None:
    first, second = (written(tmp_path, name, codec, num_s, hz) for num_s, hz in ((2.0, 440.0), (3.0, 880.0)))
    audio = decoded(first + second)
    assert audio.duration_s == pytest.approx(5.0, abs=0.12)
    found = pitches(audio)
    assert (found[:2], found[-1]) == ([440, 440], 880)
    assert not [note for note in audio.notes if "cut off" in note]
    blocks = list(AudioStream(io.BytesIO(first + second), sample_rate_hz=16_000, max_duration_s=9.0))
    assert sum(map(len, blocks)) == len(audio.samples)


def test_wavs_of_other_rates_and_sizes_that_nobody_wrote_are_read_one_after_the_other() -> None:
    parts = [
        wav(tone(1.0), after=LIST),
        id3_tag() + wav(tone(1.0, 44_100, 880.0), 44_100, size=0xFFFFFFFF),
        wav(tone(1.0, hz=660.0), size=36),
        wav(tone(1.0, hz=550.0), order=">"),
    ]
    audio = decoded(b"".join(parts))
    assert audio.duration_s == pytest.approx(4.0, abs=0.02)
    assert pitches(audio)[:4] == [440, 880, 660, 550]
    assert audio.notes == (
        "The file holds 4 files, one behind the other; they were read as one",
        READ_ON.format(36 / 32_000),
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("a.ogg", "libopus", 48_000), ("b.ogg", "flac", 44_100)),
        (("a.flac", "flac", 16_000), ("b.flac", "flac", 44_100)),
        (("a.flac", "flac", 16_000), ("b.wav", "pcm_s16le", 44_100)),
        (("a.mkv", "libopus", 48_000), ("b.mkv", "flac", 44_100)),
        (("a.m4a", "aac", 48_000), ("b.wav", "pcm_s16le", 8_000)),
        (("a.wav", "pcm_s16le", 8_000), ("b.flac", "flac", 16_000)),
        (("a.wav", "pcm_s16le", 8_000), ("b.mp3", "libmp3lame", 16_000)),
        (("a.au", "pcm_s16be", 16_000), ("b.au", "pcm_s16be", 44_100)),
        (("a.avi", "pcm_s16le", 16_000), ("b.avi", "pcm_s16le", 44_100)),
        (("a.wv", "wavpack", 16_000), ("b.wv", "wavpack", 44_100)),
    ],
)
def test_two_files_of_different_kinds(
    tmp_path: Path, first: tuple[str, str, int], second: tuple[str, str, int]
) -> None:
    parts = [
        write_media(tmp_path / name, tone(2.0, rate_hz, hz)[None], rate_hz, codec=codec).read_bytes()
        for (name, codec, rate_hz), hz in ((first, 440.0), (second, 880.0))
    ]
    audio = decoded(b"".join(parts))
    assert audio.duration_s == pytest.approx(4.0, abs=0.06)
    found = pitches(audio)
    assert (found[:2], found[-1]) == ([440, 440], 880)
    assert audio.notes == ("The file holds 2 files, one behind the other; they were read as one",)


def test_a_second_file_that_is_broken_is_named(tmp_path: Path) -> None:
    whole = written(tmp_path, "a.m4a", "aac", 2.0, 440.0)
    audio = decoded(whole + whole[: len(whole) // 2])
    assert audio.duration_s == pytest.approx(2.0, abs=0.06)
    assert audio.notes[1].startswith("File 2 of those in this one can't be read: The file is not media")


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "libopus"), ("a.webm", "libopus"), ("a.m4a", "aac"), ("a.mov", "pcm_s16le")]
)
@pytest.mark.parametrize("options", [{}, {"audio_start_s": 5.0}], ids=["at the start", "late"])
def test_sound_alone_that_starts_late_is_not_cut_off(
    tmp_path: Path, name: str, codec: str, options: dict[str, float]
) -> None:
    path = write_media(tmp_path / name, tone(2.0, 48_000)[None], 48_000, codec=codec, **options)  # type: ignore[arg-type]
    audio = decode_audio(str(path))
    start_s = options.get("audio_start_s", 0.0)
    assert float(np.argmax(np.abs(audio.samples) > 0.1)) / 16_000 == pytest.approx(start_s, abs=0.03)
    assert audio.duration_s == pytest.approx(start_s + 2.0, abs=0.06)
    assert [note for note in audio.notes if "starts 5.0 s after" not in note] == []


def test_a_file_cut_from_the_middle_of_a_long_one_starts_with_its_sound(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", tone(2.0, 48_000)[None], 48_000, codec="libopus", audio_start_s=600.0)
    audio = decode_audio(str(path))
    assert audio.duration_s == pytest.approx(2.0, abs=0.05)
    assert audio.notes == ()


def test_padding_of_any_kind_behind_files_stays_unread() -> None:
    for tail in (b"RIFF", b"RIFF\0\0\0\0WAVE", b"ID3", b"data\xff\xff\xff\xff"):
        assert decoded(wav(tone(1.0), after=tail)).duration_s == 1.0
