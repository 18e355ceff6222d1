"""Figures of the speed comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.whisper_graph import Run, timed
from loadtests.whisper_speech import Recording
from loadtests.whisper_speed import Way, alternate, memory_slopes, table, word_error_rate
from training.whisper_micro.synthesis import Span

CLIPS = [
    Recording(Path("a"), 30.0, (Span("good", 0.0, 0.2), Span("morning", 0.3, 0.6)), ((0.0, 1.0),)),
    Recording(Path("b"), 30.0, (Span("one", 0.0, 0.2), Span("two", 0.3, 0.6)), ((0.0, 1.0),)),
]


def test_a_rounds_ratio_is_of_runs_in_that_round() -> None:
    runs = {
        "theirs": [Run(10.0, 10.0, 0.0, ["good morning", "one"]), Run(100.0, 30.0, 1.0, ["good morning", "one"])],
        "ours": [Run(5.0, 8.0, 0.0, ["good morning", "one two"]), Run(40.0, 24.0, 1.0, ["good morning", "one two"])],
    }
    theirs, ours = table(runs, CLIPS, scored=True)[2:]
    # 60 s of audio: medians 55 s and 22.5 s; ratios 2.0 and 2.5 by time, 1.25 and 1.25 by CPU
    assert theirs == "| theirs | 55.0 | 1.1 | 20.0 | 0.50 | 25.0 % | 2.25 | 1.25 |"
    assert ours == "| ours | 22.5 | 2.7 | 16.0 | 0.50 | 0.0 % | 1.00 | 1.00 |"


def test_rounds_alternate() -> None:
    order = []

    def way(name: str) -> Way:
        return Way(name, lambda recordings: order.append(name) or ["" for _ in recordings])

    runs = alternate([way("a"), way("b")], CLIPS, rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(each) for name, each in runs.items()} == {"a": 3, "b": 3}


def test_errors_are_summed_over_files() -> None:
    assert word_error_rate(CLIPS, ["Good morning.", "one three four"]) == 0.5
    with pytest.raises(ValueError):  # a text for each file
        word_error_rate(CLIPS, ["good morning"])


def test_slope_of_memory() -> None:
    samples = [(20, {"a": 100.0, "b": 50.0, "gone": 1.0}), (40, {"a": 102.0, "b": 50.0}), (60, {"a": 104.0, "b": 50.0})]
    slopes = memory_slopes(samples)
    assert slopes.keys() == {"a", "b"}
    assert slopes["a"] == pytest.approx((100.0, 104.0, 0.1))
    assert slopes["b"] == pytest.approx((50.0, 50.0, 0.0), abs=1e-9)


def test_own_work_is_measured() -> None:
    run = timed(lambda: sum(range(3_000_000)))
    assert run.answer == sum(range(3_000_000))
    assert 0.01 < run.cpu_s <= 1.1 * run.wall_s + 0.02
