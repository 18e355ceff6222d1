"""Learn the metrical templates of `serve_app/models/drums/metre.py` from generated songs.

    OMP_NUM_THREADS=1 python -m training.drums.metre [--songs 1500] [--templates 32]

A minute and a half of one core. No sound is made: the strokes of the songs' scores, as played, are counted over four
beats in twelve steps a beat, and a mixture of multinomials over bars is fitted by expectation maximisation; which beat
of the bar is the first is not told but found. Writes `serve_app/models/drums/metre.json`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve_app.models.drums.tempo import METRICAL_LABELS
from training.drums.arrangement import compose
from training.drums.articulations import LABEL_OF
from training.drums.performance import Performance, perform

OUTPUT = Path(__file__).parents[2] / "serve_app/models/drums/metre.json"
STEPS_PER_BEAT, BEATS = 12, 4
_STEPS = STEPS_PER_BEAT * BEATS
_CHUNK_BEATS = 16
_SEED = 7
# Each stroke counts in full. With less, to allow for bars that repeat each other, fewer templates stay apart: 0.3 left
# 16 of 24, and 89 to 91 % of the validation songs had their very tempo instead of 92 %.
_EVIDENCE = 1.0
# Every place keeps this share of an even density: real players do what no generator thought of.
_FLOOR = 0.06
_LEAST_TEMPO_SPREAD = 0.15  # octaves


@dataclass(frozen=True)
class Mixture:
    """What was learned: densities (templates, labels, steps) with mean 1, and (templates,) the rest."""

    density: np.ndarray
    share: np.ndarray
    log2_bpm: np.ndarray
    log2_bpm_sd: np.ndarray
    log_likelihood: float


def main() -> None:
    """Generate songs, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=1500)
    parser.add_argument("--templates", type=int, default=32)
    parser.add_argument("--start", type=int, default=1, help="seed of the random start")
    parser.add_argument("--out", type=Path, default=OUTPUT)
    args = parser.parse_args()
    chunks, bpm = songs_in_chunks(args.songs)
    mixture = fit(chunks, bpm, args.templates, args.start)
    write(args.out, mixture)
    print(
        f"{len(chunks)} chunks of {args.songs} songs; log-likelihood {mixture.log_likelihood:.3f} a chunk; {args.out}"
    )
    for index in np.argsort(-mixture.share):
        print(f"template {index}: share {mixture.share[index]:.3f}, {2 ** mixture.log2_bpm[index]:.0f} bpm")


def songs_in_chunks(num_songs: int, seconds: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    """Return strokes counted by place, (chunks, labels, beats, steps), and each chunk's bpm."""
    counted, bpm = [], []
    for index in range(num_songs):
        rng = np.random.default_rng([_SEED, index])
        score = compose(rng, seconds)
        if not score.metrical:
            continue
        performance = perform(rng, score, seconds)
        if len(performance.beats_s) <= _CHUNK_BEATS:
            continue
        chunks = _in_chunks(performance)
        counted.append(chunks)
        bpm += [performance.bpm] * len(chunks)
    return np.concatenate(counted), np.array(bpm)


def _in_chunks(performance: Performance) -> np.ndarray:
    """Return the strokes of the whole chunks of 16 beats, each counting for its velocity."""
    beats_s = performance.beats_s
    strokes = [stroke for stroke in performance.strokes if beats_s[0] <= stroke.time_s < beats_s[-1]]
    steps = np.round(
        np.interp([stroke.time_s for stroke in strokes], beats_s, np.arange(len(beats_s))) * STEPS_PER_BEAT
    ).astype(int)
    labels = np.array([METRICAL_LABELS.index(LABEL_OF[stroke.articulation]) for stroke in strokes], dtype=int)
    chunk, step = np.divmod(steps, _CHUNK_BEATS * STEPS_PER_BEAT)
    num_chunks = (len(beats_s) - 1) // _CHUNK_BEATS
    counts = np.zeros((num_chunks + 1, len(METRICAL_LABELS), _CHUNK_BEATS * STEPS_PER_BEAT))
    np.add.at(counts, (np.minimum(chunk, num_chunks), labels, step), [stroke.velocity for stroke in strokes])
    return counts[:num_chunks].reshape(num_chunks, len(METRICAL_LABELS), _CHUNK_BEATS, STEPS_PER_BEAT)


def fit(chunks: np.ndarray, bpm: np.ndarray, num_templates: int, seed: int, *, rounds: int = 40) -> Mixture:
    """Return the mixture that expectation maximisation finds from a random start."""
    rng = np.random.default_rng(seed)
    num_chunks, num_labels = chunks.shape[:2]
    bars = np.stack([_folded(chunks, first) for first in range(BEATS)], axis=1)  # (chunks, first beat, labels x steps)
    log2_bpm = np.log2(bpm)[:, None]
    belonging = rng.dirichlet(np.full(BEATS * num_templates, 0.05), size=num_chunks)
    belonging = belonging.reshape(num_chunks, BEATS, num_templates)
    for _ in range(rounds):
        counts = np.einsum("cbt,cbs->ts", belonging, bars).reshape(num_templates, num_labels, _STEPS)
        shared = counts.sum(axis=0) / num_templates
        counts = counts + 0.06 * shared + 1.0 / _STEPS
        density = _FLOOR + (1 - _FLOOR) * counts / counts.mean(axis=2, keepdims=True)
        size = belonging.sum(axis=(0, 1)) + 1e-9
        share = (size + 1) / (size + 1).sum()
        by_template = belonging.sum(axis=1)
        mean = (by_template * log2_bpm).sum(axis=0) / size
        spread = np.sqrt((by_template * (log2_bpm - mean) ** 2).sum(axis=0) / size + _LEAST_TEMPO_SPREAD**2)
        log_tempo = np.log(share) - 0.5 * ((log2_bpm - mean) / spread) ** 2 - np.log(spread)
        log_strokes = _EVIDENCE * np.einsum(
            "cbs,ts->cbt", bars, np.log(density).reshape(num_templates, -1), optimize=True
        )
        log_joint = log_strokes + log_tempo[:, None, :]
        total = np.logaddexp.reduce(log_joint.reshape(num_chunks, -1), axis=1)
        belonging = np.exp(log_joint - total[:, None, None])
    return Mixture(density, share, mean, spread, float(total.mean()))


def _folded(chunks: np.ndarray, first: int) -> np.ndarray:
    """Return the chunks' strokes summed over their bars, of which beat `first` is the first."""
    turned = np.roll(chunks, -first, axis=2)
    bars = turned.reshape(*chunks.shape[:2], -1, BEATS, STEPS_PER_BEAT).sum(axis=2)
    return bars.reshape(len(chunks), -1)


def write(path: Path, mixture: Mixture) -> None:
    """Write the templates that occur, three digits each."""
    templates = [
        {
            "share": round(float(mixture.share[index]), 4),
            "log2_bpm": round(float(mixture.log2_bpm[index]), 3),
            "log2_bpm_sd": round(float(mixture.log2_bpm_sd[index]), 3),
            "density": {
                label: [round(float(value), 2) for value in row]
                for label, row in zip(METRICAL_LABELS, mixture.density[index], strict=True)
            },
        }
        for index in np.argsort(-mixture.share)
        if mixture.share[index] > 0.002
    ]
    learned = {"labels": list(METRICAL_LABELS), "steps_per_beat": STEPS_PER_BEAT, "templates": templates}
    path.write_text(json.dumps(learned, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
