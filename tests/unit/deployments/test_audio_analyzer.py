"""The deployment without Ray: decoding in processes of its own, which end when their caller leaves."""

from __future__ import annotations

import asyncio
import struct
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from serve_app.deployments.audio_analyzer import AudioAnalyzer
from serve_app.errors import AudioExtractionError, StorageError
from serve_app.media.caged_audio import sound_cage
from serve_app.media.decode import decode_audio
from serve_app.models.speech.options import AnalyzerOptions
from tests.unit.media.media_files import tone, write_media, write_tracks


def make() -> AudioAnalyzer:
    return AudioAnalyzer.func_or_class(AnalyzerOptions(num_threads=2), 4 * 3600.0)


def long_wav() -> bytes:
    """Return four hours, less a second, of a square wave at 4 kHz: 58 MB that take seconds to decode."""
    data = b"\x40\xc0" * 28_798_000
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 4000, 4000, 1, 8) + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(head) + len(data)) + head + data


def test_decodes_what_the_decoder_in_process_does(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", 1.5 * tone(30.0, 48_000)[None], 48_000, codec="libopus", audio_start_s=2.0)
    expected = decode_audio(str(path))
    for source in (str(path), path.read_bytes(), f"file://{path}"):
        decoded = asyncio.run(make().decode(source))
        np.testing.assert_array_equal(decoded.samples, expected.samples)
        assert (decoded.duration_s, decoded.notes) == (expected.duration_s, expected.notes)


@pytest.mark.parametrize(
    ("name", "codec", "off_s"),
    [("a.mkv", "libopus", 0.1), ("a.mp4", "aac", 0.1), ("a.wav", "pcm_s16le", 0.0), ("a.mp3", "libmp3lame", 0.5)],
)
def test_the_length_is_known_without_decoding(tmp_path: Path, name: str, codec: str, off_s: float) -> None:
    path = write_media(tmp_path / name, tone(30.0, 48_000)[None], 48_000, codec=codec)
    assert asyncio.run(make().length_s(str(path))) == pytest.approx(30.0, abs=off_s)


@pytest.mark.parametrize("content", [b"", b"<html>", b"RIFF", None])
def test_a_length_that_no_header_tells_is_no_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    assert asyncio.run(make().length_s(str(tmp_path / "a"))) is None


def test_takes_the_audio_track_that_it_is_told(tmp_path: Path) -> None:
    path = str(write_tracks(tmp_path / "a.mkv", tone(1.0), np.zeros(16_000, np.float32)))
    assert asyncio.run(make().decode(path, audio_track=0)).samples.any()
    assert not asyncio.run(make().decode(path, audio_track=1)).samples.any()
    with pytest.raises(AudioExtractionError, match="no audio track 2; it has 0"):
        asyncio.run(make().decode(path, audio_track=2))


def test_errors_keep_their_kind(tmp_path: Path) -> None:
    with pytest.raises(AudioExtractionError, match="web page"):
        asyncio.run(make().decode(b"<html>"))
    with pytest.raises(StorageError, match="FileNotFoundError"):
        asyncio.run(make().decode(str(tmp_path / "gone")))


def test_callers_that_leave_end_their_decoders(tmp_path: Path) -> None:
    small = write_media(tmp_path / "a.wav", tone(1.0)[None], 16_000, codec="pcm_s16le").read_bytes()
    long = long_wav()
    sound_cage().close()  # of the tests before it, which left workers without work

    async def run() -> list[int]:
        analyzer = make()
        await analyzer.decode(small)
        clients = [asyncio.create_task(analyzer.decode(long)) for _ in range(6)]
        while len(busy := _workers()) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        assert (await analyzer.decode(small)).duration_s == 1.0
        return busy

    before_s = psutil.Process().cpu_times().user
    busy = asyncio.run(run())
    # the second one may be on its way out: its thread looks every 50 ms, and waits for the process
    deadline = time.monotonic() + 20
    while set(busy) & set(_workers()):
        assert time.monotonic() < deadline, "a decoder goes on without its caller"
        time.sleep(0.05)
    assert psutil.Process().cpu_times().user - before_s < 5


def _workers() -> list[int]:
    pid = sound_cage().pid
    return [each.pid for each in psutil.Process(pid).children()] if pid is not None else []
