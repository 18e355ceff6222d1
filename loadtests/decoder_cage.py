"""What the cage of decoders costs: `python -m loadtests.decoder_cage RECORDING [--repetitions 15]`.

Decodes ten minutes of sound and pictures of 200 KB and 3 MB in this process and in the cage, in turns, so that a busy
machine disturbs both alike. Prints medians of the time, means of the processor time of all processes, which other
programs hardly disturb, and the memory of the cage's processes (PSS: shared pages count once).
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from loadtests.fuzz_files import encode
from loadtests.images.inputs import machine
from serve_app.media.cage import Cage
from serve_app.media.caged_audio import decode_caged, sound_cage
from serve_app.media.decode import decode_audio
from serve_app.models.caged_pictures import picture_cage, prepare_caged, read_caged
from serve_app.models.captions.picture import prepare_picture
from serve_app.models.image_file import MAX_PIXELS
from serve_app.models.images.preprocessing import Fit, read_image

_SECONDS = 600.0


def jpeg(side_px: int) -> bytes:
    """Return a picture with a photograph's detail."""
    rng = np.random.default_rng(side_px)
    coarse = Image.fromarray(rng.integers(0, 256, (side_px // 8, side_px // 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side_px, side_px), Image.Resampling.BICUBIC)).astype(np.float32)
    pixels = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


def in_turns(
    first: Callable[[], object], second: Callable[[], object], repetitions: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the median time and the mean processor time of each, in ms; who begins changes each time."""
    times: tuple[list[float], list[float]] = ([], [])
    cpu_ms = [0.0, 0.0]
    first(), second()
    for index in range(repetitions):
        for which in ((0, 1), (1, 0))[index % 2]:
            started, cpu_before_ms = time.perf_counter(), _cpu_ms()
            (first, second)[which]()
            times[which].append(1e3 * (time.perf_counter() - started))
            cpu_ms[which] += _cpu_ms() - cpu_before_ms
    return tuple((statistics.median(times[which]), cpu_ms[which] / repetitions) for which in (0, 1))


def _cpu_ms() -> float:
    """Return the processor time of this process and of all workers that live; a worker has one thread."""
    nanoseconds = 0
    for cage in (sound_cage(), picture_cage()):
        children = Path(f"/proc/{cage.pid}/task/{cage.pid}/children") if cage.pid else None
        for pid in children.read_text().split() if children else ():
            nanoseconds += int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    return 1e3 * time.process_time() + nanoseconds / 1e6


def pss_mb(cage: Cage) -> list[float]:
    """Return the proportional memory of the first process and of each worker."""
    assert cage.pid is not None
    first = psutil.Process(cage.pid)
    return [each.memory_full_info().pss / 1e6 for each in (first, *first.children())]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--repetitions", type=int, default=15)
    given = parser.parse_args(arguments)
    sound = decode_audio(str(given.recording)).samples
    sound = np.resize(sound, round(_SECONDS * 16_000))
    mp3, aac = encode(sound, "mp3", "libmp3lame", 44_100), encode(sound, "mp4", "aac", 44_100)
    small, large = jpeg(700), jpeg(2700)
    num = given.repetitions
    print(f"{machine()}; medians of {num} turns (pictures: {10 * num})")
    print(f"{'':52}{'in process':>12}{'caged':>12}{'more':>11}")
    for name, first, second, turns in (
        (
            "10 minutes of MP3",
            lambda: decode_audio(io.BytesIO(mp3)),
            lambda: decode_caged(mp3, max_duration_s=1e4),
            num,
        ),
        (
            "10 minutes of AAC",
            lambda: decode_audio(io.BytesIO(aac)),
            lambda: decode_caged(aac, max_duration_s=1e4),
            num,
        ),
        (
            f"picture of {len(small) / 1e3:.0f} KB, classified",
            lambda: read_image(small),
            lambda: _read(small),
            10 * num,
        ),
        (
            f"picture of {len(large) / 1e6:.1f} MB, classified",
            lambda: read_image(large),
            lambda: _read(large),
            10 * num,
        ),
        (
            f"picture of {len(large) / 1e6:.1f} MB, captioned",
            lambda: _prepare(large),
            lambda: _prepare_caged(large),
            num,
        ),
    ):
        (before, cpu_before), (after, cpu_after) = in_turns(first, second, turns)
        for what, plain, caged in (("time", before, after), ("processor time", cpu_before, cpu_after)):
            print(
                f"{name if what == 'time' else '':36}{what:16}{plain:9.2f} ms{caged:9.2f} ms"
                f"{caged - plain:+8.2f} ms{100 * (caged / plain - 1):+7.1f} %",
                flush=True,
            )
    for noun, cage in (("sound", sound_cage()), ("pictures", picture_cage())):
        parts = pss_mb(cage)
        print(f"PSS, {noun}: {sum(parts):.0f} MB: {' + '.join(f'{part:.0f}' for part in parts)}")
    return 0


def _read(data: bytes) -> np.ndarray:
    return read_caged(data, Fit.CROP, MAX_PIXELS)


def _prepare(data: bytes) -> object:
    return prepare_picture(data, max_pixels=MAX_PIXELS)


def _prepare_caged(data: bytes) -> object:
    return prepare_caged(data, max_pixels=MAX_PIXELS)


if __name__ == "__main__":
    sys.exit(main())
