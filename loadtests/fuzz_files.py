"""Broken files through the caged readers: `python -m loadtests.fuzz_files [--sound N] [--pictures N] [--seed N]`.

Mutations of good files in every format that is taken, and for sound of 3 s of a real recording where one is given. Each
file must be decoded or refused with an error of this project; no decoder may crash, no file may reach a limit of time,
and no worker its limit of memory. The same files every time for the same seed.
"""

from __future__ import annotations

import argparse
import io
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from loadtests.images.inputs import machine
from loadtests.images.mutations import Case, cases
from loadtests.images.seeds import seed_pictures
from serve_app.errors import AudioExtractionError, ImageTooLarge, ImageUnreadable
from serve_app.media.cage import Cage
from serve_app.media.caged_audio import MEMORY_BYTES, CagedAudioStream, decode_caged, sound_cage
from serve_app.media.decode import decode_audio
from serve_app.models.caged_pictures import limits, picture_cage, prepare_caged, read_caged
from serve_app.models.image_file import MAX_PIXELS
from serve_app.models.images.preprocessing import Fit

_SECONDS = 3.0
_MAX_DURATION_S = 4 * 3600.0
# container, codec, samples a second
_FORMATS = (
    ("wav", "pcm_s16le", 16_000),
    ("wav", "adpcm_ima_wav", 16_000),
    ("wav", "pcm_mulaw", 8_000),
    ("w64", "pcm_f32le", 48_000),
    ("aiff", "pcm_s16be", 44_100),
    ("au", "pcm_s16be", 16_000),
    ("caf", "alac", 44_100),
    ("flac", "flac", 16_000),
    ("ogg", "libvorbis", 44_100),
    ("ogg", "libopus", 48_000),
    ("ogg", "flac", 16_000),
    ("webm", "libopus", 48_000),
    ("matroska", "aac", 48_000),
    ("matroska", "ac3", 48_000),
    ("mp4", "aac", 44_100),
    ("mp4", "alac", 44_100),
    ("mov", "pcm_s16le", 44_100),
    ("adts", "aac", 44_100),
    ("mpegts", "mp2", 48_000),
    ("mpegts", "aac", 48_000),
    ("mpeg", "mp2", 48_000),
    ("mp3", "libmp3lame", 44_100),
    ("mp2", "mp2", 48_000),
    ("ac3", "ac3", 48_000),
    ("eac3", "eac3", 48_000),
    ("dts", "dca", 48_000),
    ("flv", "aac", 44_100),
    ("avi", "mp2", 48_000),
    ("asf", "wmav2", 44_100),
    ("rm", "ac3", 44_100),
    ("tta", "tta", 44_100),
    ("wv", "wavpack", 44_100),
    ("truehd", "truehd", 48_000),
    ("mlp", "mlp", 48_000),
    ("nut", "flac", 16_000),
    ("voc", "pcm_u8", 16_000),
)


@dataclass
class Report:
    """What happened to files of one kind.

    Attributes:
        outcomes: files by outcome.
        faults: names of files with a wrong exception, a dead decoder or a limit that was reached, with the error.
        slowest: seconds and name.
        peak_mb: largest resident memory of a worker.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    peak_mb: float = 0.0


def seed_sounds(recording: Path | None) -> dict[str, bytes]:
    """Return three seconds of sound in every format that PyAV can write."""
    if recording is not None:
        sound = decode_audio(str(recording)).samples[: round(_SECONDS * 16_000)]
    else:
        time_s = np.arange(round(_SECONDS * 16_000)) / 16_000
        sound = (0.3 * np.sin(2 * np.pi * 200 * time_s * (1 + time_s))).astype(np.float32)
    found = {}
    for container, codec, rate in _FORMATS:
        try:
            found[f"{container}-{codec}"] = encode(sound, container, codec, rate)
        except (av.error.FFmpegError, ValueError) as error:
            print(f"{container} with {codec} can't be written here: {type(error).__name__}", file=sys.stderr)
    return found


def encode(sound: np.ndarray, container: str, codec: str, rate: int) -> bytes:
    """Return sound, mono at 16 kHz, as a file."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="stereo" if rate >= 44_100 else "mono")
        stream.codec_context.options = {"strict": "experimental"}
        stream.codec_context.open()
        resampler = av.AudioResampler(
            format=stream.codec_context.format.name,
            layout=stream.codec_context.layout.name,
            rate=rate,
            frame_size=stream.codec_context.frame_size or 1024,
        )
        frame = av.AudioFrame.from_ndarray(sound[np.newaxis], format="flt", layout="mono")
        frame.sample_rate = 16_000
        for each in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(each))
        output.mux(stream.encode(None))
    return file.getvalue()


def read_sound(case: Case, number: int) -> None:
    """Decode as the AudioAnalyzer does; each tenth as the DrumTranscriber."""
    if number % 10:
        decoded = decode_caged(case.data, max_duration_s=_MAX_DURATION_S)
        assert np.isfinite(decoded.samples).all()
    else:
        for block in CagedAudioStream(case.data, sample_rate_hz=44_100, max_duration_s=_MAX_DURATION_S):
            assert np.isfinite(block).all()


def read_picture(case: Case, number: int) -> None:
    """Decode as the classifiers and the Captioner do, in turns."""
    if number % 2:
        read_caged(case.data, Fit.CROP, MAX_PIXELS)
    else:
        prepare_caged(case.data, max_pixels=MAX_PIXELS)


def fuzz(
    seeds: Mapping[str, bytes], num: int, seed: int, read: Callable[[Case, int], None], cage: Cage, threads: int = 2
) -> Report:
    """Read so many broken files."""
    report, lock = Report(), threading.Lock()

    def one(item: tuple[int, Case]) -> None:
        number, case = item
        started, fault = time.monotonic(), None
        try:
            read(case, number)
            outcome = "decoded"
        except (AudioExtractionError, ImageUnreadable, ImageTooLarge) as error:
            outcome = "refused"
            for sign, name in (
                ("ends its decoder", "decoder crashed"),
                ("its decoder fails", "wrong exception in the decoder"),
                ("s of processor time", "limit of processor time"),
                (" s to decode", "limit of time"),
                ("MB of memory", "limit of memory"),
            ):
                if sign in error.detail:
                    outcome, fault = name, error.detail
        except Exception as error:
            outcome, fault = "wrong exception", f"{type(error).__name__}: {error}"
        with lock:
            report.outcomes[outcome] += 1
            report.slowest = max(report.slowest, (time.monotonic() - started, case.name))
            if fault:
                report.faults.append(f"{case.name}: {fault}")

    with _watched(cage, report), ThreadPoolExecutor(threads) as executor:
        for done in executor.map(one, enumerate(cases(seeds, num, seed))):
            assert done is None
    return report


@contextmanager
def _watched(cage: Cage, report: Report) -> Iterator[None]:
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            for pid in _children(cage.pid):
                report.peak_mb = max(report.peak_mb, _peak_mb(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _children(pid: int | None) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), 0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sound", type=int, default=10_000, help="number of files of sound")
    parser.add_argument("--pictures", type=int, default=5_000, help="number of pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recording", type=Path, help="a file whose first 3 s are used; else made sound")
    given = parser.parse_args(arguments)
    print(machine())
    failed = False
    for noun, seeds, num, read, cage, limit_mb in (
        ("sound", seed_sounds(given.recording), given.sound, read_sound, sound_cage(), MEMORY_BYTES / 1e6),
        (
            "pictures",
            seed_pictures(),
            given.pictures,
            read_picture,
            picture_cage(),
            limits(0, MAX_PIXELS).memory_bytes / 1e6,
        ),
    ):
        started = time.monotonic()
        report = fuzz(seeds, num, given.seed, read, cage)
        print(f"{noun}: {num} files of {len(seeds)} formats, seed {given.seed}, {time.monotonic() - started:.0f} s")
        for outcome, count in report.outcomes.most_common():
            print(f"  {count:6}  {outcome}")
        print(f"  slowest {report.slowest[0]:.1f} s ({report.slowest[1]}); largest worker {report.peak_mb:.0f} MB")
        print(f"  (limit: {limit_mb:.0f} MB beside the libraries)")
        for fault in report.faults[:40]:
            print(f"  ! {fault}")
        failed |= bool(report.faults)
        cage.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
