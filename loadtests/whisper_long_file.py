"""One long synthetic file through a real graph: what is lost against short clips, at the cuts, in times and in memory.

    python -m loadtests.whisper_long_file [--minutes 120] [--replicas 1]
    python -m loadtests.whisper_long_file --same-text [--minutes 20]       # 1, 2 and 4 replicas: the same text?

The file holds held-out English utterances of training.whisper_micro by many voices, with pauses of 0.3 to 3 s. It is
uploaded to `POST /transcribe`. The same utterances, cut out of it where they were laid, are heard one by one by the
same backend in this process, and so are the file's pieces: the first comparison has in it what whisper-micro makes of
several utterances in one window, the second only what the service does.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.process_memory import process_groups
from loadtests.whisper_graph import Layout, Run, timed, wait_for_replicas, write_config
from loadtests.whisper_speech import Agreement, Recording, compare, spoken_words, write_long
from serve_app.client import Client
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.media.decode import decode_audio
from serve_app.models.speech.backends import MAX_PIECE_S, BackendName
from serve_app.models.speech.pieces import recognizer_pieces
from serve_app.models.speech.voice_activity import detect_speech
from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.batched_backend import BatchedWhisper
from serve_app.models.speech.whisper.loading import load_whisper
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.results import SpeechRegion, Transcript
from serve_app.scoring import TimedWord, timed_words

MODEL = "embedded:whisper-micro"
NEAR_CUT_S = 1.0
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class NearCuts:
    """Errors near the cuts and elsewhere; shares of the words said there."""

    num_cuts: int
    num_words: int
    num_lost: int
    num_added: int
    error_rate: float
    error_rate_elsewhere: float


def near_cuts(words: Sequence[TimedWord], found: Agreement, cuts_s: Sequence[float]) -> NearCuts:
    """Count the errors within a second of a cut: there a word could be lost, or heard on both sides."""
    starts_s = np.array([word.start_s for word in words])
    near_words = _near(starts_s, cuts_s)
    near_errors = _near(found.wrong_at_s, cuts_s)
    num_near, num_far = int(near_words.sum()), int((~near_words).sum())
    return NearCuts(
        len(cuts_s),
        num_near,
        int((near_errors & ~found.is_insertion).sum()),
        int((near_errors & found.is_insertion).sum()),
        int(near_errors.sum()) / max(1, num_near),
        int((~near_errors).sum()) / max(1, num_far),
    )


def _near(times_s: np.ndarray, cuts_s: Sequence[float]) -> np.ndarray:
    if not len(cuts_s) or not len(times_s):
        return np.zeros(len(times_s), dtype=bool)
    return np.abs(times_s[:, None] - np.asarray(cuts_s)[None]).min(1) <= NEAR_CUT_S


def words_of(answer: dict[str, Any]) -> list[TimedWord]:
    """Return the words of an answer of `POST /transcribe`."""
    return timed_words((word["word"], word["start"], None) for part in answer["segments"] for word in part["words"])


def hear(backend: BatchedWhisper, samples: np.ndarray, regions: Sequence[SpeechRegion]) -> list[Transcript]:
    """Return the transcripts of parts of a file, heard in this process."""
    heard: list[Transcript] = []
    for first in range(0, len(regions), _AT_ONCE):
        heard += backend.transcribe(
            [
                SpeechPiece(samples[round(each.start_s * 16_000) : round(each.end_s * 16_000)], each.start_s, "en")
                for each in regions[first : first + _AT_ONCE]
            ]
        )
    return heard


def timed_text(transcripts: Sequence[Transcript]) -> list[TimedWord]:
    """Return the words of all transcripts."""
    return timed_words(
        (word.word, word.start_s, None) for each in transcripts for part in each.segments for word in part.words
    )


def serve(
    folder: Path, recording: Recording, layout: Layout, max_pause_s: float
) -> tuple[dict[str, Any], Run, list[str]]:
    """Upload the recording to a graph of its own; return the answer, what it took, and memory as lines of Markdown."""
    config = write_config(folder / f"config-{layout.replicas}.yaml", MODEL, layout, max_pause_s=max_pause_s)
    with (
        LocalGraph(config, folder / f"g{layout.replicas}") as graph,
        Client(graph.base_url, timeout_s=300.0) as client,
    ):
        graph.wait_until_ready(300.0)
        wait_for_replicas(graph.pid, layout.replicas)
        before = {group.name: group for group in process_groups(graph.pid)}
        upload = partial(client.transcribe, recording.path, language="en", backend="faster-whisper", timeout_s=7200.0)
        run = timed(upload, [graph.pid])
        rows = [
            f"| {group.name} | {before[group.name].rss_mb:.0f} | {group.peak_mb:.0f} | {group.pss_mb:.0f} |"
            for group in process_groups(graph.pid)
            if group.name in before
        ]
    return run.answer, run, ["| process | RSS MB before | peak RSS | PSS after |", "| --- | --- | --- | --- |", *rows]


def report(recording: Recording, answer: dict[str, Any], run: Run, cache: Path, max_pause_s: float) -> list[str]:
    """Return the figures of one long file as lines of Markdown."""
    options = WhisperOptions(cache_dir=cache, device="cpu", compute_type="float32")
    backend = load_whisper(BackendName.FASTER_WHISPER, [MODEL], options).backend
    samples = decode_audio(str(recording.path)).samples
    pieces = recognizer_pieces(detect_speech(samples), recording.duration_s, MAX_PIECE_S, max_pause_s=max_pause_s)
    alone = [SpeechRegion(start_s, end_s) for start_s, end_s in recording.utterances]
    said, served = spoken_words(recording.words), words_of(answer)
    in_file = compare(said, served)
    as_clips = compare(said, timed_text(hear(backend, samples, alone)))
    piecewise = timed_text(hear(backend, samples, pieces))
    # to the millisecond, as the answer gives times
    same = [(word.word, round(word.start_s, 3)) for word in piecewise] == [(w.word, w.start_s) for w in served]
    cuts = near_cuts(said, in_file, [piece.start_s for piece in pieces[1:]])
    errors_ms = 1000 * in_file.start_errors_s
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in answer["stage_seconds"].items())
    return [
        f"{recording.duration_s / 60:.1f} minutes, {len(recording.utterances)} utterances, {len(said)} words, "
        f"{len(pieces)} pieces, {answer['model_version']}, {time.strftime('%F %H:%M')}",
        "",
        f"* {run.wall_s:.1f} s ({recording.duration_s / run.wall_s:.0f} x real time), CPU {run.cpu_s:.1f} s, other "
        f"work {run.others_cores:.2f} cores; seconds: {stages}",
        f"* WER of the file {100 * in_file.word_error_rate:.2f} %, of the same utterances one by one "
        f"{100 * as_clips.word_error_rate:.2f} %",
        f"* the file's pieces, heard in this process, give the same words and times: {same}",
        f"* within {NEAR_CUT_S:g} s of {cuts.num_cuts} cuts: {cuts.num_words} words, {cuts.num_lost} lost or wrong, "
        f"{cuts.num_added} added: {100 * cuts.error_rate:.2f} %; elsewhere {100 * cuts.error_rate_elsewhere:.2f} %",
        f"* word starts off by {np.median(errors_ms):.0f} ms at the median, {np.quantile(errors_ms, 0.9):.0f} at p90",
    ]


def digest(answer: dict[str, Any]) -> str:
    """Return a short mark of all words and times."""
    return hashlib.sha256(repr(answer["segments"]).encode()).hexdigest()[:12]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.whisper_long_file", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each replica")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds of silence that end a piece")
    parser.add_argument("--same-text", action="store_true", help="compare the texts of 1, 2 and 4 replicas")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        recording = write_long(folder / "long.flac", arguments.minutes, seed=3)
        print(f"{recording.path.stat().st_size / 1e6:.0f} MB of FLAC", flush=True)
        if arguments.same_text:
            print("| replicas | seconds | other work, cores | words | digest of words and times |\n|" + " --- |" * 5)
            for replicas in (1, 2, 4):
                answer, run, _ = serve(folder, recording, Layout(replicas, arguments.threads), arguments.pause)
                mark, num_words = digest(answer), len(words_of(answer))
                print(f"| {replicas} | {run.wall_s:.1f} | {run.others_cores:.2f} | {num_words} | {mark} |", flush=True)
            return
        answer, run, memory = serve(folder, recording, Layout(arguments.replicas, arguments.threads), arguments.pause)
        print("\n".join([*report(recording, answer, run, folder / "cache", arguments.pause), "", *memory]))


if __name__ == "__main__":
    main()
