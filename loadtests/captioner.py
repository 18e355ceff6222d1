"""Cold start, memory and speed of the deployment Captioner with its default: `python -m loadtests.captioner`."""

from __future__ import annotations

import asyncio
import io
import os
import statistics
import time
from pathlib import Path

import numpy as np
import psutil
import ray
from PIL import Image
from ray import serve

from serve_app.deployments.captioner import Captioner
from serve_app.models.captions.options import CaptionerOptions
from serve_app.models.options import ModelEnvironment

_SIZES = ((1024, 768), (4000, 3000), (8064, 6048))
_ROUNDS = 5


def _photograph(width: int, height: int) -> bytes:
    """Return a JPEG with structure and some noise, as cameras make them."""
    draw = np.random.default_rng(width)
    coarse = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


def _replica_rss_mb() -> tuple[float, float]:
    """Return the resident memory of the replica's process, now and at its peak."""
    for process in psutil.Process(os.getpid()).children(recursive=True):
        if "ServeReplica" in " ".join(process.cmdline()):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
            return process.memory_info().rss / 1e6, peak_kb / 1e3
    raise RuntimeError("no replica is running")


async def _measure(handle: serve.handle.DeploymentHandle) -> None:
    print("| picture | prepare, ms | caption, ms | RSS after, MB | peak RSS, MB |\n| --- | --- | --- | --- | --- |")
    for width, height in _SIZES:
        data = _photograph(width, height)
        prepare_ms, caption_ms = [], []
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            picture = await handle.prepare.remote(data)
            prepare_ms.append((time.perf_counter() - started) * 1e3)
            started = time.perf_counter()
            await handle.caption.remote(picture.jpeg, picture.features)
            caption_ms.append((time.perf_counter() - started) * 1e3)
        now, peak = _replica_rss_mb()
        medians = f"{statistics.median(prepare_ms):.0f} | {statistics.median(caption_ms):.0f}"
        print(f"| {width}×{height}, {len(data) / 1e6:.1f} MB | {medians} | {now:.0f} | {peak:.0f} |")


def main() -> None:
    ray.init(num_cpus=2, object_store_memory=100_000_000, include_dashboard=False)
    serve.start(proxy_location="Disabled")
    started = time.monotonic()
    environment = ModelEnvironment(models_dir=Path("/nonexistent"))
    handle = serve.run(Captioner.bind(CaptionerOptions(), environment, 50_000_000))
    ready_s = time.monotonic() - started
    print(f"replica ready after {ready_s:.1f} s; {_replica_rss_mb()[0]:.0f} MB resident before its first call\n")
    asyncio.run(_measure(handle))
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
