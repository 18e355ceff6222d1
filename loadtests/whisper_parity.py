"""Do the three Whisper backends agree? Held-out synthetic speech through each, float32, one checkpoint.

    python -m loadtests.whisper_parity [--num 120] [--model embedded:whisper-micro]

Sentences and voices are those that whisper-micro was not trained on (training.whisper_micro.utterances). Each backend
hears all of it in a process of its own, the language left for it to tell. The first table holds the word error rate of
each against what was said, the second between each two. "Goal" are the grammar's sentences: the other sets tell more
about the model than about the backends.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from loadtests.whisper_speech import compare, spoken_words
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.results import Transcript
from serve_app.scoring import count_word_errors, timed_words
from training.whisper_micro.augment import add_noise
from training.whisper_micro.grammar import Language
from training.whisper_micro.utterances import Kind, Utterance, Voices, held_out_utterances

BACKENDS = (BackendName.FASTER_WHISPER, BackendName.TRANSFORMERS, BackendName.OPENAI_WHISPER)
NOISE_DB = 10.0


@dataclass(frozen=True, slots=True)
class SpeechSet:
    """Utterances of one kind; `share` of the number asked for."""

    name: str
    language: Language
    kind: Kind = "grammar"
    voices: Voices = "unseen"
    noisy: bool = False
    share: float = 1.0
    is_goal: bool = False


SETS = (
    SpeechSet("English", "en", is_goal=True),
    SpeechSet("Korean", "ko", is_goal=True),
    SpeechSet("English, flite's unseen voice", "en", voices="unseen-flite", share=0.3),
    SpeechSet("English, free order", "en", "free", share=0.3),
    SpeechSet("Korean, free order", "ko", "free", share=0.3),
    SpeechSet("English, 2-8 in a window", "en", "windows", share=0.2),
    SpeechSet("Korean, 2-8 in a window", "ko", "windows", share=0.2),
    SpeechSet("English, noise at 10 dB", "en", noisy=True, share=0.3),
    SpeechSet("Korean, noise at 10 dB", "ko", noisy=True, share=0.3),
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What one backend made of everything.

    Attributes:
        model_version: that spoke.
        transcripts: of each utterance.
        load_s: to import the library and load the checkpoint, converted already.
        cpu_s: to hear everything.
        before_mb: resident memory of the process before.
        loaded_mb: once loaded.
        peak_mb: at most.
    """

    model_version: str
    transcripts: list[Transcript]
    load_s: float
    cpu_s: float
    before_mb: float
    loaded_mb: float
    peak_mb: float


def hear(backend: BackendName, model: str, options: WhisperOptions, samples: Sequence[np.ndarray]) -> Heard:
    """Load a backend and transcribe; in a process that has done nothing else."""
    from serve_app.models.speech.whisper.loading import load_whisper

    process = psutil.Process()
    before_mb, began = process.memory_info().rss / 1e6, time.perf_counter()
    loaded = load_whisper(backend, [model], options)
    load_s = time.perf_counter() - began
    loaded_mb, began_cpu_s = process.memory_info().rss / 1e6, time.process_time()
    transcripts = loaded.backend.transcribe([SpeechPiece(each) for each in samples])
    return Heard(
        loaded.backend.model_version,
        transcripts,
        load_s,
        time.process_time() - began_cpu_s,
        before_mb,
        loaded_mb,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    )


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do some work in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def utterances(speech: SpeechSet, num: int, seed: int) -> list[Utterance]:
    """Return a set's utterances."""
    rng = np.random.default_rng(seed)
    made = held_out_utterances(max(1, round(num * speech.share)), speech.language, seed, speech.voices, speech.kind)
    if not speech.noisy:
        return list(made)
    return [replace(each, samples=add_noise(each.samples, _white(rng, each.samples.size), NOISE_DB)) for each in made]


def text_of(transcript: Transcript) -> str:
    """Return all that was heard."""
    return " ".join(segment.text.strip() for segment in transcript.segments)


def accuracy_row(said: Sequence[Utterance], heard: Sequence[Transcript]) -> str:
    """Return word errors, languages and word starts as cells of a table."""
    found = []
    for utterance, transcript in zip(said, heard, strict=True):
        words = timed_words((word.word, word.start_s, None) for part in transcript.segments for word in part.words)
        found.append(compare(spoken_words(utterance.words), words))
    num_words = sum(each.num_words for each in found)
    errors_ms = 1000 * np.concatenate([each.start_errors_s for each in found])
    right = sum(each.language == utterance.language for each, utterance in zip(heard, said, strict=True))
    return (
        f"{num_words} | {100 * sum(each.num_errors for each in found) / num_words:.2f} | {100 * right / len(said):.1f} "
        f"| {_milliseconds(errors_ms)}"
    )


def _milliseconds(errors_ms: np.ndarray) -> str:
    if not errors_ms.size:
        return "- | - | -"
    return f"{np.median(errors_ms):.0f} | {errors_ms.mean():.0f} | {np.quantile(errors_ms, 0.9):.0f}"


def disagreement(first: Sequence[Transcript], second: Sequence[Transcript]) -> tuple[float, int]:
    """Return the word error rate between two backends' texts, and how many texts are not the same."""
    pairs = [(text_of(a), text_of(b)) for a, b in zip(first, second, strict=True)]
    counts = [count_word_errors(a, b) for a, b in pairs]
    num_words = sum(words for _, words in counts)
    return sum(errors for errors, _ in counts) / max(1, num_words), sum(a != b for a, b in pairs)


def report(sets: Sequence[SpeechSet], said: Sequence[list[Utterance]], heard: Sequence[Heard]) -> list[str]:
    """Return all tables as lines of Markdown."""
    edges = np.cumsum([0, *(len(each) for each in said)])
    rows = [slice(first, last) for first, last in pairwise(edges)]
    lines = [
        "| set | backend | words | WER % | language right % | word starts off by, ms: median | mean | p90 |",
        "|" + " --- |" * 8,
    ]
    for speech, own, part in zip(sets, said, rows, strict=True):
        for each in heard:
            cells = accuracy_row(own, each.transcripts[part])
            lines.append(f"| {speech.name} ({len(own)}) | {each.model_version} | {cells} |")
    pairs = list(combinations(heard, 2))
    titles = [f"{_library(one)}, {_library(other)}" for one, other in pairs]
    lines += ["", f"| WER % (texts that differ) between | {' | '.join(titles)} |", "|" + " --- |" * (1 + len(pairs))]
    goal = [index for index, speech in enumerate(sets) if speech.is_goal]
    groups = [("the goal's sets", goal), *((speech.name, [index]) for index, speech in enumerate(sets))]
    for name, members in groups:
        cells = []
        for pair in pairs:
            texts = [[text for index in members for text in each.transcripts[rows[index]]] for each in pair]
            rate, num_differ = disagreement(*texts)
            cells.append(f"{100 * rate:.2f} ({num_differ} of {len(texts[0])})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    audio_s = sum(each.samples.size for own in said for each in own) / 16_000
    lines += [
        "",
        f"{edges[-1]} utterances, {audio_s:.0f} s of audio, one thread, pieces in batches of 8:",
        "",
        "| backend | loaded in, s | CPU ms per utterance | MB: before | loaded | peak |",
        "|" + " --- |" * 6,
    ]
    for each in heard:
        lines.append(
            f"| {each.model_version} | {each.load_s:.1f} | {1000 * each.cpu_s / edges[-1]:.0f} "
            f"| {each.before_mb:.0f} | {each.loaded_mb:.0f} | {each.peak_mb:.0f} |"
        )
    return lines


def _white(rng: np.random.Generator, num: int) -> np.ndarray:
    return rng.standard_normal(num).astype(np.float32)


def _library(heard: Heard) -> str:
    return heard.model_version.split(":")[0]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.whisper_parity", description=__doc__)
    parser.add_argument("--num", type=int, default=120, help="utterances of each of the goal's two languages")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model", default="embedded:whisper-micro")
    arguments = parser.parse_args()
    said = [utterances(speech, arguments.num, arguments.seed) for speech in SETS]
    samples = [each.samples for own in said for each in own]
    with tempfile.TemporaryDirectory() as cache:
        options = WhisperOptions(cache_dir=Path(cache), device="cpu", compute_type="float32", num_threads=1)
        heard = []
        for backend in BACKENDS:
            # a process for each: memory and load are its own; converting, which needs another library, is done before
            alone(hear, backend, arguments.model, options, samples[:1])
            heard.append(alone(hear, backend, arguments.model, options, samples))
            print(f"{backend}: {heard[-1].cpu_s:.1f} CPU s", flush=True)
    print(f"\n{time.strftime('%F %H:%M')}, seed {arguments.seed}\n\n" + "\n".join(report(SETS, said, heard)))


if __name__ == "__main__":
    main()
