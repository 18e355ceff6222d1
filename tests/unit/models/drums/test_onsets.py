import numpy as np

from serve_app.models.drums.tempo import METRICAL_LABELS, OnsetTrain


def test_strokes_are_put_in_order_with_their_weights_and_labels():
    train = OnsetTrain.of([2.0, 1.0, 3.0], [0.2, 0.1, 0.3], ["snare", "kick", "hihat"])
    assert train.time_s.tolist() == [1.0, 2.0, 3.0]
    assert np.allclose(train.weight, [0.1, 0.2, 0.3])
    assert [METRICAL_LABELS[index] for index in train.label] == ["kick", "snare", "hihat"]


def test_unknown_labels_count_as_percussion():
    assert METRICAL_LABELS[OnsetTrain.of([0.0], [1.0], ["vibraslap"]).label[0]] == "percussion"


def test_times_that_are_not_finite_are_left_out_and_weights_are_kept_in_range():
    train = OnsetTrain.of([np.nan, 1.0, np.inf, 2.0], [1.0, 7.0, 1.0, np.nan], ["kick"] * 4)
    assert train.time_s.tolist() == [1.0, 2.0]
    assert train.weight.tolist() == [1.0, 0.0]


def test_between_takes_the_start_and_not_the_end():
    train = OnsetTrain.of([0.0, 1.0, 2.0, 3.0], [1.0] * 4, ["kick"] * 4)
    assert train.between(1.0, 3.0).time_s.tolist() == [1.0, 2.0]
    assert len(train.between(5.0, 9.0)) == 0
