"""Scores: hits against annotations by hand, as papers score drum transcription.

A hit is right if an annotated stroke of the same drum lies within a window of 20, 30 or 50 ms and is no other hit's
(maximum matching, `mir_eval.util.match_events`). Played times are compared, not quantised ones.

* **Uncertain** strokes (marked `?` by the annotator): a hit that matches only an uncertain stroke does not count.
* **Pooled**: strokes of all files are counted together, so long files weigh more.
* **Macro**: the mean over files of each file's own figure, without the files in which the drum is neither annotated nor
  found (mir_eval would score such a file 0, madmom 1). Where a drum is not annotated but found, precision and F are 0
  and there is no recall; where it is annotated but not found, recall and F are 0 and there is no precision.
* **All**: the three drums' counts together (pooled), and the mean of their macro figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field

import numpy as np
from mir_eval.util import f_measure, match_events

from serve_app.results import Drum, DrumHit

WINDOWS_S = (0.02, 0.03, 0.05)


@dataclass(frozen=True, slots=True)
class Counts:
    """Strokes of one drum, in one file or several; `num_right` hits match an annotated stroke."""

    num_right: int = 0
    num_annotated: int = 0
    num_found: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Return the sums."""
        return Counts(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Score:
    """Precision, recall and F-measure, 0 to 1; None where there is nothing to divide by."""

    precision: float | None
    recall: float | None
    f: float | None

    @classmethod
    def of(cls, counts: Counts) -> Score:
        """Return the score of counts."""
        precision = counts.num_right / counts.num_found if counts.num_found else None
        recall = counts.num_right / counts.num_annotated if counts.num_annotated else None
        if precision is None and recall is None:
            return cls(None, None, None)
        return cls(precision, recall, float(f_measure(precision or 0.0, recall or 0.0)))


@dataclass(frozen=True, slots=True)
class FileScore:
    """One file's score.

    Attributes:
        name: of the file.
        counts: by window in seconds, then by drum.
        offsets_s: by drum, (n,): hit minus annotation of the matches within the largest window.
    """

    name: str
    counts: Mapping[float, Mapping[Drum, Counts]]
    offsets_s: Mapping[Drum, np.ndarray] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DrumFigures:
    """One drum, or all, at one window: see the module's text. `num_files` count in `macro.f`."""

    counts: Counts
    pooled: Score
    macro: Score
    num_files: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of a set of files.

    Attributes:
        figures: by window in seconds, then by drum and "all".
        offset_ms: by drum: median of hit minus annotation; a large one shows another convention of the annotator. None
            where there is no match.
    """

    figures: Mapping[float, Mapping[str, DrumFigures]]
    offset_ms: Mapping[Drum, float | None]


ALL = "all"


def score_file(
    name: str,
    annotated_s: Mapping[Drum, Sequence[float]],
    hits: Iterable[DrumHit],
    *,
    uncertain_s: Mapping[Drum, Sequence[float]] | None = None,
    windows_s: Sequence[float] = WINDOWS_S,
) -> FileScore:
    """Score one file.

    Args:
        name: of the file.
        annotated_s: strokes of each drum, in any order; a missing drum has none.
        hits: that were found.
        uncertain_s: uncertain strokes, as `annotated_s`.
        windows_s: how far a hit may be from its stroke.
    """
    found = list(hits)
    counts: dict[float, dict[Drum, Counts]] = {window_s: {} for window_s in windows_s}
    offsets_s: dict[Drum, np.ndarray] = {}
    for drum in Drum:
        truth, maybe = (
            np.sort(np.asarray(strokes.get(drum, ()), dtype=np.float64)) for strokes in (annotated_s, uncertain_s or {})
        )
        times = np.sort(np.array([hit.time_s for hit in found if hit.drum == drum], dtype=np.float64))
        for window_s in sorted(windows_s):
            pairs = match_events(truth, times, window_s)
            others = np.delete(times, [hit for _, hit in pairs])
            num_uncounted = len(match_events(maybe, others, window_s))
            counts[window_s][drum] = Counts(len(pairs), len(truth), len(times) - num_uncounted)
            offsets_s[drum] = np.array([times[hit] - truth[stroke] for stroke, hit in pairs])
    return FileScore(name, counts, offsets_s)


def evaluate(files: Sequence[FileScore]) -> Evaluation:
    """Return the figures of a set of files that were scored with the same windows."""
    windows_s = list(files[0].counts) if files else list(WINDOWS_S)
    figures: dict[float, dict[str, DrumFigures]] = {}
    for window_s in windows_s:
        by_drum = {drum: _figures([file.counts[window_s][drum] for file in files]) for drum in Drum}
        total = sum((each.counts for each in by_drum.values()), Counts())
        macros = [each.macro for each in by_drum.values()]
        num_files = sum(any(c != Counts() for c in file.counts[window_s].values()) for file in files)
        everything = DrumFigures(total, Score.of(total), _mean(macros), num_files)
        figures[window_s] = {**{str(drum): each for drum, each in by_drum.items()}, ALL: everything}
    return Evaluation(figures, {drum: _median_ms([file.offsets_s[drum] for file in files]) for drum in Drum})


def _figures(counts: Sequence[Counts]) -> DrumFigures:
    total = sum(counts, Counts())
    scores = [Score.of(each) for each in counts]
    return DrumFigures(total, Score.of(total), _mean(scores), sum(score.f is not None for score in scores))


def _mean(scores: Sequence[Score]) -> Score:
    columns = ([score.precision for score in scores], [score.recall for score in scores], [score.f for score in scores])
    known = [[value for value in column if value is not None] for column in columns]
    return Score(*(float(np.mean(values)) if values else None for values in known))


def _median_ms(offsets_s: Sequence[np.ndarray]) -> float | None:
    together = np.concatenate([*offsets_s, np.empty(0)])
    return 1000.0 * float(np.median(together)) if len(together) else None
