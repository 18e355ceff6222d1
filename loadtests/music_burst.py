"""Music under load: `python -m loadtests.music_burst [--pieces 50] [--seconds 30] [--config …]`.

Starts the graph, makes one piece (the deployments start with it), then one alone, then submits many at once, each by a
visitor of its own. Prints the times, the waits, the real-time factor of each stage, and the memory.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from loadtests.process_memory import process_groups
from serve_app.commands.demo.local_graph import LocalGraph

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 1800.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "local.yaml")
    parser.add_argument("--pieces", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as folder,
        LocalGraph(arguments.config, Path(folder)) as graph,
    ):
        graph.wait_until_ready(300.0)
        first, alone, *pictures = [_picture(number) for number in range(2 + arguments.pieces)]
        first = _make(graph.base_url, first, arguments.seconds)
        alone = _make(graph.base_url, alone, arguments.seconds)
        started = time.monotonic()
        with ThreadPoolExecutor(arguments.pieces) as pool:
            pieces = list(pool.map(lambda picture: _make(graph.base_url, picture, arguments.seconds), pictures))
        burst_s = time.monotonic() - started
        groups = process_groups(graph.pid)
    print(f"first piece, with the start of the deployments: {first['wall_s']:.1f} s; the next: {alone['wall_s']:.1f} s")
    submits = sorted(piece["submit_s"] for piece in pieces)
    walls = sorted(piece["wall_s"] for piece in pieces)
    done = sum(piece["status"] == "completed" for piece in pieces)
    print(
        f"{len(pieces)} at once: {done} completed in {burst_s:.1f} s, {arguments.seconds * done / burst_s:.1f} times "
        f"real time; accepted after {statistics.median(submits):.2f} s (median), {submits[-1]:.2f} s (longest); "
        f"ready after {statistics.median(walls):.1f} s (median), {walls[-1]:.1f} s (longest)"
    )
    print("\n| stage | s, alone | s, in the burst (median) | times real time, alone |\n| --- | --- | --- | --- |")
    for stage, seconds in alone["stages"].items():
        busy = statistics.median(piece["stages"][stage] for piece in pieces if piece["stages"])
        print(f"| {stage} | {seconds:.2f} | {busy:.2f} | {arguments.seconds / max(seconds, 1e-3):.0f} |")
    print("\n| process | RSS MB | PSS MB | peak RSS MB |\n| --- | --- | --- | --- |")
    for group in groups:
        if group.name in ("Captioner", "MusicGenerator", "JobRunner", "Ingress"):
            print(f"| {group.name} | {group.rss_mb:.0f} | {group.pss_mb:.0f} | {group.peak_mb:.0f} |")


def _make(base_url: str, picture: bytes, seconds: float) -> dict[str, Any]:
    """Submit a picture as a visitor of its own and wait for the piece."""
    with httpx.Client(base_url=base_url, timeout=120.0) as client:
        started = time.monotonic()
        answer = client.post(
            "/generate-music", files={"file": ("a.jpg", picture)}, data={"duration": str(seconds)}
        ).raise_for_status()
        submit_s = time.monotonic() - started
        while True:
            job = client.get(f"/jobs/{answer.json()['job_id']}").raise_for_status().json()
            if job["status"] != "processing":
                break
            if time.monotonic() - started > TIMEOUT_S:
                raise TimeoutError(job)
            time.sleep(1.0)  # as a client would; more often, asking costs more than making
        stages = job.get("result", {}).get("stage_seconds", {})
        return {"submit_s": submit_s, "wall_s": time.monotonic() - started, "status": job["status"], "stages": stages}


def _picture(number: int) -> bytes:
    """Return a picture of 1024 × 768 pixels: a gradient with noise."""
    random = np.random.default_rng(number)
    x = np.linspace(0, 1, 1024)[None, :, None]
    y = np.linspace(0, 1, 768)[:, None, None]
    ends = random.uniform(0, 255, (3, 1, 1, 3))
    pixels = ends[0] * (1 - x) + ends[1] * x * (1 - y) + ends[2] * y + random.normal(0, 12, (768, 1024, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG")
    return file.getvalue()


if __name__ == "__main__":
    main()
