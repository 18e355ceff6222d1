"""How far estimates are off: `python -m loadtests.estimates [--minutes 14] [--data ../shared/data]`.

A graph of its own makes video jobs of conversations of 10 s to 30 min, one after the other: first some to learn from,
then those that are counted. Of each, `estimated_remaining_s` in the first answer that shows the download as over, and
in the first one after speech was detected, is compared with the time that was left then. The conversations are made of
real voices, one to four in each, with speech in a third to nearly all of the time. Jobs that would not fit into
`--minutes` are left out, the longest first to be tried. The exit status is 1 where the goal is missed: within 30 % for
80 % of the jobs.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.images.figures import percentile
from loadtests.images.inputs import machine
from serve_app.client import Client
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import FileServer
from serve_app.messages import Stage
from tests.integration.recordings import read_audio, write_audio

ROOT = Path(__file__).resolve().parents[1]
RATE_HZ = 16_000
LEARNING_S = (20.0, 10.0, 60.0, 30.0, 15.0, 180.0, 90.0, 300.0)  # the first waits for models
MEASURED_S = (
    10.0,
    1800.0,
    15.0,
    240.0,
    20.0,
    40.0,
    600.0,
    12.0,
    90.0,
    30.0,
    420.0,
    60.0,
    18.0,
    150.0,
    300.0,
    25.0,
    75.0,
)
MEASURED_S += (50.0, 200.0, 120.0)
GOAL, GOAL_SHARE = 0.3, 0.8
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Measured:
    """One job.

    Attributes:
        length_s: of the file.
        speech_share: of its time that was laid with clips.
        num_voices: that take turns.
        total_s: from the submission to the end.
        estimates: after the download and after the detection of speech: (estimated, true) seconds that were left.
    """

    length_s: float
    speech_share: float
    num_voices: int
    total_s: float
    estimates: tuple[tuple[float | None, float], ...]

    def errors(self) -> list[float | None]:
        """Return the relative error of each estimate; None: nothing was estimated."""
        return [None if told is None else told / max(true, 1e-3) - 1 for told, true in self.estimates]


def conversation(clips: Sequence[np.ndarray], length_s: float, speech_share: float, rng: random.Random) -> np.ndarray:
    """Return (n,) samples in which the clips take turns, with pauses between them."""
    parts: list[np.ndarray] = []
    num, most = 0, round(length_s * RATE_HZ)
    while num < most:
        clip = rng.choice(clips)
        said = clip[: rng.randrange(2 * RATE_HZ, max(len(clip), 2 * RATE_HZ + 1))]
        pause = np.zeros(round(len(said) * (1 / speech_share - 1) * rng.uniform(0.5, 1.5)), np.float32)
        parts += [said, pause]
        num += len(said) + len(pause)
    return np.concatenate(parts)[:most].astype(np.float32)


def measure(client: Client, url: str, length_s: float, speech_share: float, num_voices: int) -> Measured:
    """Submit a job and follow it to its end."""
    started = time.monotonic()
    job_id = client.submit(url, language="en")["job_id"]
    told: list[tuple[float | None, float]] = []
    points = [Stage.DOWNLOADED, Stage.TRANSCRIBING]
    while True:
        job = client.get(job_id)
        now = time.monotonic()
        while points and job["progress"] >= points[0]:
            points.pop(0)
            told.append((job.get("estimated_remaining_s"), now))
        if job["status"] != "processing":
            break
        time.sleep(_POLL_S)
    if job["status"] != "completed":
        raise SystemExit(f"a job ended as {job['status']}: {job.get('error_message')}")
    estimates = tuple((estimate, now - at) for estimate, at in told)
    return Measured(length_s, speech_share, num_voices, now - started, estimates)


def row(job: Measured) -> str:
    """Return a job as a row of Markdown."""
    told = [f"{'-' if estimate is None else f'{estimate:.1f}'} / {true:.1f}" for estimate, true in job.estimates]
    errors = ["-" if error is None else f"{100 * error:+.0f} %" for error in job.errors()]
    cells = [f"{job.length_s:.0f}", f"{job.speech_share:.2f}", str(job.num_voices), f"{job.total_s:.1f}"]
    return "| " + " | ".join([*cells, *(cell for pair in zip(told, errors, strict=True) for cell in pair)]) + " |"


def summary(jobs: Sequence[Measured], point: int) -> tuple[float, str]:
    """Return the share of jobs within the goal, and the distribution of the errors in words."""
    errors = [abs(error) for job in jobs if (error := job.errors()[point]) is not None]
    within = sum(error <= GOAL for error in errors) / len(jobs)
    return within, (
        f"{100 * within:.0f} % of {len(jobs)} jobs within ±{100 * GOAL:.0f} %; |error| median "
        f"{100 * statistics.median(errors):.0f} %, 90th percentile {100 * percentile(errors, 90):.0f} %"
    )


def voices(folder: Path) -> list[np.ndarray]:
    """Return a clip of each voice; ends the program where there are none."""
    files = sorted((folder / "speakers").glob("*.flac"))[:40]
    if not files:
        print(f"skipped: no recordings in {folder / 'speakers'}")
        sys.exit(0)
    return [read_audio(path) for path in files]


def main() -> None:
    """Print each job and the distribution."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.estimates", description=__doc__)
    parser.add_argument("--minutes", type=float, default=14.0, help="for all of it")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "local.yaml")
    parser.add_argument("--longest", type=float, default=1800.0, help="seconds: no longer files")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    until = time.monotonic() + 60.0 * arguments.minutes
    clips = voices(arguments.data)
    rng = random.Random(arguments.seed)
    print(f"{time.strftime('%F %H:%M')}, {machine()}, {arguments.config.name}\n")
    head = "| seconds | speech | voices | took | after the download: told / left | error | after VAD | error |"
    print(f"{head}\n|{' --- |' * 8}", flush=True)
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as name:
        served = Path(name) / "served"
        served.mkdir()
        with (
            FileServer(served) as files,
            LocalGraph(arguments.config, Path(name) / "g", {"SERVE_APP_ALLOWED_HOSTS": "127.0.0.1"}) as graph,
            Client(graph.base_url, timeout_s=60.0) as client,
        ):
            graph.wait_until_ready(300.0)
            pace = 1.0  # seconds of work for a second of a file
            for number, length_s in enumerate((*LEARNING_S, *MEASURED_S)):
                length_s = min(length_s, arguments.longest)
                if time.monotonic() + pace * length_s > until:
                    continue
                speech_share, num_voices = rng.uniform(0.35, 0.95), rng.randint(1, 4)
                samples = conversation(rng.sample(clips, num_voices), length_s, speech_share, rng)
                path = write_audio(served / f"{number}.m4a", samples[None], RATE_HZ, "aac")
                job = measure(client, f"{files.base_url}/{path.name}", length_s, speech_share, num_voices)
                pace = job.total_s / length_s if length_s >= 60 else pace
                print(row(job), flush=True)
                if number >= len(LEARNING_S):
                    measured.append(job)
    if not measured:
        raise SystemExit("no time was left for a measured job")
    within, words = summary(measured, 0)
    print(f"\nafter the download: {words}\nafter the detection of speech: {summary(measured, 1)[1]}")
    sys.exit(0 if within >= GOAL_SHARE else 1)


if __name__ == "__main__":
    main()
