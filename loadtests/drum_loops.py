"""Drums of real loops against annotations by hand: `python -m loadtests.drum_loops [--model PATH] [--mistakes]`.

The loops lie in ../shared/data; training/drums/annotations has what is played in them, and in its README how sure that
is. An uncertain stroke is neither demanded nor punished ("lenient"), or does not exist ("strict"). Of loops that hold
none of the three drums, whatever is found is a false alarm.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mir_eval.util import match_events

from serve_app.models.drums.annotations import drum_of
from serve_app.models.drums.checkpoint import load_checkpoint
from serve_app.models.drums.evaluation import Counts, Score
from serve_app.models.drums.transcription import transcribe_drums
from serve_app.results import Drum, DrumHit

ROOT = Path(__file__).resolve().parents[1]
ANNOTATIONS = ROOT / "training" / "drums" / "annotations"
LOOPS = ROOT.parent / "shared" / "data" / "drums"
# Loops with none of the three drums; loop_tabla, which is annotated, is another.
WITHOUT_DRUMS = ("mehackit1", "mehackit2", "electric", "safari", "weirdo", "perc1", "perc2", "3d_printer", "drone_g_97")
# A whole number of beats over the loop's length.
TEMPI_BPM = {
    "loop_amen": 136.9,
    "loop_amen_full": 140.0,
    "loop_breakbeat": 126.0,
    "loop_compus": 148.0,
    "loop_garzul": 120.0,
    "loop_industrial": 135.8,
    "loop_mika": 120.0,
}
WINDOWS_S = (0.02, 0.03, 0.05)
_SHOWN_WINDOW_S = 0.03
_UNCERTAIN = "?"
_ALL = "all"


@dataclass(frozen=True, slots=True)
class LoopTruth:
    """What is played in a loop.

    Attributes:
        certain_s: times of each drum's strokes, in order.
        uncertain_s: times at which there may be a stroke.
    """

    certain_s: Mapping[Drum, tuple[float, ...]]
    uncertain_s: Mapping[Drum, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A stroke that was not found, or a hit where there is none.

    Attributes:
        time_s: of it.
        drum: of it.
        confidence: the hit's; None of a stroke that was missed.
    """

    time_s: float
    drum: Drum
    confidence: float | None

    def __str__(self) -> str:
        how = "missed" if self.confidence is None else f"false ({self.confidence:.2f})"
        return f"{self.time_s:.3f} {self.drum} {how}"


def read_loop(path: Path) -> LoopTruth:
    """Return a loop's annotation: lines of time, label and perhaps "?", parted by tabs; other instruments left out."""
    times_s: dict[bool, dict[Drum, list[float]]] = {sure: {drum: [] for drum in Drum} for sure in (True, False)}
    for line in path.read_text(encoding="utf-8").splitlines():
        time_text, label, *mark = line.split("\t")
        if mark not in ([], [_UNCERTAIN]):
            raise ValueError(f"{path}: {line!r} has a third column other than {_UNCERTAIN!r}")
        drum = drum_of(label)
        if drum is not None:
            times_s[not mark][drum].append(float(time_text))
    return LoopTruth(*({drum: tuple(sorted(each)) for drum, each in times_s[sure].items()} for sure in (True, False)))


def score_loop(
    truth: LoopTruth, hits: Iterable[DrumHit], window_s: float, *, lenient: bool = True
) -> tuple[dict[Drum, Counts], list[Mistake]]:
    """Return the counts of each drum, and what was wrong, in order of time."""
    counts, mistakes = {}, []
    found = list(hits)
    for drum in Drum:
        strokes_s = np.array(truth.certain_s[drum])
        own = sorted((hit for hit in found if hit.drum == drum), key=lambda hit: hit.time_s)
        times_s = np.array([hit.time_s for hit in own])
        pairs = match_events(strokes_s, times_s, window_s)
        matched, missed = {hit for _, hit in pairs}, set(range(len(strokes_s))) - {stroke for stroke, _ in pairs}
        over = [hit for number, hit in enumerate(own) if number not in matched]
        if lenient:
            maybe_s = np.array(truth.uncertain_s[drum])
            over = [hit for hit in over if not (np.abs(maybe_s - hit.time_s) <= window_s).any()]
        counts[drum] = Counts(len(pairs), len(strokes_s), len(pairs) + len(over))
        mistakes += [Mistake(float(strokes_s[stroke]), drum, None) for stroke in missed]
        mistakes += [Mistake(hit.time_s, drum, hit.confidence) for hit in over]
    return counts, sorted(mistakes, key=lambda mistake: mistake.time_s)


def table(rows: Mapping[str, Mapping[Drum, Counts]]) -> list[str]:
    """Return figures by loop as lines of Markdown, all loops together last."""
    together = {drum: sum((counts[drum] for counts in rows.values()), Counts()) for drum in Drum}
    lines = [
        "| loop | " + " | ".join(f"{name}: strokes, P, R, F" for name in (*Drum, _ALL)) + " |",
        "| --- |" + " --- |" * (len(Drum) + 1),
    ]
    for name, counts in {**rows, "**together**": together}.items():
        total = sum(counts.values(), Counts())
        cells = [_cell(each) for each in (*(counts[drum] for drum in Drum), total)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell(counts: Counts) -> str:
    score = Score.of(counts)
    said = " ".join("–" if value is None else f"{value:.2f}" for value in (score.precision, score.recall, score.f))
    return f"{counts.num_annotated}: {said}"


def main() -> None:
    """Print the tables; write pictures."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.drum_loops", description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "serve_app/models/drums/drum_net/best_model.pt")
    parser.add_argument("--loops", type=Path, default=LOOPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mistakes", action="store_true", help="list them")
    arguments = parser.parse_args()
    loaded = load_checkpoint(arguments.model)
    torch.set_num_threads(arguments.threads)
    truths = {path.stem: read_loop(path) for path in sorted(ANNOTATIONS.glob("loop_*.txt"))}
    heard = {name: transcribe_drums(arguments.loops / f"{name}.flac", loaded) for name in truths}
    print(f"{loaded.model_version}, thresholds {loaded.thresholds}")
    for lenient in (True, False):
        for window_s in WINDOWS_S if lenient else (_SHOWN_WINDOW_S,):
            print(f"\n{'lenient' if lenient else 'strict'}, within {1000 * window_s:.0f} ms\n")
            scored = {
                name: score_loop(truth, heard[name].transcript.hits, window_s, lenient=lenient)
                for name, truth in truths.items()
            }
            print("\n".join(table({name: counts for name, (counts, _) in scored.items()})))
            if lenient and window_s == _SHOWN_WINDOW_S and arguments.mistakes:
                print(*(f"\n{name}: {_listed(mistakes)}" for name, (_, mistakes) in scored.items()))
    print("\n| loop without drums | s | kick | snare | hi-hat |\n| --- | --- | --- | --- | --- |")
    for name in WITHOUT_DRUMS:
        transcript = transcribe_drums(arguments.loops / f"loop_{name}.flac", loaded).transcript
        numbers = (sum(hit.drum == drum for hit in transcript.hits) for drum in Drum)
        print(f"| loop_{name} | {transcript.duration_s:.1f} | {' | '.join(map(str, numbers))} |")
    print("\n| loop | BPM | BPM found |\n| --- | --- | --- |")
    print("\n".join(f"| {name} | {bpm} | {heard[name].transcript.bpm:.1f} |" for name, bpm in TEMPI_BPM.items()))


def _listed(mistakes: Sequence[Mistake]) -> str:
    return "; ".join(map(str, mistakes)) or "none"


if __name__ == "__main__":
    main()
