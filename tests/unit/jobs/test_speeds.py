"""Expected seconds against histories whose truth is known: fixed part and rate, noise, cold starts, company."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from serve_app.jobs.speeds import MARKS, MeasuredJob, Speeds, stage_seconds, wait_s
from serve_app.messages import JobKind, MusicStage, Stage


def truth(length_s: float, speech_s: float) -> dict[int, float]:
    """Return the seconds of each stage on a machine that works twelve times as fast as people speak."""
    return {
        0: 0.2 + 0.001 * length_s,
        Stage.DOWNLOADED: 0.05 + 0.0007 * length_s,
        Stage.DETECTING_SPEECH: 0.1 + 0.002 * length_s,
        Stage.DIARIZING: 0.0,
        Stage.TRANSCRIBING: 1.0 + 0.03 * length_s + 0.06 * speech_s,
        Stage.RECOGNIZING_EMOTION: 0.05,
        Stage.MERGING: 0.05 + 0.0001 * length_s,
    }


class History:
    """Jobs of files of 10 s to 30 min, evenly over the orders of magnitude."""

    def __init__(self, seed: int, noise: float = 0.1, shares: tuple[float, float] = (0.6, 0.9)) -> None:
        self.rng = random.Random(seed)
        self.noise, self.shares = noise, shares

    def job(self, *, cold_s: float = 0.0, times: float = 1.0, options: object = None) -> MeasuredJob:
        length_s = 10 ** self.rng.uniform(1.0, 3.26)
        speech_s = length_s * self.rng.uniform(*self.shares)
        stages = {
            mark: times * seconds * max(0.3, self.rng.gauss(1.0, self.noise))
            for mark, seconds in truth(length_s, speech_s).items()
        }
        stages[Stage.TRANSCRIBING] += cold_s
        return MeasuredJob(stages, length_s, speech_s, options)


def errors(speeds: Speeds, jobs: list[MeasuredJob], mark: Stage, *, knows_speech: bool = False) -> list[float]:
    """Return the relative errors of what is left from a stage on, sorted."""
    found = []
    for job in jobs:
        left_s = sum(seconds for begins, seconds in job.stages.items() if begins >= mark)
        told_s = speeds.remaining_s(mark, 0.0, job.length_s, job.speech_s if knows_speech else None)
        found.append(abs(told_s / left_s - 1))
    return sorted(found)


@pytest.mark.parametrize("seed", range(3))
class TestAgainstTheTruth:
    def test_after_the_download_most_estimates_are_near(self, seed: int) -> None:
        history = History(seed)
        speeds = Speeds(JobKind.VIDEO, [history.job() for _ in range(20)])
        found = errors(speeds, [history.job() for _ in range(200)], Stage.DOWNLOADED)
        assert found[int(0.8 * len(found))] < 0.3

    def test_a_known_share_of_speech_refines_it(self, seed: int) -> None:
        history = History(seed, shares=(0.1, 1.0))
        speeds = Speeds(JobKind.VIDEO, [history.job() for _ in range(20)])
        jobs = [history.job() for _ in range(200)]
        before = errors(speeds, jobs, Stage.TRANSCRIBING)
        after = errors(speeds, jobs, Stage.TRANSCRIBING, knows_speech=True)
        assert after[160] < 0.3
        assert after[160] < 0.75 * before[160]

    def test_cold_starts_and_company_do_not_move_it(self, seed: int) -> None:
        history = History(seed)
        jobs = [
            history.job(cold_s=20.0 if number in (0, 7, 14) else 0.0, times=3.0 if number in (3, 11) else 1.0)
            for number in range(20)
        ]
        speeds = Speeds(JobKind.VIDEO, jobs)
        found = errors(speeds, [history.job() for _ in range(200)], Stage.DOWNLOADED)
        assert found[int(0.8 * len(found))] < 0.3

    def test_a_new_machine_is_followed(self, seed: int) -> None:
        history = History(seed)
        jobs = [history.job(times=0.25) for _ in range(20)] + [history.job() for _ in range(20)]
        found = errors(Speeds(JobKind.VIDEO, jobs), [history.job(times=0.25) for _ in range(100)], Stage.DOWNLOADED)
        assert found[80] < 0.3


def video(length_s: float, seconds: float, options: object = None) -> MeasuredJob:
    return MeasuredJob({0: 0.0, Stage.TRANSCRIBING: seconds}, length_s, None, options)


class TestFewJobs:
    def test_one_job_tells_the_rate(self) -> None:
        speeds = Speeds(JobKind.VIDEO, [video(60.0, 6.0)])
        assert speeds.remaining_s(length_s=600.0) == pytest.approx(60.0)
        assert speeds.remaining_s() == pytest.approx(6.0)  # the usual length

    def test_files_of_about_one_length_tell_no_fixed_part(self) -> None:
        speeds = Speeds(JobKind.VIDEO, [video(10.0, 3.0), video(11.0, 3.01), video(10.5, 3.1)])
        assert 300.0 < speeds.remaining_s(length_s=1800.0) < 600.0

    def test_a_cold_first_job_is_forgotten_at_the_second(self) -> None:
        speeds = Speeds(JobKind.VIDEO, [video(60.0, 6.0), video(60.0, 40.0)])
        assert speeds.remaining_s(length_s=60.0) == pytest.approx(6.0)

    def test_without_lengths_a_job_takes_what_jobs_took(self) -> None:
        jobs = [MeasuredJob({0: seconds}) for seconds in (10.0, 12.0, 11.0)]
        assert Speeds(JobKind.VIDEO, jobs).remaining_s(length_s=5.0) == pytest.approx(11.0, abs=1.0)
        assert Speeds(JobKind.VIDEO, [*jobs, video(60.0, 6.0)]).remaining_s(length_s=60.0) == pytest.approx(6.0)

    def test_jobs_with_the_same_options_count_once_there_are_three(self) -> None:
        slow = [video(60.0, 60.0, "emotion")] * 10
        fast = [video(60.0, 6.0, "none")] * 3
        assert Speeds(JobKind.VIDEO, [*slow, *fast[1:]], "none").remaining_s() == pytest.approx(60.0)
        assert Speeds(JobKind.VIDEO, [*slow, *fast], "none").remaining_s() == pytest.approx(6.0)


class TestCountdown:
    SPEEDS = Speeds(
        JobKind.VIDEO,
        [MeasuredJob({0: 1.0, Stage.DOWNLOADED: 2.0, Stage.TRANSCRIBING: 30.0, Stage.MERGING: 4.0}, 60.0, 30.0)],
    )

    @pytest.mark.parametrize(
        ("progress", "since_s", "left_s"),
        [
            (0, 0.0, 37.0),
            (0, 0.5, 36.5),
            (0, 50.0, 36.0),  # the download is late: what comes after it is still to be done
            (10, 0.0, 36.0),
            (60, 10.0, 24.0),
            (65, 0.0, 24.0),  # a third of the stage is done
            (65, 3.0, 21.0),
            (74, 0.0, 6.0),
            (74, 1e9, 4.0),
            (90, 1.0, 3.0),
            (90, 1e9, 0.0),
            (100, 0.0, 0.0),
        ],
    )
    def test_what_is_left(self, progress: int, since_s: float, left_s: float) -> None:
        assert self.SPEEDS.remaining_s(progress, since_s, 60.0, 30.0) == pytest.approx(left_s)


@pytest.mark.parametrize(
    ("reached_at", "stages"),
    [
        ({0: 5.0, 10: 7.0, 25: 8.0, 100: 20.0}, {0: 2.0, 10: 1.0, 25: 12.0}),
        ({0: 5.0, 100: 20.0}, {0: 15.0}),
        ({0: 5.0}, {}),
        ({0: 5.0, 10: 4.0, 100: 6.0}, {0: 0.0, 10: 2.0}),  # the clock was set
    ],
)
def test_seconds_of_stages(reached_at: Mapping[int, float], stages: Mapping[int, float]) -> None:
    assert stage_seconds(JobKind.VIDEO, reached_at) == stages


def test_every_kind_has_its_marks() -> None:
    assert set(MARKS) == set(JobKind)
    assert MARKS[JobKind.MUSIC] == (0, *MusicStage)
    assert all(marks[-1] == 100 and list(marks) == sorted(marks) for marks in MARKS.values())


@pytest.mark.parametrize(
    ("running_s", "places", "num_ahead", "waits_s"),
    [
        ([], 1, 0, 0.0),
        ([], 0, 0, 0.0),  # no runner has reported yet
        ([5.0], 1, 0, 5.0),
        ([5.0], 2, 0, 0.0),
        ([5.0], 2, 1, 5.0),
        ([9.0, 5.0], 2, 0, 5.0),
        ([9.0, 5.0], 2, 1, 9.0),
        ([9.0, 5.0], 2, 2, 15.0),
        ([5.0], 1, 1000, 10005.0),
        ([5.0, 6.0], 1, 0, 5.0),  # of a runner that has ended, or is late with its report
    ],
)
def test_the_wait_for_a_place(running_s: list[float], places: int, num_ahead: int, waits_s: float) -> None:
    assert wait_s(running_s, places, num_ahead, 10.0) == pytest.approx(waits_s)
