import numpy as np
import pytest

from training.images import metrics


def test_confusion_and_figures_of_a_worked_example():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    predicted = np.array([0, 0, 0, 1, 1, 1, 0, 1])
    counts = metrics.confusion(labels, predicted, 3)
    assert counts.tolist() == [[3, 1, 0], [1, 2, 0], [0, 1, 0]]
    first, second, third = metrics.by_class(counts)
    assert (first.precision, first.recall, first.f1, first.support) == (3 / 4, 3 / 4, 3 / 4, 4)
    assert (second.precision, second.recall, second.support) == (2 / 4, 2 / 3, 3)
    assert second.f1 == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))
    assert (third.precision, third.recall, third.f1, third.support) == (0, 0, 0, 1)


def test_calibration_error_of_a_worked_example():
    probabilities = np.array([[0.9, 0.1], [0.85, 0.15], [0.4, 0.6], [0.3, 0.7]])
    labels = np.array([0, 1, 1, 1])
    bins = metrics.reliability(probabilities, labels, num_bins=5)
    assert [each.num for each in bins] == [0, 0, 1, 1, 2]  # 0.6 is the upper end of the third
    # |0.6 - 1| / 4 + |0.7 - 1| / 4 + |0.875 - 0.5| / 2
    assert metrics.calibration_error(bins) == pytest.approx(0.1 + 0.075 + 0.1875)


def test_a_sure_and_right_network_is_calibrated():
    bins = metrics.reliability(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1]))
    assert bins[-1] == metrics.Bin(2, 1.0, 1.0)
    assert metrics.calibration_error(bins) == 0.0


def test_cross_entropy_of_a_worked_example():
    logits = np.log(np.array([[0.5, 0.5], [0.2, 0.8]]))
    assert metrics.cross_entropy(logits, np.array([0, 1])) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(true):
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, (20000, 3))
    labels = np.array([rng.choice(3, p=row) for row in metrics.softmax(honest)])
    assert metrics.best_temperature(honest * true, labels) == pytest.approx(true, rel=0.08)


def test_softmax_of_large_logits():
    assert metrics.softmax(np.array([[1000.0, 0.0]])).tolist() == [[1.0, 0.0]]
