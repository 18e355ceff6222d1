"""Loops against annotations that are unsure in places.

An uncertain stroke is neither demanded nor punished ("lenient"), or does not exist ("strict").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mir_eval.util import match_events

from serve_app.models.drums.annotations import drum_of
from serve_app.models.drums.evaluation import Counts, Score
from serve_app.results import Drum, DrumHit

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
