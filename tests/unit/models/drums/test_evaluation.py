"""Figures that can be counted by hand, and mir_eval's own where both say the same."""

from __future__ import annotations

import mir_eval
import numpy as np
import pytest

from serve_app.models.drums.evaluation import ALL, Counts, Score, evaluate, score_file
from serve_app.results import Drum, DrumHit


def hits(drum: Drum, *times_s: float, quantized_s: float = 99.0) -> list[DrumHit]:
    return [DrumHit(time_s, quantized_s, drum, 100, 0.9) for time_s in times_s]


def test_windows_and_drums_are_apart() -> None:
    found = [*hits(Drum.KICK, 1.0, 2.025, 3.045), *hits(Drum.SNARE, 1.0)]
    score = score_file("a", {Drum.KICK: [1.0, 2.0, 3.0], Drum.HIHAT: [1.0]}, found)
    assert [score.counts[window_s][Drum.KICK] for window_s in (0.02, 0.03, 0.05)] == [
        Counts(1, 3, 3),
        Counts(2, 3, 3),
        Counts(3, 3, 3),
    ]
    assert score.counts[0.05][Drum.SNARE] == Counts(0, 0, 1)
    assert score.counts[0.05][Drum.HIHAT] == Counts(0, 1, 0)


def test_each_stroke_counts_once() -> None:
    score = score_file("a", {Drum.SNARE: [1.0]}, hits(Drum.SNARE, 0.99, 1.0, 1.01))
    assert score.counts[0.05][Drum.SNARE] == Counts(1, 1, 3)
    score = score_file("a", {Drum.SNARE: [1.0, 1.02, 1.04]}, hits(Drum.SNARE, 1.03))
    assert score.counts[0.05][Drum.SNARE] == Counts(1, 3, 1)


def test_matching_is_the_best_not_the_nearest_first() -> None:
    # 1.03 lies nearest to 1.02; only if it takes 1.06 do both match
    score = score_file("a", {Drum.KICK: [1.02, 1.06]}, hits(Drum.KICK, 0.99, 1.03))
    assert score.counts[0.03][Drum.KICK].num_right == 2


def test_it_is_mir_evals_measure() -> None:
    rng = np.random.default_rng(7)
    truth = np.sort(rng.uniform(0, 60, 200))
    times_s = np.sort(np.concatenate([truth[20:] + rng.normal(0, 0.03, 180), rng.uniform(0, 60, 30)]).clip(0))
    score = score_file("a", {Drum.HIHAT: list(rng.permutation(truth))}, hits(Drum.HIHAT, *rng.permutation(times_s)))
    for window_s, counts in score.counts.items():
        f, precision, recall = mir_eval.onset.f_measure(truth, times_s, window_s)
        found = Score.of(counts[Drum.HIHAT])
        assert (found.f, found.precision, found.recall) == pytest.approx((f, precision, recall))


def test_pooled_counts_strokes_and_macro_counts_files() -> None:
    long = score_file("long", {Drum.KICK: range(1, 10)}, hits(Drum.KICK, *range(1, 10)))  # 9 of 9
    short = score_file("short", {Drum.KICK: [1.0]}, hits(Drum.KICK, 5.0))  # nothing of 1
    figures = evaluate([long, short]).figures[0.05]["kick"]
    assert figures.counts == Counts(9, 10, 10)
    assert (figures.pooled.precision, figures.pooled.recall, figures.pooled.f) == pytest.approx((0.9, 0.9, 0.9))
    assert (figures.macro.precision, figures.macro.recall, figures.macro.f) == pytest.approx((0.5, 0.5, 0.5))
    assert figures.num_files == 2


def test_a_drum_that_is_neither_annotated_nor_found_has_no_say() -> None:
    right = score_file("a", {Drum.SNARE: [1.0]}, hits(Drum.SNARE, 1.0))
    nothing = score_file("b", {}, [])
    figures = evaluate([right, nothing]).figures[0.05]
    assert (figures["snare"].macro.f, figures["snare"].num_files) == (1.0, 1)
    assert figures["kick"].pooled == figures["kick"].macro == Score(None, None, None)
    assert figures["kick"].num_files == 0


def test_false_hits_without_any_annotation_count() -> None:
    right = score_file("a", {Drum.SNARE: [1.0]}, hits(Drum.SNARE, 1.0))
    false = score_file("b", {}, hits(Drum.SNARE, 1.0, 2.0))
    figures = evaluate([right, false]).figures[0.05]["snare"]
    assert (figures.macro.precision, figures.macro.recall, figures.macro.f) == (0.5, 1.0, 0.5)
    assert figures.pooled.precision == pytest.approx(1 / 3)
    assert figures.num_files == 2


def test_a_drum_that_is_never_found() -> None:
    figures = evaluate([score_file("a", {Drum.SNARE: [1.0]}, [])]).figures[0.05]["snare"]
    assert figures.pooled == figures.macro == Score(None, 0.0, 0.0)


def test_all_drums_together() -> None:
    truth = {Drum.KICK: [1.0, 2.0, 3.0], Drum.SNARE: [1.0]}
    figures = evaluate([score_file("a", truth, hits(Drum.KICK, 1.0, 2.0, 3.0))]).figures[0.05][ALL]
    assert figures.counts == Counts(3, 4, 3)
    assert figures.pooled.f == pytest.approx(2 * 0.75 / 1.75)
    assert figures.macro.f == pytest.approx(0.5)  # of kick 1 and snare 0; there is no hi-hat
    assert figures.num_files == 1


def test_uncertain_strokes_are_neither_demanded_nor_punished() -> None:
    truth, maybe = {Drum.HIHAT: [1.0, 2.0]}, {Drum.HIHAT: [1.01, 3.0, 4.0]}
    score = score_file("a", truth, hits(Drum.HIHAT, 1.0, 3.01, 5.0), uncertain_s=maybe)
    # 1.0 is right, 3.01 is let pass, 5.0 is wrong; 2.0 is missed, 4.0 is not
    assert score.counts[0.05][Drum.HIHAT] == Counts(1, 2, 2)
    # two hits for one uncertain stroke: only one is let pass
    score = score_file("a", {}, hits(Drum.HIHAT, 2.99, 3.01), uncertain_s=maybe)
    assert score.counts[0.05][Drum.HIHAT] == Counts(0, 0, 1)
    # outside the window it is as wrong as any other
    score = score_file("a", {}, hits(Drum.HIHAT, 3.04), uncertain_s=maybe)
    assert [score.counts[window_s][Drum.HIHAT].num_found for window_s in (0.02, 0.03, 0.05)] == [1, 1, 0]


def test_played_times_are_compared() -> None:
    score = score_file("a", {Drum.KICK: [1.0]}, hits(Drum.KICK, 1.001, quantized_s=2.0))
    assert score.counts[0.02][Drum.KICK].num_right == 1


def test_median_offset_tells_of_another_convention() -> None:
    late = score_file("a", {Drum.KICK: [1.0, 2.0, 3.0]}, hits(Drum.KICK, 1.04, 2.01, 3.012, 9.0))
    evaluation = evaluate([late, score_file("b", {Drum.KICK: [1.0]}, hits(Drum.KICK, 1.01))])
    assert evaluation.offset_ms[Drum.KICK] == pytest.approx(11.0)
    assert evaluation.offset_ms[Drum.SNARE] is None


def test_other_windows() -> None:
    score = score_file("a", {Drum.KICK: [1.0]}, hits(Drum.KICK, 1.08), windows_s=(0.1, 0.05))
    figures = evaluate([score]).figures
    assert [figures[window_s]["kick"].pooled.f for window_s in (0.1, 0.05)] == [1.0, 0.0]


def test_no_files() -> None:
    assert evaluate([]).figures[0.05][ALL].pooled == Score(None, None, None)
