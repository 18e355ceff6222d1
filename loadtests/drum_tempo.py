"""Tempo, phase and tempo map on generated drum parts that were never trained on, corrupted as a detector would.

    OMP_NUM_THREADS=1 python loadtests/drum_tempo.py [--songs 500] [--seconds 30] [--by-genre]

No sound is made: the strokes of `training/drums`' scores, as played, lose 7.5 %, gain 4 % at random, and are off by
5 ms (standard deviation). Songs without a metre (solos, unrelated strokes) are left out. The beat is the generator's
felt beat; "octave" is 2, 1/2, 4 or 1/4 times that. Phase: the distance of each true beat to the nearest of the grid,
in songs whose tempo is right. Then a file of ten hours.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from serve_app.models.drums.beats import BeatGrid, track_beats
from serve_app.models.drums.tempo import METRICAL_LABELS, OnsetTrain
from training.drums.arrangement import compose
from training.drums.articulations import LABEL_OF
from training.drums.performance import perform

# `training/drums/metre.py` learns from seeds [7, …], prices were tuned on [99, …].
HELD_OUT_SEED = 424_242
RATIOS = {"right": 1.0, "x2": 2.0, "x1/2": 0.5, "x4": 4.0, "x1/4": 0.25}
CONFUSIONS = {"3:2": 1.5, "2:3": 2 / 3, "3:1": 3.0, "1:3": 1 / 3, "4:3": 4 / 3, "3:4": 0.75}
DROPPED, ADDED, JITTER_S = 0.075, 0.04, 0.005


@dataclass(frozen=True)
class Piece:
    """A generated part: its strokes, corrupted, and its true beats."""

    onsets: OnsetTrain
    beats_s: np.ndarray
    bpm: float
    genre: str
    duration_s: float

    @property
    def drifts(self) -> bool:
        """Whether the beat's length, over eight beats, changes by more than 3 %."""
        if len(self.beats_s) < 17:
            return False
        lengths_s = (self.beats_s[8:] - self.beats_s[:-8]) / 8
        return bool(lengths_s.max() / lengths_s.min() > 1.03)


def make_piece(seed: int, index: int, seconds: float, lowest_bpm: float = 60, highest_bpm: float = 200) -> Piece:
    """Return a metrical piece in that range of tempo; the same seed and index give the same piece."""
    rng = np.random.default_rng([seed, index])
    while True:
        score = compose(rng, seconds)
        if not score.metrical or not lowest_bpm <= score.bpm <= highest_bpm:
            continue
        performance = perform(rng, score, seconds)
        strokes = [stroke for stroke in performance.strokes if stroke.time_s >= 0]
        if len(strokes) >= 8 and len(performance.beats_s) >= 4 and lowest_bpm <= performance.bpm <= highest_bpm:
            break
    times_s = np.array([stroke.time_s for stroke in strokes])
    labels = np.array([LABEL_OF[stroke.articulation] for stroke in strokes])
    velocities = np.array([stroke.velocity for stroke in strokes])
    kept = rng.random(len(times_s)) >= DROPPED
    added = rng.binomial(len(times_s), ADDED)
    times_s = np.concatenate([times_s[kept] + rng.normal(0, JITTER_S, kept.sum()), rng.uniform(0, seconds, added)])
    labels = np.concatenate([labels[kept], rng.choice(METRICAL_LABELS[:5], added)])
    velocities = np.concatenate([velocities[kept], rng.uniform(0.1, 0.6, added)])
    onsets = OnsetTrain.of(np.clip(times_s, 0, seconds), 0.3 + 0.7 * velocities, labels)
    return Piece(onsets, performance.beats_s, performance.bpm, score.genre, seconds)


def kind_of(estimate: float, truth: float) -> str:
    """Return which ratio the estimate has to the truth, within 2 %."""
    for name, ratio in (RATIOS | CONFUSIONS).items():
        if abs(estimate / truth / ratio - 1) <= 0.02:
            return name
    return "other"


def phase_errors_s(grid: BeatGrid, beats_s: np.ndarray) -> np.ndarray:
    """Return how far each true beat is from the nearest beat of the grid."""
    nearest = np.clip(np.searchsorted(grid.beats_s, beats_s), 1, len(grid.beats_s) - 1)
    return np.minimum(np.abs(beats_s - grid.beats_s[nearest - 1]), np.abs(beats_s - grid.beats_s[nearest]))


def report(pieces: list[Piece], *, by_genre: bool) -> None:
    kinds: Counter[str] = Counter()
    genres: dict[str, Counter[str]] = defaultdict(Counter)
    medians_s, medians_beats, all_s, changes = [], [], [], []
    drifting: Counter[str] = Counter()
    drifting_s = []
    seconds = 0.0
    for piece in pieces:
        began = time.perf_counter()
        grid = track_beats(piece.onsets, piece.duration_s)
        seconds += time.perf_counter() - began
        kind = kind_of(grid.bpm, piece.bpm)
        kinds[kind] += 1
        errors_s = phase_errors_s(grid, piece.beats_s)
        if kind == "right":
            medians_s.append(float(np.median(errors_s)))
            medians_beats.append(medians_s[-1] * piece.bpm / 60)
            all_s.append(errors_s)
            if medians_beats[-1] > 0.17:
                kind = "off-phase"
        if piece.drifts:
            drifting[kind] += 1
            drifting_s.append(float(np.median(errors_s)))
        else:
            changes.append(len(grid.tempo_map))
        genres[piece.genre][kind] += 1
    count = len(pieces)
    octave = sum(kinds[name] for name in RATIOS if name != "right")
    print(f"{count} pieces, {1000 * seconds / count:.0f} ms each")
    print(f"tempo within 2 %: {kinds['right'] / count:.1%}; octave {octave / count:.1%}; "
          f"together {(kinds['right'] + octave) / count:.1%}")  # fmt: skip
    print("  " + ", ".join(f"{name} {number / count:.1%}" for name, number in kinds.most_common()))
    in_phase = np.array(medians_beats) <= 0.17
    print(f"of those within 2 %: grid on the beat {in_phase.mean():.1%}; phase error of a piece, median: "
          f"{1000 * np.median(medians_s):.1f} ms = {np.median(medians_beats):.4f} beats; 90 % below "
          f"{1000 * np.quantile(np.array(medians_s), 0.9):.1f} ms; all beats: median "
          f"{1000 * np.median(np.concatenate(all_s)):.1f} ms")  # fmt: skip
    if drifting_s:
        print(f"drifting ({sum(drifting.values())} pieces): {dict(drifting)}, median of the pieces' median error "
              f"{1000 * np.median(drifting_s):.1f} ms; entries of the tempo map elsewhere: median "
              f"{np.median(changes):.0f}, one entry in {np.mean(np.array(changes) == 1):.0%}")  # fmt: skip
    if by_genre:
        for genre, found in sorted(genres.items(), key=lambda item: item[1]["right"] / item[1].total()):
            if found["right"] < found.total():
                print(f"  {genre}: {dict(found)}")


def report_long_file(hours: float) -> None:
    """Play pieces of ten minutes one after the other."""
    trains, start_s, index = [], 0.0, 0
    while start_s < hours * 3600:
        piece = make_piece(HELD_OUT_SEED, 10_000 + index, 600.0)
        trains.append((piece.onsets.time_s + start_s, piece.onsets.weight, piece.onsets.label))
        start_s += 600.0
        index += 1
    onsets = OnsetTrain(*(np.concatenate(parts) for parts in zip(*trains, strict=True)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, began_cpu = time.perf_counter(), time.process_time()
    grid = track_beats(onsets, start_s)
    print(f"{start_s / 3600:.1f} h, {len(onsets)} strokes: {time.perf_counter() - began:.1f} s "
          f"({time.process_time() - began_cpu:.1f} s CPU), peak memory +"
          f"{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.0f} MiB, {len(grid.beats_s)} beats, "
          f"{len(grid.tempo_map)} tempo changes")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--by-genre", action="store_true")
    args = parser.parse_args()
    report([make_piece(args.seed, index, args.seconds) for index in range(args.songs)], by_genre=args.by_genre)
    if args.hours:
        report_long_file(args.hours)


if __name__ == "__main__":
    main()
