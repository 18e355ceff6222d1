"""Scoring of loops whose annotation is unsure in places."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from loadtests.drum_loops import ANNOTATIONS
from loadtests.loop_scoring import LoopTruth, Mistake, read_loop, score_loop, table
from serve_app.models.drums.evaluation import Counts
from serve_app.results import Drum, DrumHit


def hit(time_s: float, drum: Drum = Drum.SNARE) -> DrumHit:
    return DrumHit(time_s, time_s, drum, 100, 0.9)


def truth(certain: tuple[float, ...], uncertain: tuple[float, ...] = ()) -> LoopTruth:
    nothing: dict[Drum, tuple[float, ...]] = dict.fromkeys(Drum, ())
    return LoopTruth({**nothing, Drum.SNARE: certain}, {**nothing, Drum.SNARE: uncertain})


def test_an_annotation_is_read(tmp_path: Path) -> None:
    path = tmp_path / "loop.txt"
    path.write_text("0.500\tsnare\n0.250\tsnare\t?\n0.100\tkick\n0.100\tcymbal\n0.000\tkick\n", encoding="utf-8")
    read = read_loop(path)
    assert read.certain_s == {Drum.KICK: (0.0, 0.1), Drum.SNARE: (0.5,), Drum.HIHAT: ()}
    assert read.uncertain_s == {Drum.KICK: (), Drum.SNARE: (0.25,), Drum.HIHAT: ()}


def test_a_third_column_must_be_a_question_mark(tmp_path: Path) -> None:
    path = tmp_path / "loop.txt"
    path.write_text("0.500\tsnare\tmaybe\n", encoding="utf-8")
    with pytest.raises(ValueError, match="maybe"):
        read_loop(path)


def test_an_uncertain_stroke_is_neither_demanded_nor_punished() -> None:
    known = truth(certain=(0.5, 1.0), uncertain=(1.5, 2.0))
    counts, mistakes = score_loop(known, [hit(0.51), hit(1.51), hit(3.0)], 0.03)
    assert counts[Drum.SNARE] == Counts(num_right=1, num_annotated=2, num_found=2)
    assert mistakes == [Mistake(1.0, Drum.SNARE, None), Mistake(3.0, Drum.SNARE, 0.9)]


def test_strictly_an_uncertain_stroke_does_not_exist() -> None:
    counts, mistakes = score_loop(truth((0.5,), (1.5,)), [hit(0.5), hit(1.5)], 0.03, lenient=False)
    assert counts[Drum.SNARE] == Counts(1, 1, 2)
    assert [mistake.time_s for mistake in mistakes] == [1.5]


def test_a_hit_beside_both_counts_for_the_certain_stroke() -> None:
    counts, mistakes = score_loop(truth((0.5,), (0.52,)), [hit(0.51)], 0.03)
    assert counts[Drum.SNARE] == Counts(1, 1, 1)
    assert mistakes == []


def test_drums_do_not_stand_for_each_other() -> None:
    counts, _ = score_loop(truth((0.5,)), [hit(0.5, Drum.KICK)], 0.03)
    assert counts[Drum.SNARE] == Counts(0, 1, 0)
    assert counts[Drum.KICK] == Counts(0, 0, 1)


def test_table_pools_strokes() -> None:
    nothing = {drum: Counts() for drum in Drum}
    rows = {"a": {**nothing, Drum.KICK: Counts(1, 1, 1)}, "b": {**nothing, Drum.KICK: Counts(1, 3, 1)}}
    assert table(rows)[-1] == "| **together** | 4: 1.00 0.50 0.67 | 0: – – – | 0: – – – | 4: 1.00 0.50 0.67 |"


@pytest.mark.parametrize("path", sorted(ANNOTATIONS.glob("*.txt")), ids=lambda path: path.stem)
def test_shipped_annotations_are_sound(path: Path) -> None:
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    assert {label for _, label, *_ in lines} <= {"kick", "snare", "hihat", "tom", "cymbal", "percussion"}
    times = [float(time) for time, *_ in lines]
    assert times == sorted(times)
    read = read_loop(path)
    for drum in Drum:
        both = sorted(read.certain_s[drum] + read.uncertain_s[drum])
        # nearer than a flam's strokes they would be one stroke, marked twice
        assert all(later - earlier >= 0.015 for earlier, later in pairwise(both))
