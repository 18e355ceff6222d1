"""Decoding real files of many kinds, good and bad."""

from __future__ import annotations

import io
import socket
import socketserver
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pytest

from serve_app.errors import AudioExtractionError
from serve_app.media.decode import AudioStream, decode_audio
from tests.unit.media.media_files import tone, write_media, write_video_only


def loudest_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * 16_000 / len(samples))


def level(samples: np.ndarray) -> float:
    """Return the RMS of the middle half."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.sqrt(np.mean(middle**2)))


def onset_s(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(samples) > 0.1) / 16_000)


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [
        ("a.wav", "pcm_s16le", 8_000),
        ("a.wav", "pcm_u8", 11_025),
        ("a.wav", "pcm_s24le", 44_100),
        ("a.wav", "pcm_f32le", 48_000),
        ("a.wav", "pcm_f64le", 96_000),
        ("a.wav", "pcm_s32le", 192_000),
        ("a.flac", "flac", 16_000),
        ("a.mp3", "libmp3lame", 44_100),
        ("a.ogg", "libopus", 16_000),
        ("a.opus", "libopus", 48_000),
        ("a.m4a", "aac", 48_000),
        ("a.aac", "aac", 44_100),
        ("a.mkv", "aac", 22_050),
        ("a.webm", "libopus", 48_000),
        ("a.ts", "aac", 48_000),
        ("a.avi", "pcm_s16le", 16_000),
        ("a.mov", "pcm_s16be", 48_000),
        ("a.aiff", "pcm_s16be", 44_100),
    ],
)
def test_format_and_rate_keep_length_pitch_and_level(tmp_path: Path, name: str, codec: str, rate_hz: int) -> None:
    path = write_media(tmp_path / name, tone(3.0, rate_hz)[None], rate_hz, codec=codec)
    decoded = decode_audio(str(path))
    assert decoded.samples.dtype == np.float32
    assert decoded.duration_s == len(decoded.samples) / 16_000
    assert decoded.duration_s == pytest.approx(3.0, abs=0.06)
    assert loudest_hz(decoded.samples) == pytest.approx(440, abs=1)
    assert level(decoded.samples) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert decoded.notes == ()


def test_16_khz_mono_passes_bit_for_bit(tmp_path: Path) -> None:
    original = np.round(tone(1.0) * 32768) / 32768
    path = write_media(tmp_path / "a.wav", original[None].astype(np.float32), 16_000, codec="pcm_s16le")
    np.testing.assert_allclose(decode_audio(str(path)).samples, original, atol=1 / 32768)


def test_video_with_sound(tmp_path: Path) -> None:
    path = write_media(tmp_path / "v.mp4", tone(2.0, 44_100)[None], 44_100, codec="aac", video_s=3.0)
    assert decode_audio(str(path)).duration_s == pytest.approx(2.0, abs=0.06)


@pytest.mark.parametrize("container", ["v.mp4", "v.mkv", "v.ts"])
def test_late_sound_starts_late(tmp_path: Path, container: str) -> None:
    sound = tone(1.0, 48_000)[None]
    path = write_media(tmp_path / container, sound, 48_000, codec="aac", audio_start_s=1.5, video_s=3.0)
    decoded = decode_audio(str(path))
    assert onset_s(decoded.samples) == pytest.approx(1.5, abs=0.05)
    assert decoded.duration_s == pytest.approx(2.5, abs=0.08)
    assert decoded.notes == ("The sound starts 1.5 s after the start of the file",)


def test_gap_in_the_time_stamps_becomes_silence(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", tone(2.0, 48_000)[None], 48_000, codec="pcm_s16le", gap_at_s=1.0, gap_s=2.0)
    decoded = decode_audio(str(path))
    assert decoded.duration_s == pytest.approx(4.0, abs=0.03)
    assert np.abs(decoded.samples[int(1.2 * 16_000) : int(2.8 * 16_000)]).max() == 0
    assert np.abs(decoded.samples[int(3.2 * 16_000) : int(3.8 * 16_000)]).max() > 0.4
    assert decoded.notes == ("2.0 s of sound are missing at 1.0 s",)


@pytest.mark.parametrize("layout", ["stereo", "2.1", "3.0", "quad", "5.1", "5.1(side)", "6.1", "7.1"])
def test_every_channel_is_heard_and_full_scale_does_not_clip(tmp_path: Path, layout: str) -> None:
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    same = np.repeat(tone(1.0, 48_000, amplitude=0.98)[None], len(names), axis=0)
    together = decode_audio(str(write_media(tmp_path / "all.wav", same, 48_000, codec="pcm_f32le", layout=layout)))
    assert np.abs(together.samples).max() == pytest.approx(0.98, abs=0.01)
    for index, name in enumerate(names):
        alone = np.zeros_like(same)
        alone[index] = same[index]
        path = write_media(tmp_path / f"{index}.wav", alone, 48_000, codec="pcm_f32le", layout=layout)
        heard = level(decode_audio(str(path)).samples)
        assert heard == 0 if name == "LFE" else heard > 0.08, name


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.flac", "flac"), ("a.mkv", "libopus")])
def test_eight_planar_channels_do_not_crash(tmp_path: Path, name: str, codec: str) -> None:
    same = np.repeat(tone(1.0, 48_000)[None], 8, axis=0)
    path = write_media(tmp_path / name, same, 48_000, codec=codec, layout="7.1")
    assert level(decode_audio(str(path)).samples) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


def test_opposite_polarity_does_not_cancel(tmp_path: Path) -> None:
    voice = tone(2.0, 44_100)
    path = write_media(tmp_path / "a.wav", np.stack([voice, -voice]), 44_100, codec="pcm_s16le", layout="stereo")
    decoded = decode_audio(str(path))
    assert level(decoded.samples) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert decoded.notes == ("Left and right have opposite polarity; one was turned over",)


def test_samples_that_are_not_numbers_become_silence(tmp_path: Path) -> None:
    sound = tone(1.0)
    sound[4000:4100] = np.nan
    sound[5000], sound[6000], sound[7000] = np.inf, -np.inf, 1e30
    data = sound.tobytes()
    header = (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 3, 1, 16_000, 64_000, 4, 32)
    )
    decoded = decode_audio(io.BytesIO(header + b"data" + struct.pack("<I", len(data)) + data))
    assert np.isfinite(decoded.samples).all()
    assert np.abs(decoded.samples).max() == 1.0
    assert not decoded.samples[4000:4100].any()
    assert decoded.notes == ("Samples that are not numbers were replaced by silence",)


def adts_of(tmp_path: Path, name: str, rate_hz: int, layout: str) -> bytes:
    channels = np.repeat(tone(1.0, rate_hz)[None], av.AudioLayout(layout).nb_channels, axis=0)
    return write_media(tmp_path / name, channels, rate_hz, codec="aac", layout=layout).read_bytes()


def test_layout_and_rate_may_change_on_the_way(tmp_path: Path) -> None:
    joined = adts_of(tmp_path, "1.aac", 44_100, "mono") + adts_of(tmp_path, "2.aac", 48_000, "stereo")
    decoded = decode_audio(io.BytesIO(joined))
    assert decoded.duration_s == pytest.approx(2.0, abs=0.15)
    for half in (decoded.samples[2000:14_000], decoded.samples[18_000:30_000]):
        assert loudest_hz(half) == pytest.approx(440, abs=3)


def test_silence_is_silence(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.flac", np.zeros((1, 32_000), np.float32), 16_000, codec="flac")
    assert not decode_audio(str(path)).samples.any()


def test_default_track_wins_over_the_first(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        streams[1].disposition = av.stream.Disposition.default
        for stream, hz in zip(streams, (300.0, 700.0), strict=True):
            frame = av.AudioFrame.from_ndarray((tone(1.0, hz=hz) * 32767).astype(np.int16)[None], layout="mono")
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))
    with av.open(str(path)) as container:
        flags = [bool(stream.disposition & av.stream.Disposition.default) for stream in container.streams]
    assert flags == [False, True]
    assert loudest_hz(decode_audio(str(path)).samples) == pytest.approx(700, abs=2)


@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.flac", "flac"), ("a.mkv", "aac")])
def test_cut_off_file_gives_what_is_there_and_says_so(tmp_path: Path, name: str, codec: str) -> None:
    # noise, so that half of the bytes is half of the time for every codec
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 10 * 44_100)).astype(np.float32)
    whole = write_media(tmp_path / name, noise, 44_100, codec=codec).read_bytes()
    decoded = decode_audio(io.BytesIO(whole[: len(whole) // 2]))
    assert decoded.duration_s == pytest.approx(5.0, abs=0.5)
    assert decoded.notes[-1].startswith("The file is cut off")


def test_cut_off_mp4_with_its_index_in_front(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (1, 10 * 44_100)).astype(np.float32)
    path = write_media(tmp_path / "a.mp4", sound, 44_100, codec="aac", options={"movflags": "faststart"})
    whole = path.read_bytes()
    decoded = decode_audio(io.BytesIO(whole[: len(whole) // 2]))
    assert 4.0 < decoded.duration_s < 6.0
    assert "cut off" in decoded.notes[-1]


def test_cut_off_mp4_without_its_index(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", tone(5.0, 44_100)[None], 44_100, codec="aac")
    whole = path.read_bytes()
    with pytest.raises(AudioExtractionError, match="header is broken or missing"):
        decode_audio(io.BytesIO(whole[: len(whole) // 2]))


def test_damaged_packets_are_skipped_and_time_is_kept(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", tone(10.0, 48_000)[None], 48_000, codec="aac")
    damaged = bytearray(path.read_bytes())
    third = len(damaged) // 3
    damaged[third : third + 3000] = b"\xff" * 3000
    decoded = decode_audio(io.BytesIO(bytes(damaged)))
    assert decoded.duration_s == pytest.approx(10.0, abs=0.3)
    assert decoded.notes
    assert loudest_hz(decoded.samples[-32_000:]) == pytest.approx(440, abs=1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file is empty"),
        (b"<!DOCTYPE html><html><body>log in</body></html>", "web page"),
        (b"just some words, no media at all. " * 200, "not media"),
        (b"\0" * 100_000, "not media"),
        (bytes(range(256)) * 400, "not media|not one that is accepted|no audio track|can be decoded"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "not media|not one that is accepted"),
        (b"RIFF\x24\0\0\0WAVE", "not media|header is broken"),
    ],
)
def test_what_is_not_media_is_named(content: bytes, words: str) -> None:
    with pytest.raises(AudioExtractionError, match=words):
        decode_audio(io.BytesIO(content))


def test_video_without_sound_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioExtractionError, match="no audio track"):
        decode_audio(str(write_video_only(tmp_path / "v.mp4")))


def test_track_without_samples_is_named(tmp_path: Path) -> None:
    header = b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    with pytest.raises(AudioExtractionError, match="no sound that can be decoded"):
        decode_audio(io.BytesIO(header + b"data" + struct.pack("<I", 0)))


def test_too_long_is_refused_whatever_the_header_says(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.flac", tone(120.0)[None], 16_000, codec="flac")
    with pytest.raises(AudioExtractionError, match="longer than the limit of 1 minutes"):
        decode_audio(str(path), max_duration_s=60.0)
    assert decode_audio(str(path), max_duration_s=120.0).duration_s == 120.0


def test_header_that_claims_days_does_not_refuse_a_short_file(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.wav", tone(1.0)[None], 16_000, codec="pcm_s16le")
    streamed = bytearray(path.read_bytes())  # as written to a pipe: sizes unknown
    streamed[4:8] = b"\xff" * 4
    at = streamed.index(b"data") + 4
    streamed[at : at + 4] = struct.pack("<I", 0x7FFFFFF0)
    assert decode_audio(io.BytesIO(bytes(streamed))).duration_s == pytest.approx(1.0, abs=0.01)


def test_absurd_rate_and_channel_count_are_refused() -> None:
    for channels, rate_hz in ((1, 1), (200, 16_000)):
        form = struct.pack("<IHHIIHH", 16, 1, channels, rate_hz, rate_hz * channels * 2, channels * 2, 16)
        data = b"\0" * 80_000
        file = (
            b"RIFF"
            + struct.pack("<I", 36 + len(data))
            + b"WAVEfmt "
            + form
            + b"data"
            + struct.pack("<I", len(data))
            + data
        )
        with pytest.raises(AudioExtractionError):
            decode_audio(io.BytesIO(file))


@contextmanager
def listening() -> Iterator[tuple[int, list[object]]]:
    """Yield a port of this machine, and the addresses that connect to it."""
    connected: list[object] = []
    with socketserver.TCPServer(("127.0.0.1", 0), lambda _, address, server: connected.append(address)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1], connected
        finally:
            server.shutdown()
            thread.join()


def test_a_connection_would_be_seen() -> None:
    with listening() as (port, connected):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            assert connection.recv(1) == b""
        assert len(connected) == 1


def scripts(port: int, local: Path) -> dict[str, str]:
    """Return files that make an unguarded FFmpeg open `local` or connect to `port`."""
    url = f"http://127.0.0.1:{port}/a.wav"
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT5S"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" '
        f'bandwidth="1"><BaseURL>{url}</BaseURL><SegmentBase/></Representation></AdaptationSet></Period></MPD>'
    )
    return {
        "hls of a file": hls.format("file:///etc/passwd"),
        "hls of a sound file": hls.format(f"file://{local}"),
        "hls of an address": hls.format(url),
        "hls after blank lines": "\n\n" + hls.format(url),
        "hls of another playlist": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
        "concat": f"ffconcat version 1.0\nfile '{local}'\n",
        "concat of an address": f"ffconcat version 1.0\nfile {url}\n",
        "dash": dash,
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
        "image sequence": "%d.png",
        "subtitles": "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n",
        "lavfi": "sine=frequency=440",
    }


@pytest.mark.parametrize("kind", list(scripts(0, Path("x"))))
def test_script_does_not_make_ffmpeg_open_anything(tmp_path: Path, kind: str) -> None:
    local = write_media(tmp_path / "secret.ts", tone(1.0)[None], 16_000, codec="aac")
    with listening() as (port, connected):
        text = scripts(port, local)[kind].encode()
        for suffix in (".m3u8", ".mp4", ".ffconcat", ".mpd", ".sdp"):
            path = tmp_path / f"script{suffix}"
            path.write_bytes(text)
            with pytest.raises(AudioExtractionError, match=r"playlist|not media|not one that is accepted"):
                decode_audio(str(path))
            # past the sniffing of the first bytes, the demuxer list alone must hold
            with pytest.raises(AudioExtractionError):
                decode_audio(io.BytesIO(b"\n" * 900 + text))
    assert connected == []


def test_unguarded_ffmpeg_would_have_read_the_local_file(tmp_path: Path) -> None:
    """The test above can fail: opened plainly, the same playlist yields another file's sound."""
    local = write_media(tmp_path / "secret.ts", tone(1.0)[None], 16_000, codec="aac")
    path = tmp_path / "script.m3u8"
    path.write_text(scripts(0, local)["hls of a sound file"])
    with av.open(str(path)) as container:
        assert next(container.decode(audio=0)).samples > 0
    with pytest.raises(AudioExtractionError, match="playlist"):
        decode_audio(str(path))


def test_remote_artefact_is_read_through_fsspec(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", tone(2.0, 44_100)[None], 44_100, codec="aac")
    fsspec.filesystem("memory").pipe_file("/jobs/1/source", path.read_bytes())
    assert decode_audio("memory://jobs/1/source").duration_s == pytest.approx(2.0, abs=0.06)


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}], ids=["index last", "index first"])
def test_artefact_on_s3_is_read_in_place(s3_bucket: Any, tmp_path: Path, options: dict[str, str]) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (1, 60 * 44_100)).astype(np.float32)
    path = write_media(tmp_path / "a.mp4", sound, 44_100, codec="aac", options=options)
    s3_bucket.upload_file(str(path), "jobs/1/source")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    decoded = decode_audio("s3://bucket/jobs/1/source")
    np.testing.assert_array_equal(decoded.samples, decode_audio(str(path)).samples)
    assert decoded.duration_s == pytest.approx(60.0, abs=0.06)


def test_reading_error_of_the_source_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100_000:
                raise OSError("connection reset")
            return super().read(size)

    path = write_media(tmp_path / "a.wav", tone(30.0)[None], 16_000, codec="pcm_s16le")
    with pytest.raises(OSError, match="connection reset"):
        decode_audio(Breaking(path.read_bytes()))


def test_memory_stays_near_the_result(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.flac", tone(600.0, 16_000)[None], 16_000, codec="flac")
    tracemalloc.start()
    decoded = decode_audio(str(path))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1.3 * decoded.samples.nbytes + (16 << 20)


def test_ffmpeg_stays_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_media(tmp_path / "a.mkv", tone(10.0, 48_000)[None], 48_000, codec="aac")
    damaged = bytearray(path.read_bytes())
    damaged[20_000:23_000] = b"\xff" * 3000
    decode_audio(io.BytesIO(bytes(damaged)))
    assert capfd.readouterr().err == ""


def test_stream_reads_blocks_of_any_rate_again_and_again(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.wav", tone(60.0, 48_000)[np.newaxis], 48_000, codec="pcm_s16le")
    stream = AudioStream(str(path), sample_rate_hz=44_100, max_duration_s=100.0)
    first, again = list(stream), list(stream)
    assert len(first) > 1
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert (stream.duration_s, stream.notes) == (60.0, ())
    samples = np.concatenate(first)
    assert len(samples) == 60 * 44_100
    spectrum = np.abs(np.fft.rfft(samples[:44_100]))
    assert int(np.argmax(spectrum)) == 440
    with path.open("rb") as file:
        np.testing.assert_array_equal(
            np.concatenate(list(AudioStream(file, sample_rate_hz=44_100, max_duration_s=100.0))), samples
        )


def test_stream_has_the_errors_and_notes_of_the_whole(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.wav", tone(4.0)[np.newaxis], 16_000, codec="pcm_s16le")
    cut = tmp_path / "cut.wav"
    cut.write_bytes(path.read_bytes()[:64_000])
    stream = AudioStream(str(cut), sample_rate_hz=16_000, max_duration_s=10.0)
    samples = np.concatenate(list(stream))
    whole = decode_audio(str(cut))
    np.testing.assert_array_equal(samples, whole.samples)
    assert stream.notes == whole.notes != ()
    for source, limit_s in ((io.BytesIO(b""), 10.0), (io.BytesIO(b"<html>"), 10.0), (path.open("rb"), 1.0)):
        with source:
            with pytest.raises(AudioExtractionError) as streamed:
                list(AudioStream(source, sample_rate_hz=16_000, max_duration_s=limit_s))
            with pytest.raises(AudioExtractionError) as at_once:
                decode_audio(source, max_duration_s=limit_s)
        assert streamed.value.detail == at_once.value.detail
