"""How long it takes to give the words of a long file their speakers, against the naive loop over words × turns.

    python -m loadtests.word_attribution [--hours 4] [--naive-words 200]

Every answer of the naive loop is compared with ours. The loop runs on the first `--naive-words` words only and is
extrapolated (it is linear in the words); 40 000 words of it would take minutes.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from serve_app.analysis.attribution import assign_speakers, fit_words, split_by_speaker
from serve_app.results import Segment, SpeakerTurn, Word

_WORDS_PER_HOUR, _TURNS_PER_HOUR, _NUM_SPEAKERS, _WORDS_PER_SEGMENT = 10_000, 5_000, 10, 12


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--naive-words", type=int, default=200)
    args = parser.parse_args()
    starts, ends, turns = _meeting(args.hours)

    began = time.perf_counter()
    speakers = assign_speakers(starts, ends, turns)
    assigned_s = time.perf_counter() - began

    segments = _segments(starts, ends)
    began = time.perf_counter()
    fitted = [fit_words(segment) for segment in segments]
    fitted_s = time.perf_counter() - began
    began = time.perf_counter()
    parts = split_by_speaker(fitted, speakers)
    split_s = time.perf_counter() - began

    began = time.perf_counter()
    naive = [_loudest(starts[i], ends[i], turns) for i in range(args.naive_words)]
    naive_s = (time.perf_counter() - began) * len(starts) / args.naive_words
    compared = [(a, b) for a, b in zip(naive, speakers, strict=False) if a is not None]
    if any(a != b for a, b in compared):
        raise SystemExit("the two disagree")

    print(f"{args.hours:g} h: {len(starts)} words, {len(turns)} turns, {_NUM_SPEAKERS} speakers, {len(parts)} segments")
    print(f"assign_speakers      {assigned_s:8.3f} s")
    print(f"fit_words            {fitted_s:8.3f} s")
    print(f"split_by_speaker     {split_s:8.3f} s")
    print(f"sum                  {assigned_s + fitted_s + split_s:8.3f} s")
    print(f"naive loop           {naive_s:8.1f} s (from {args.naive_words} words, {len(compared)} answers compared)")


def _meeting(hours: float) -> tuple[np.ndarray, np.ndarray, list[SpeakerTurn]]:
    rng = np.random.default_rng(0)
    duration_s = hours * 3600
    starts = np.sort(rng.uniform(0, duration_s, round(hours * _WORDS_PER_HOUR)))
    ends = starts + rng.uniform(0.05, 0.6, len(starts))
    turn_starts = np.sort(rng.uniform(0, duration_s, round(hours * _TURNS_PER_HOUR)))
    lengths = rng.exponential(1.5, len(turn_starts))
    who = rng.integers(0, _NUM_SPEAKERS, len(turn_starts))
    turns = [
        SpeakerTurn(float(start), float(start + length), f"SPEAKER_{speaker:02d}")
        for start, length, speaker in zip(turn_starts, lengths, who, strict=True)
    ]
    return starts, ends, turns


def _segments(starts: np.ndarray, ends: np.ndarray) -> list[Segment]:
    segments = []
    for first in range(0, len(starts), _WORDS_PER_SEGMENT):
        run = slice(first, first + _WORDS_PER_SEGMENT)
        pairs = zip(starts[run], ends[run], strict=True)
        words = tuple(Word("word", float(start), float(end)) for start, end in pairs)
        text = " ".join(word.word for word in words)
        segments.append(Segment(words[0].start_s, max(word.end_s for word in words), text, words))
    return segments


def _loudest(start_s: float, end_s: float, turns: list[SpeakerTurn]) -> str | None:
    """Return who speaks most during a word by looking at every turn, as the system that this replaces did."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for turn in turns:
        begin, stop = max(start_s, turn.start_s), min(end_s, turn.end_s)
        if stop > begin:
            spans.setdefault(turn.speaker_id, []).append((begin, stop))
    spoken: dict[str, float] = {}
    for speaker, own in spans.items():
        covered_to = 0.0
        for begin, stop in sorted(own):
            spoken[speaker] = spoken.get(speaker, 0.0) + max(0.0, stop - max(begin, covered_to))
            covered_to = max(covered_to, stop)
    ranked = sorted(spoken.values(), reverse=True)
    if not ranked or (len(ranked) > 1 and ranked[0] - ranked[1] < 1e-5):
        return None  # nobody, or a draw: another rule decides
    return max(spoken, key=lambda speaker: spoken[speaker])


if __name__ == "__main__":
    main()
