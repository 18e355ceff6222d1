"""`Speeds`: how long each stage of a job takes, fitted to the jobs that have ended. Pure functions.

A stage of a file with `length_s` seconds of sound, `speech_s` of which are speech, is expected to take

    seconds = fixed + rate * size,    size = (1 - weight) * length_s + weight * speech_s

with fixed >= 0 and rate >= 0. Of the lines through two measured jobs, through one and the origin, and of equal seconds
for every size, that one is taken whose errors |expected - taken| / max(expected, taken) have the least sum, and of the
weights 0, 1/2 and 1 the best. So short files count as much as long ones, and no job more than one: a minority that was
slower (the first job, which waited for models to load, or one beside others) does not move the line. Of two jobs that
contradict each other the later one is believed.
"""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from serve_app.messages import COMPLETED, JobKind, MusicStage, Stage

MARKS: Mapping[JobKind, tuple[int, ...]] = {JobKind.VIDEO: (0, *Stage), JobKind.MUSIC: (0, *MusicStage)}
"""The progress at which each stage of a kind of job begins; the last is the end. The first stage is up to a mark."""

_FITTED = 20  # jobs: enough for a median, few enough to follow a new machine
_ALIKE = 3  # jobs with the same options, below which all jobs are taken
_SHORTEST_S = 0.1  # of a stage: below it a relative error means nothing
_WEIGHTS = (0.0, 0.5, 1.0)
# A fixed part as long as a usual stage costs as much as this error of one job. It decides where all measured
# files had about the same length: most of a stage's time grows with the file.
_FIXED_COST = 0.2


@dataclass(frozen=True, slots=True)
class MeasuredJob:
    """A completed job.

    Attributes:
        stages: seconds of each stage, by the progress at which it begins.
        length_s: of the file's sound; None: not known.
        speech_s: of it, speech; None: not known, or the kind has none.
        options: what the request chose that changes its speed.
    """

    stages: Mapping[int, float]
    length_s: float | None = None
    speech_s: float | None = None
    options: Hashable = None


@dataclass(frozen=True, slots=True)
class _Line:
    """Expected seconds of a stage; `weight` is that of speech in the size."""

    fixed_s: float
    rate: float
    weight: float = 0.0

    def at(self, size_s: float) -> float:
        return self.fixed_s + self.rate * size_s

    def of(self, length_s: float, speech_s: float) -> float:
        return self.at(_size_s(length_s, speech_s, self.weight))


class Speeds:
    """The expected seconds of each stage of one kind of job.

    Args:
        kind: of the jobs.
        measured: jobs of the kind, the latest first; at least one.
        options: those of the job to estimate; where at least three measured jobs have the same, only these count.
    """

    def __init__(self, kind: JobKind, measured: Sequence[MeasuredJob], options: Hashable = None) -> None:
        alike = [job for job in measured if job.options == options]
        known = alike if len(alike) >= _ALIKE else measured
        sized = [job for job in known if job.length_s is not None]
        fitted = (sized or known)[:_FITTED]
        spoken = [job for job in fitted if job.length_s and job.speech_s is not None]
        self._marks = MARKS[kind]
        self._length_s = statistics.median(job.length_s or 0.0 for job in fitted)
        self._speech_share = statistics.median(
            (job.speech_s or 0.0) / (job.length_s or 1.0) for job in spoken or fitted
        )
        weights = _WEIGHTS if len(spoken) == len(fitted) else _WEIGHTS[:1]
        self._lines = {mark: _fit([job for job in fitted if mark in job.stages], mark, weights) for mark in self._marks}

    def remaining_s(
        self, progress: int = 0, since_s: float = 0.0, length_s: float | None = None, speech_s: float | None = None
    ) -> float:
        """Return the seconds until a job's end, as of its progress in percent, which it reached `since_s` ago.

        Args:
            length_s: of the file's sound; None: a usual length.
            speech_s: of it, speech; None: a usual share.
        """
        length_s = self._length_s if length_s is None else length_s
        speech_s = self._speech_share * length_s if speech_s is None else min(speech_s, length_s)
        left_s = 0.0
        for mark, following in pairwise(self._marks):
            if following <= progress:
                continue
            expected_s = self._lines[mark].of(length_s, speech_s)
            if mark <= progress:  # the stage in work
                undone = (following - progress) / (following - mark)
                expected_s = max(0.0, undone * expected_s - since_s)
            left_s += expected_s
        return left_s


def stage_seconds(kind: JobKind, reached_at: Mapping[int, float]) -> dict[int, float]:
    """Return the seconds of each stage, by the times at which marks of progress were reached; 0: the start."""
    marks = [mark for mark in MARKS[kind] if mark in reached_at]
    return {mark: max(0.0, reached_at[following] - reached_at[mark]) for mark, following in pairwise(marks)}


def wait_s(running_s: Sequence[float], places: int, num_ahead: int, typical_s: float) -> float:
    """Return how long a queued job waits for a place.

    Args:
        running_s: until the end of each job in work.
        places: for jobs, all runners together.
        num_ahead: queued jobs that are taken before it.
        typical_s: of each of these.
    """
    places = max(places, len(running_s), 1)
    free_in_s = [0.0] * (places - len(running_s)) + sorted(running_s)
    rounds, place = divmod(num_ahead, places)
    return free_in_s[place] + rounds * typical_s


def _fit(jobs: Sequence[MeasuredJob], mark: int, weights: Sequence[float]) -> _Line:
    if not jobs or mark == COMPLETED:
        return _Line(0.0, 0.0)
    taken_s = [job.stages[mark] for job in jobs]
    usual_s = max(statistics.median(taken_s), _SHORTEST_S)
    best, least = _Line(usual_s, 0.0), float("inf")
    for weight in weights:
        points = [(_size_s(job.length_s or 0.0, job.speech_s or 0.0, weight), job.stages[mark]) for job in jobs]
        for fixed_s, rate in _lines(points):
            cost = _FIXED_COST * fixed_s / usual_s
            for size_s, seconds in points:
                expected_s = fixed_s + rate * size_s
                cost += abs(expected_s - seconds) / max(expected_s, seconds, _SHORTEST_S)
                if cost >= least:
                    break
            else:
                best, least = _Line(fixed_s, rate, weight), cost
    return best


def _lines(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield fixed part and rate of each line that may be the best one."""
    for size_s, seconds in points:
        if size_s > 0:
            yield 0.0, seconds / size_s
        yield seconds, 0.0
    for (size_s, seconds), (other_size_s, other_seconds) in combinations(points, 2):
        if size_s == other_size_s:
            continue
        rate = (other_seconds - seconds) / (other_size_s - size_s)
        fixed_s = seconds - rate * size_s
        if rate >= 0 and fixed_s >= 0:
            yield fixed_s, rate


def _size_s(length_s: float, speech_s: float, weight: float) -> float:
    return (1 - weight) * length_s + weight * speech_s
