"""Where the time of a long file goes: `python -m loadtests.stage_seconds [--minutes 10] [--speech FOLDER]`.

Submits one job to a graph of its own and prints seconds by stage, the end-to-end wall time against the slowest single
branch (diarization or transcription, which run side by side), and peak memory by process. The file is made of the real
English clips of ../shared/data where they are, else of the demo dialogue, repeated.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np

from loadtests.process_memory import process_groups
from serve_app.client import Client
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import FileServer
from serve_app.commands.demo.videos import demo_videos
from tests.integration.recordings import read_audio, write_audio

ROOT = Path(__file__).resolve().parents[1]
RATE_HZ = 16000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--speech", type=Path, default=ROOT.parent / "shared" / "data" / "speech")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "local.yaml")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as folder:
        served = Path(folder) / "served"
        served.mkdir()
        write_audio(served / "long.m4a", _speech(arguments.speech, arguments.minutes, served)[None], RATE_HZ, "aac")
        with (
            FileServer(served) as files,
            LocalGraph(arguments.config, Path(folder) / "g", {"SERVE_APP_ALLOWED_HOSTS": "127.0.0.1"}) as graph,
            Client(graph.base_url, timeout_s=60.0) as client,
        ):
            graph.wait_until_ready(300.0)
            job_id = str(uuid.uuid4())
            started = time.monotonic()
            client.submit(f"{files.base_url}/long.m4a", job_id=job_id, language="en")
            job = client.wait(job_id, timeout_s=3600.0, poll_s=0.25)
            wall_s = time.monotonic() - started
            groups = process_groups(graph.pid)
    if job["status"] != "completed":
        raise SystemExit(f"the job ended as {job['status']}: {job.get('error_message')}")
    metadata = job["result"]["metadata"]
    stages = metadata["stage_seconds"]
    slowest = max(stages["diarize"], stages["transcribe"])
    print(
        f"{job['result']['duration']:.0f} s of audio, {metadata['unique_speakers']} speakers, {time.strftime('%F')}\n"
    )
    print("| stage | seconds | × realtime |\n| --- | --- | --- |")
    for stage, seconds in stages.items():
        print(f"| {stage} | {seconds:.2f} | {job['result']['duration'] / max(seconds, 1e-3):.0f} |")
    print(f"| end to end | {wall_s:.2f} | {job['result']['duration'] / wall_s:.1f} |")
    print(f"\nend to end / slowest branch: {wall_s / slowest:.2f}\n")
    print("| process | peak RSS MB |\n| --- | --- |")
    for group in groups:
        print(f"| {group.name} | {group.peak_mb:.0f} |")


def _speech(folder: Path, minutes: float, scratch: Path) -> np.ndarray:
    """Return (n,) samples of speech with pauses, as long as asked for."""
    clips = [*sorted(folder.glob("ljspeech*.flac")), *sorted(folder.glob("azure-customen*.flac"))]
    files = clips or [video.path for video in demo_videos(scratch)[:1]]
    pause = np.zeros(int(0.7 * RATE_HZ), np.float32)
    once = np.concatenate([part for path in files for part in (read_audio(path), pause)])
    return np.resize(once, int(minutes * 60 * RATE_HZ)).astype(np.float32)


if __name__ == "__main__":
    main()
