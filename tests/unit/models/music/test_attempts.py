"""Which engine and seed are tried after an outcome."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from serve_app.models.music.attempts import Attempts
from serve_app.results import FormSection, MusicPlan

PLAN = MusicPlan(
    version=1,
    seed=7,
    picture_sha256="ab" * 32,
    valence=0.2,
    arousal=-0.3,
    key="D",
    mode="dorian",
    tempo_bpm=84,
    metre="4/4",
    duration_s=30.0,
    form=(FormSection("A", 8),),
    instruments=("piano",),
    density=0.4,
    contour=(0.5,) * 16,
    prompt_en="",
)
FAILS, POOR, GOOD = "fails", "poor", "good"


def tried(engines: Sequence[str], outcomes: Sequence[str]) -> tuple[list[tuple[int, str, bool]], list[str]]:
    """Return number, engine and whether the seed was the plan's of each attempt, and the reasons."""
    attempts, made = Attempts(PLAN, engines), []
    left = list(outcomes)
    for attempt in attempts:
        made.append((attempt.number, attempt.engine, attempt.plan.seed == PLAN.seed))
        outcome = left.pop(0)
        if outcome == FAILS:
            attempts.failed(attempt, "no memory")
        elif outcome == POOR:
            attempts.rejected(attempt, ("too quiet", "too short"))
        else:
            break
    assert left == []
    return made, attempts.reasons


@pytest.mark.parametrize(
    ("engines", "outcomes", "expected"),
    [
        (["composer"], [GOOD], [(1, "composer", True)]),
        (["composer"], [POOR, POOR], [(1, "composer", True), (2, "composer", False)]),
        (["composer"], [FAILS], [(1, "composer", True)]),
        (["vertex", "composer"], [FAILS, GOOD], [(1, "vertex", True), (2, "composer", True)]),
        (
            ["vertex", "acestep", "composer"],
            [POOR, POOR, GOOD],
            [(1, "vertex", True), (2, "vertex", False), (3, "composer", True)],
        ),
        (["vertex", "acestep"], [POOR, POOR], [(1, "vertex", True), (2, "vertex", False)]),
        (
            ["vertex", "acestep", "composer"],
            [POOR, FAILS, FAILS, GOOD],
            [(1, "vertex", True), (2, "vertex", False), (3, "acestep", True), (4, "composer", True)],
        ),
    ],
)
def test_order(engines: list[str], outcomes: list[str], expected: list[tuple[int, str, bool]]) -> None:
    made, reasons = tried(engines, outcomes)
    assert made == expected
    assert len(reasons) == len([outcome for outcome in outcomes if outcome != GOOD])


def test_reasons_name_engine_seed_and_faults() -> None:
    assert tried(["vertex", "composer"], [POOR, FAILS, GOOD])[1] == [
        "vertex's piece with seed 7 was rejected: too quiet, too short",
        "vertex failed: no memory",
    ]


def test_a_second_run_tries_the_same() -> None:
    def plans() -> list[MusicPlan]:
        return [attempt.plan for attempt in Attempts(PLAN, ["vertex", "composer"])]

    first = plans()
    assert first == plans()
    assert len({plan.seed for plan in first}) == 3  # both engines begin with the plan's seed
    assert {dataclasses.replace(plan, seed=0) for plan in first} == {dataclasses.replace(PLAN, seed=0)}
