import numpy as np
import pytest
import torch

from serve_app.models.drums.hits import pick_peaks
from serve_app.models.drums.network import DrumNetwork, HyperParameters
from tests.unit.training.drums.made_songs import made_example
from training.drums import evaluate
from training.drums.evaluate import Heard
from training.drums.matching import Counts

SIZES = HyperParameters(conv_channels=(4, 8), width=16, block_width=8, dilations=(1,), kernel=3)
LOW = dict.fromkeys(evaluate.DRUMS, 0.1)


def heard_as(example, found):
    """Return the example as if these had been found: drum to (time, confidence, level in dB)."""
    peaks, levels_db = {}, np.zeros((len(example.bands), 6))
    for label, drum in enumerate(evaluate.DRUMS):
        activation = np.zeros(len(example.bands))
        for time_s, confidence, level_db in found.get(drum, ()):
            activation[round(time_s * 100)] = confidence
            levels_db[round(time_s * 100), label] = level_db
        peaks[drum] = pick_peaks(activation, 0.05)
    return Heard(example, peaks, levels_db)


@pytest.fixture
def heard():
    example = made_example(
        [(1.0, "kick", -6.0), (2.0, "kick", -12.0), (2.0, "hihat", -30.0), (3.0, "snare", -3.0)],
        unsure=[(4.0, "snare", -40.0)],
    )
    found = {
        "kick": [(1.0, 0.9, -6.0), (2.0, 0.3, -12.0), (3.0, 0.2, -20.0)],
        "snare": [(3.0, 0.8, -3.0), (4.0, 0.6, -30.0), (6.0, 0.15, -30.0)],
    }
    return [heard_as(example, found)]


def test_counts_depend_on_the_threshold(heard):
    assert evaluate.pooled(heard, "kick", 0.1) == Counts(right=2, extra=1)
    assert evaluate.pooled(heard, "kick", 0.25) == Counts(right=2)
    assert evaluate.pooled(heard, "kick", 0.5) == Counts(right=1, missed=1)
    assert evaluate.pooled(heard, "hihat", 0.1) == Counts(missed=1)


def test_unsure_strokes_are_forgiven(heard):
    assert evaluate.pooled(heard, "snare", 0.5) == Counts(right=1)


def test_the_best_threshold_is_chosen(heard):
    thresholds = evaluate.tune(heard)
    assert 0.2 < thresholds["kick"] <= 0.3
    assert evaluate.summary(heard, thresholds)["kick"] == 1.0


def test_the_report_holds_every_drum_kit_and_genre(heard):
    told = evaluate.report(heard, LOW)
    assert "| kick | 2 | 0.100 | 0.667 | 1.000 | 0.800 |" in told
    assert "| made | 1 | 0.800 | 0.667 | 0.000 |" in told
    assert "| rock | 1 |" in told


def test_mistakes_tell_what_was_there(heard):
    told = evaluate.mistakes(heard, LOW)
    assert "kick: in vain 1 of 3" in told
    assert "snare 1" in told
    assert "hihat_closed 1 (100%)" in told
    assert "nothing 1" in told  # the snare at 6 s


def test_levels_that_follow_correlate():
    strokes = [(0.5 + 0.3 * index, "kick", -float(index)) for index in range(20)]
    following = [heard_as(made_example(strokes), {"kick": [(t, 0.9, 2 * level_db) for t, _, level_db in strokes]})]
    against = [heard_as(made_example(strokes), {"kick": [(t, 0.9, -level_db) for t, _, level_db in strokes]})]
    assert evaluate.level_correlation(following, "kick", 0.5) == pytest.approx(1.0)
    assert evaluate.level_correlation(against, "kick", 0.5) == pytest.approx(-1.0)


def test_hears_with_a_network():
    torch.manual_seed(0)
    (heard,) = evaluate.hear(DrumNetwork(SIZES).eval(), [made_example([(1.0, "kick", -6.0)], 3.0)])
    assert set(heard.peaks) == {"kick", "snare", "hihat"}
    assert heard.levels_db.shape == (300, 6)
