"""`score_file`, `evaluate`: hits against annotations by hand, as drum transcription is scored in papers.

A hit is right if an annotated stroke of the same drum lies within a window of 20, 30 or 50 ms and is no other hit's
(maximum matching, `mir_eval.util.match_events`). Times as played are compared, not quantised ones.

* **Uncertain** strokes (marked `?` by the annotator) are neither demanded nor punished: a hit that matches no certain
  stroke but an uncertain one is not counted as found.
* **Pooled**: strokes of all files are counted together, so long files weigh more. `Score.of` a sum of counts.
* **Macro**: the mean over files of each file's own figure. A file in which a drum is neither annotated nor found says
  nothing of that drum and is left out; for such a file mir_eval would say 0 and madmom 1, and either moves the mean
  without a single stroke. Where a drum is not annotated but hits are found, precision and F are 0, and recall, which
  divides by nothing, leaves that file out; where it is annotated and none is found, all but the precision are 0.
* **All**: the three drums' counts together (pooled), and the mean of their macro figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from mir_eval.util import f_measure, match_events

from serve_app.results import Drum, DrumHit

WINDOWS_S = (0.02, 0.03, 0.05)


@dataclass(frozen=True, slots=True)
class Counts:
    """Strokes of one drum, in one file or several.

    Attributes:
        num_right: hits that match an annotated stroke.
        num_annotated: strokes that there are.
        num_found: hits.
    """

    num_right: int = 0
    num_annotated: int = 0
    num_found: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of both."""
        return Counts(
            self.num_right + other.num_right, self.num_annotated + other.num_annotated, self.num_found + other.num_found
        )


@dataclass(frozen=True, slots=True)
class Score:
    """Precision, recall and F-measure, 0 to 1; None where there is nothing to divide by."""

    precision: float | None
    recall: float | None
    f: float | None

    @classmethod
    def of(cls, counts: Counts) -> Score:
        """Return what counts say."""
        precision = counts.num_right / counts.num_found if counts.num_found else None
        recall = counts.num_right / counts.num_annotated if counts.num_annotated else None
        if precision is None and recall is None:
            return cls(None, None, None)
        return cls(precision, recall, float(f_measure(precision or 0.0, recall or 0.0)))


@dataclass(frozen=True, slots=True)
class FileScore:
    """How one file was transcribed.

    Attributes:
        name: of the file.
        counts: by window in seconds, then by drum.
        offsets_s: by drum: hit minus annotation, of what matches within the largest window, (n,).
    """

    name: str
    counts: Mapping[float, Mapping[Drum, Counts]]
    offsets_s: Mapping[Drum, np.ndarray] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DrumFigures:
    """One drum, or all, at one window: see the module's text.

    Attributes:
        counts: of all files together.
        pooled: what they say.
        macro: the mean over files.
        num_files: that have a say in `macro.f`.
    """

    counts: Counts
    pooled: Score
    macro: Score
    num_files: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a set of files was transcribed.

    Attributes:
        figures: by window in seconds, then by drum and "all".
        offset_ms: by drum: median of hit minus annotation; a steady one shows annotations by another convention. None
            where nothing matches.
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
    """Return how one file was transcribed.

    Args:
        annotated_s: strokes of each drum, in any order; a drum that is missing has none.
        uncertain_s: strokes that may be there, as `annotated_s`.
        windows_s: how far apart the two may be.
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
            num_let_pass = len(match_events(maybe, others, window_s))
            counts[window_s][drum] = Counts(len(pairs), len(truth), len(times) - num_let_pass)
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
    return Score(
        _mean_known([score.precision for score in scores]),
        _mean_known([score.recall for score in scores]),
        _mean_known([score.f for score in scores]),
    )


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _median_ms(offsets_s: Sequence[np.ndarray]) -> float | None:
    together = np.concatenate([*offsets_s, np.empty(0)])
    return 1000.0 * float(np.median(together)) if len(together) else None
