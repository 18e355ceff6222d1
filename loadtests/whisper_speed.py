"""Speech-to-text against faster-whisper called directly, on the same weights and threads.

    python -m loadtests.whisper_speed --model micro|tiny [--clips 100] [--minutes 30] [--replicas 1 --threads 2]

One run compares, in alternating rounds: `WhisperModel` called file after file, as the old package did;
`BatchedInferencePipeline`, called file after file; and `POST /transcribe` of a real graph over HTTP. The first two with
the library's defaults (beam of 5) and as we decode (greedy, times of words). "micro" is the whisper-micro that is
shipped, so that words can be counted; "tiny" has whisper-tiny's true shape and says one sentence for each window
(loadtests.scripted_whisper). The language is told to all, or left to all to detect with `--language auto`, which is the
contract's default. Then all clips once more, and what memory does meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.process_memory import process_groups
from loadtests.scripted_whisper import write_scripted_checkpoint
from loadtests.whisper_graph import ROOT, Layout, Run, timed, wait_for_replicas, write_config
from loadtests.whisper_speech import Recording, write_clips, write_long
from serve_app.client import Client
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.models.speech.whisper.checkpoint import open_checkpoint
from serve_app.models.speech.whisper.conversion import to_ctranslate2
from serve_app.scoring import count_word_errors
from training.whisper_micro.checkpoint import SHAPES

CLIP_S = 8.0
_SETTLED_SHARE = 0.2  # of the files, before which memory is not looked at
_MEMORY_EVERY = 5

Hear = Callable[[Sequence[Recording]], list[str]]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to transcribe files.

    Attributes:
        name: of it.
        hear: returns the texts of recordings, in their order.
        pids: processes that do the work beside this one.
    """

    name: str
    hear: Hear
    pids: tuple[int, ...] = ()


def library_ways(converted: Path, threads: int, language: str) -> list[Way]:
    """Return faster-whisper's own ways, on a model in its form."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(str(converted), device="cpu", compute_type="float32", cpu_threads=threads)
    pipeline = BatchedInferencePipeline(model)
    told: dict[str, Any] = {"language": None if language == "auto" else language}
    ours = {**told, "beam_size": 1, "word_timestamps": True}
    return [
        Way("WhisperModel, defaults", partial(_one_by_one, model.transcribe, told)),
        Way("WhisperModel, greedy + words", partial(_one_by_one, model.transcribe, ours)),
        Way("BatchedInferencePipeline, defaults", partial(_one_by_one, pipeline.transcribe, {**told, "batch_size": 8})),
        Way(
            "BatchedInferencePipeline, greedy + words",
            partial(_one_by_one, pipeline.transcribe, {**ours, "batch_size": 8}),
        ),
    ]


def _one_by_one(transcribe: Callable[..., Any], options: dict[str, Any], recordings: Sequence[Recording]) -> list[str]:
    heard = []
    for recording in recordings:
        segments, _ = transcribe(str(recording.path), **options)
        heard.append(" ".join(segment.text.strip() for segment in segments))
    return heard


def service_way(client: Client, pid: int, language: str, at_once: int, layout: Layout) -> Way:
    """Return our HTTP route, called by that many clients at once."""

    def hear(recordings: Sequence[Recording]) -> list[str]:
        with ThreadPoolExecutor(at_once) as pool:
            return [answer["text"] for answer in pool.map(partial(_upload, client, language), recordings)]

    return Way(f"POST /transcribe, {at_once} at once, {layout}", hear, (pid,))


def _upload(client: Client, language: str, recording: Recording) -> dict[str, Any]:
    return client.transcribe(recording.path, language=language, backend="faster-whisper", timeout_s=3600.0)


def alternate(ways: Sequence[Way], recordings: Sequence[Recording], rounds: int) -> dict[str, list[Run]]:
    """Return the runs of each way; each round goes through all of them."""
    runs: dict[str, list[Run]] = {way.name: [] for way in ways}
    for number in range(rounds):
        # every other round backwards: what changes slowly meets all alike
        for way in ways if number % 2 == 0 else ways[::-1]:
            run = timed(partial(way.hear, recordings), way.pids)
            runs[way.name].append(run)
            print(f"  {way.name}: {run.wall_s:.1f} s, CPU {run.cpu_s:.1f} s, others {run.others_cores:.2f}", flush=True)
    return runs


def table(runs: dict[str, list[Run]], recordings: Sequence[Recording], scored: bool) -> list[str]:
    """Return the comparison as lines of Markdown; ratios are medians over rounds of the last way against each."""
    audio_s = sum(recording.duration_s for recording in recordings)
    [*_, own] = runs.values()
    lines = [
        f"| {len(recordings)} files, {audio_s / 60:.1f} minutes | seconds (median) | x real time | CPU s "
        "| other work, cores | WER | speed of ours / this | CPU of this / ours |",
        "|" + " --- |" * 8,
    ]
    for name, rounds in runs.items():
        wall_s = statistics.median(run.wall_s for run in rounds)
        faster = statistics.median(theirs.wall_s / ours.wall_s for theirs, ours in zip(rounds, own, strict=True))
        cheaper = statistics.median(theirs.cpu_s / ours.cpu_s for theirs, ours in zip(rounds, own, strict=True))
        rate = f"{100 * word_error_rate(recordings, rounds[-1].answer):.1f} %" if scored else ""
        lines.append(
            f"| {name} | {wall_s:.1f} | {audio_s / wall_s:.1f} | {statistics.median(run.cpu_s for run in rounds):.1f} "
            f"| {statistics.median(run.others_cores for run in rounds):.2f} | {rate} | {faster:.2f} | {cheaper:.2f} |"
        )
    return lines


def word_error_rate(recordings: Iterable[Recording], texts: Iterable[str]) -> float:
    """Return word errors over words, of all files together."""
    counts = [count_word_errors(recording.text, text) for recording, text in zip(recordings, texts, strict=True)]
    return sum(errors for errors, _ in counts) / sum(words for _, words in counts)


def memory_slopes(samples: Sequence[tuple[int, dict[str, float]]]) -> dict[str, tuple[float, float, float]]:
    """Return for each kind of process its first and last resident memory (MB) and the slope (MB per file).

    Args:
        samples: number of files done, and memory by kind; kinds that are not in all of them are left out.
    """
    lasting = set.intersection(*(set(memory) for _, memory in samples))
    files = [number for number, _ in samples]
    slopes = {}
    for name in samples[0][1]:
        if name in lasting:
            values = [memory[name] for _, memory in samples]
            slopes[name] = (values[0], values[-1], float(np.polyfit(files, values, 1)[0]))
    return slopes


def watch_memory(client: Client, pid: int, recordings: Sequence[Recording], at_once: int) -> list[str]:
    """Return a table of what these files, once more, do to each process's memory."""
    samples = []
    with ThreadPoolExecutor(at_once) as pool:
        for number, _ in enumerate(pool.map(partial(_upload, client, "en"), recordings), start=1):
            if number >= _SETTLED_SHARE * len(recordings) and number % _MEMORY_EVERY == 0:
                samples.append((number, {group.name: group.rss_mb for group in process_groups(pid)}))
    slopes = memory_slopes(samples)
    rows = [f"| {name} | {first:.1f} | {last:.1f} | {slope:+.3f} |" for name, (first, last, slope) in slopes.items()]
    total = sum(slope for *_, slope in slopes.values())
    return [
        f"| process | RSS MB after {samples[0][0]} files | after {samples[-1][0]} | MB per file |",
        "| --- | --- | --- | --- |",
        *rows,
        f"| all | | | {total:+.3f} |",
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.whisper_speed", description=__doc__)
    parser.add_argument("--model", choices=("micro", "tiny"), default="micro")
    parser.add_argument("--language", choices=("en", "auto"), default="en")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=30.0, help="of the long file; 0: none")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=16, help="clips that clients send at once")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="of each replica; faster-whisper gets all together")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--no-memory", action="store_true")
    arguments = parser.parse_args()
    layout = Layout(arguments.replicas, arguments.threads, arguments.batch_size)
    with tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        model, scored = ROOT / "serve_app/models/speech/whisper_micro", True
        if arguments.model == "tiny":
            model, scored = folder / "whisper-tiny-scripted", False
            write_scripted_checkpoint(model, SHAPES["tiny"])
        clips = write_clips(folder / "clips", arguments.clips, CLIP_S, seed=1)
        long = [write_long(folder / "long.flac", arguments.minutes, seed=2)] if arguments.minutes else []
        cache = folder / "state" / "models"
        converted = to_ctranslate2(open_checkpoint(model, name=model.name, cache_dir=cache), cache)
        config = write_config(folder / "config.yaml", str(model), layout)
        with (
            LocalGraph(config, folder / "g", {"SERVE_APP_STATE_DIR": str(folder / "state")}) as graph,
            Client(graph.base_url, timeout_s=300.0) as client,
        ):
            graph.wait_until_ready(300.0)
            wait_for_replicas(graph.pid, layout.replicas)
            ways = library_ways(converted, layout.replicas * layout.threads, arguments.language)
            ways.append(service_way(client, graph.pid, arguments.language, arguments.at_once, layout))
            for way in ways:
                way.hear(clips[: 2 * arguments.at_once] if way.pids else clips[:1])
            print(f"{model.name}, language {arguments.language}, {time.strftime('%F %H:%M')}", flush=True)
            for recordings in filter(None, (clips, long)):
                lines = table(alternate(ways, recordings, arguments.rounds), recordings, scored)
                print("\n".join(lines), flush=True)
            if not arguments.no_memory:
                print("\n".join(watch_memory(client, graph.pid, clips, arguments.at_once)))


if __name__ == "__main__":
    main()
