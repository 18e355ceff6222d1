"""Drum transcription against librosa's onset detection alone: speed, start, memory.

    python -m loadtests.drum_speed [--minutes 5] [--at-once 8] [--rounds 3] [--hours 1 10] [--no-graph]

One run compares, in alternating rounds and on the same files: `librosa.onset.onset_detect` on samples that are already
loaded, and with loading them (the floor: less than that nobody can do, and it tells no drums apart); our transcription
in this process; and `POST /transcribe-drums` of a real graph, with one file and with several requests at once. Then how
long the first request waits, what the replica's memory is, and the peak memory of transcribing hours in one file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
import wave
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import httpx
import librosa
import numpy as np
import soundfile

from loadtests.drum_loops import LOOPS
from loadtests.process_memory import ProcessGroup, process_groups
from loadtests.whisper_graph import ROOT, Run, timed
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.models.drums.bands import SAMPLE_RATE_HZ
from serve_app.models.drums.checkpoint import load_checkpoint
from serve_app.models.drums.transcription import transcribe_drums

MODEL = ROOT / "serve_app/models/drums/drum_net/best_model.pt"
FLOOR = "librosa: load, onsets"
_REPLICA = "DrumTranscriber"
_TIMEOUT_S = 1800.0
_BLOCK_S = 60

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Way:
    """A way to get through audio.

    Attributes:
        name: of it.
        work: does it.
        audio_s: how much audio that is.
        pids: processes that do it beside this one.
    """

    name: str
    work: Callable[[], Any]
    audio_s: float
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LongRun:
    """One long file, in a process of its own.

    Attributes:
        hours: its length.
        wall_s: that it took.
        num_hits: that were found.
        peak_mb: peak of the process's resident memory; `loaded_mb` of it was there before the file.
        loaded_mb: resident memory with the model loaded and warm.
    """

    hours: float
    wall_s: float
    num_hits: int
    peak_mb: float
    loaded_mb: float


def bar(seed: int = 0) -> np.ndarray:
    """Return drums to repeat, (n,) int16 at 44.1 kHz: the Amen loop where it is, else two seconds of a made-up beat."""
    loop = LOOPS / "loop_amen_full.flac"
    if loop.exists():
        samples, rate_hz = soundfile.read(loop, dtype="float32", always_2d=True)
        if rate_hz == SAMPLE_RATE_HZ:
            return (samples.mean(1) * 32767).astype(np.int16)
    rng = np.random.default_rng(seed)
    beat = np.zeros(2 * SAMPLE_RATE_HZ, dtype=np.float32)
    times_s = np.arange(SAMPLE_RATE_HZ // 4) / SAMPLE_RATE_HZ
    noise = rng.normal(size=len(times_s))
    strokes = {
        0.6: (np.sin(2 * np.pi * 60 * times_s) * np.exp(-times_s / 0.06), (0.0, 1.0)),
        0.4: ((noise + np.sin(2 * np.pi * 190 * times_s)) / 2 * np.exp(-times_s / 0.05), (0.5, 1.5)),
        0.1: (np.diff(noise, prepend=0.0) * np.exp(-times_s / 0.02), tuple(0.25 * step for step in range(8))),
    }
    for gain, (stroke, at_s) in strokes.items():
        for start_s in at_s:
            start = round(start_s * SAMPLE_RATE_HZ)
            end = min(start + len(stroke), len(beat))
            beat[start:end] += gain * stroke[: end - start]
    return (np.clip(beat, -1.0, 1.0) * 32767).astype(np.int16)


def write_music(path: Path, duration_s: float, seed: int = 0) -> Path:
    """Write a 16-bit mono WAV of drums; at any length little of it is in memory at once."""
    once = bar(seed)
    num_left = round(duration_s * SAMPLE_RATE_HZ)
    block = np.tile(once, max(1, _BLOCK_S * SAMPLE_RATE_HZ // len(once)))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, num_left, "NONE", ""))
        while num_left > 0:
            part = block[:num_left]
            file.writeframesraw(part.tobytes())
            num_left -= len(part)
    return path


def library_ways(path: Path, audio_s: float) -> list[Way]:
    """Return librosa's onset detection, the file's samples at hand and not."""
    samples, _ = librosa.load(path, sr=None)
    return [
        Way("librosa: onsets", partial(librosa.onset.onset_detect, y=samples, sr=SAMPLE_RATE_HZ), audio_s),
        Way(FLOOR, partial(_load_and_detect, path), audio_s),
    ]


def _load_and_detect(path: Path) -> np.ndarray:
    samples, rate_hz = librosa.load(path, sr=None)
    return librosa.onset.onset_detect(y=samples, sr=rate_hz)


def service_way(base_url: str, pid: int, path: Path, audio_s: float, at_once: int) -> Way:
    """Return our HTTP route, called by that many clients at once, each with one file."""

    def work() -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda _: upload(base_url, path), range(at_once)))

    return Way(f"POST /transcribe-drums, {at_once} at once", work, at_once * audio_s, (pid,))


def upload(base_url: str, path: Path) -> dict[str, Any]:
    """Return the answer to a file; RuntimeError where it is no transcript."""
    with path.open("rb") as file:
        answer = httpx.post(
            f"{base_url}/transcribe-drums",
            files={"file": (path.name, file, "audio/wav")},
            timeout=_TIMEOUT_S,
            trust_env=False,
        )
    if answer.status_code != 200:
        raise RuntimeError(f"{answer.status_code}: {answer.text[:500]}")
    return answer.json()


def alternate(ways: Sequence[Way], rounds: int) -> dict[str, list[Run]]:
    """Return the runs of each way; each round goes through all of them, every other round backwards."""
    runs: dict[str, list[Run]] = {way.name: [] for way in ways}
    for number in range(rounds):
        for way in ways if number % 2 == 0 else ways[::-1]:
            run = timed(way.work, way.pids)
            runs[way.name].append(run)
            print(f"  {way.name}: {run.wall_s:.2f} s, CPU {run.cpu_s:.2f} s, others {run.others_cores:.2f}", flush=True)
    return runs


def table(ways: Sequence[Way], runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return the comparison as lines of Markdown; ratios to the floor are medians over rounds."""
    audio_s = {way.name: way.audio_s for way in ways}
    lines = [
        "| way | audio s | wall s (median) | x real time | CPU s per audio minute | other work, cores "
        "| speed / floor's | CPU / floor's |",
        "|" + " --- |" * 8,
    ]
    for name, own in runs.items():
        wall_s = statistics.median(run.wall_s for run in own)
        cpu_s = statistics.median(run.cpu_s for run in own)
        more = audio_s[name] / audio_s[FLOOR]
        pairs = list(zip(runs[FLOOR], own, strict=True))
        faster = statistics.median(more * floor.wall_s / run.wall_s for floor, run in pairs)
        dearer = statistics.median(run.cpu_s / (more * floor.cpu_s) for floor, run in pairs)
        others = statistics.median(run.others_cores for run in own)
        lines.append(
            f"| {name} | {audio_s[name]:.0f} | {wall_s:.2f} | {audio_s[name] / wall_s:.0f} "
            f"| {60 * cpu_s / audio_s[name]:.2f} | {others:.2f} | {faster:.2f} | {dearer:.2f} |"
        )
    return lines


def memory_table(before: Sequence[ProcessGroup], after: Sequence[ProcessGroup]) -> list[str]:
    """Return the replica's memory and the graph's, before the first request and after all, as lines of Markdown."""
    lines = ["| process | PSS MB at start | PSS MB after | peak RSS MB |", "| --- | --- | --- | --- |"]
    for name in (_REPLICA, "Ingress"):
        early, late = (next((group for group in groups if group.name == name), None) for groups in (before, after))
        lines.append(
            f"| {name} | {'not running' if early is None else f'{early.pss_mb:.0f}'} "
            f"| {'gone' if late is None else f'{late.pss_mb:.0f}'} | {'' if late is None else f'{late.peak_mb:.0f}'} |"
        )
    sums = [sum(group.pss_mb for group in groups) for groups in (before, after)]
    return [*lines, f"| all of the graph | {sums[0]:.0f} | {sums[1]:.0f} | |"]


def transcribe_long(path: Path, hours: float, model: Path) -> LongRun:
    """Transcribe a file in a new process, for its peak of memory to be its own."""
    return in_new_process(_long_run, path, hours, model)


def in_new_process(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return what a function returns in a process of its own."""
    # spawned, not forked: what this process has in memory would count
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def _long_run(path: Path, hours: float, model: Path) -> LongRun:
    loaded = load_checkpoint(model)
    with tempfile.TemporaryDirectory(prefix="sa-") as folder:
        transcribe_drums(write_music(Path(folder) / "warm.wav", 120.0), loaded)
    loaded_mb = memory_mb("VmHWM")
    started = time.perf_counter()
    heard = transcribe_drums(path, loaded)
    wall_s = time.perf_counter() - started
    return LongRun(hours, wall_s, len(heard.transcript.hits), memory_mb("VmHWM"), loaded_mb)


def memory_mb(field: str) -> float:
    """Return a figure of this process's memory: `VmRSS` now, `VmHWM` at its peak.

    Not by `getrusage`, whose peak is that of the parent where it had more.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1e3 for line in status if line.startswith(f"{field}:"))


def load_seconds(model: Path) -> float:
    """Return how long a new process takes to import, load the weights and hear two seconds."""
    started = time.perf_counter()
    in_new_process(_first_words, model)
    return time.perf_counter() - started


def _first_words(model: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="sa-") as folder:
        transcribe_drums(write_music(Path(folder) / "short.wav", 2.0), load_checkpoint(model))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.drum_speed", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help="for what runs in this process")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "local.yaml")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each file")
    parser.add_argument("--at-once", type=int, default=8, help="requests at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hours", type=float, nargs="*", default=[1.0, 10.0], help="of long files; none: no such test")
    parser.add_argument("--no-graph", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        audio_s = 60.0 * arguments.minutes
        path = write_music(folder / "drums.wav", audio_s)
        ours = partial(transcribe_drums, path, load_checkpoint(arguments.model))
        ways = [*library_ways(path, audio_s), Way("ours, in process", ours, audio_s)]
        print(f"{time.strftime('%F %H:%M')}, {arguments.minutes:g} minutes a file", flush=True)
        for way in ways:
            way.work()
        if arguments.no_graph:
            print("\n".join(table(ways, alternate(ways, arguments.rounds))), flush=True)
        else:
            with LocalGraph(arguments.config, folder / "g") as graph:
                print(
                    "\n".join(_with_graph(graph, ways, path, audio_s, arguments.at_once, arguments.rounds)), flush=True
                )
        print(f"\nnew process, to its first transcript: {load_seconds(arguments.model):.1f} s")
        if arguments.hours:
            print(
                "\n| hours | wall s | x real time | hits | RSS MB before | peak RSS MB |\n|" + " --- |" * 6, flush=True
            )
        for hours in arguments.hours:
            long = write_music(folder / "long.wav", 3600.0 * hours)
            run = transcribe_long(long, hours, arguments.model)
            long.unlink()
            print(
                f"| {hours:g} | {run.wall_s:.0f} | {3600 * hours / run.wall_s:.0f} | {run.num_hits} "
                f"| {run.loaded_mb:.0f} | {run.peak_mb:.0f} |",
                flush=True,
            )


def _with_graph(
    graph: LocalGraph, ways: Sequence[Way], path: Path, audio_s: float, at_once: int, rounds: int
) -> list[str]:
    ready_s = graph.wait_until_ready(300.0)
    before = process_groups(graph.pid)
    short = write_music(path.with_name("short.wav"), 2.0)
    first, second = (timed(partial(upload, graph.base_url, short)) for _ in range(2))
    served = [service_way(graph.base_url, graph.pid, path, audio_s, number) for number in dict.fromkeys((1, at_once))]
    for way in served:
        way.work()
    every = [*ways, *served]
    lines = table(every, alternate(every, rounds))
    return [
        *lines,
        "",
        f"the graph was ready after {ready_s:.1f} s; first request (2 s of audio) {first.wall_s:.2f} s, second "
        f"{second.wall_s:.2f} s",
        "",
        *memory_table(before, process_groups(graph.pid)),
    ]


if __name__ == "__main__":
    main()
