import math

import mir_eval
import numpy as np
import pytest

from training.drums.matching import Counts, count, match


@pytest.mark.parametrize("seed", range(20))
def test_finds_as_many_pairs_as_mir_eval(seed):
    rng = np.random.default_rng(seed)
    reference_s = np.sort(rng.uniform(0, 4, rng.integers(1, 60)))
    found_s = np.sort(np.concatenate([reference_s + rng.normal(0, 0.03, reference_s.size), rng.uniform(0, 4, 10)]))
    pairs = match(reference_s, found_s, 0.05)
    assert len(pairs) == len(mir_eval.util.match_events(reference_s, found_s, 0.05))
    assert np.all(np.abs(reference_s[pairs[:, 0]] - found_s[pairs[:, 1]]) <= 0.05)
    assert all(len(set(column)) == len(pairs) for column in pairs.T)


def test_pairs_nothing_with_nothing():
    assert match(np.array([]), np.array([1.0]), 0.05).shape == (0, 2)


def test_counts_like_mir_eval():
    rng = np.random.default_rng(3)
    reference_s, found_s = np.sort(rng.uniform(0, 9, 50)), np.sort(rng.uniform(0, 9, 70))
    counts = count(reference_s, np.array([]), found_s, 0.05)
    measure, precision, recall = mir_eval.onset.f_measure(reference_s, found_s, window=0.05)
    assert (counts.f_measure, counts.precision, counts.recall) == pytest.approx((measure, precision, recall))


def test_what_is_unsure_is_neither_asked_for_nor_a_mistake():
    sure_s, unsure_s = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    assert count(sure_s, unsure_s, np.array([1.0, 3.0, 5.0]), 0.05) == Counts(right=1, extra=1, missed=1)


def test_a_sure_stroke_beside_an_unsure_one_is_asked_for():
    assert count(np.array([1.0]), np.array([1.02]), np.array([1.01]), 0.05) == Counts(right=1)
    assert count(np.array([1.0]), np.array([1.02]), np.array([]), 0.05) == Counts(missed=1)


def test_measures_of_nothing_are_undefined():
    assert all(map(math.isnan, (Counts().precision, Counts().recall, Counts().f_measure)))
    assert Counts(extra=2).f_measure == Counts(missed=2).f_measure == 0.0


def test_counts_add_up():
    assert Counts(1, 2, 3) + Counts(10, 20, 30) == Counts(11, 22, 33)
