import copy

import numpy as np
import pytest
import torch

from serve_app.models.images.architectures import Architecture
from serve_app.models.images.networks import build_network
from training.images.augment import Augmentation
from training.images.folders import Sample, Split
from training.images.pixels import Pixels
from training.images.train import EarlyStopping, Recipe, Stage, class_weights, predict, train
from training.images.weights import head_of

pytestmark = pytest.mark.slow  # trains; what is served does not depend on it

_ARCHITECTURE = Architecture.MOBILENET_V3_SMALL


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pixels(tmp_path):
    """Red and green pictures."""
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 2
    images = rng.integers(0, 60, (24, 224, 224, 3), dtype=np.uint8)
    images[np.arange(24), :, :, labels] += 150
    samples = tuple(Sample(tmp_path / f"{index}.jpg", int(label)) for index, label in enumerate(labels))
    return Pixels(samples, images, tuple(map(str, range(24))), {})


@pytest.fixture
def split():
    return Split({"train": np.arange(16), "val": np.arange(16, 24)}, {})


def network():
    torch.manual_seed(0)
    return build_network(_ARCHITECTURE, 2, hidden_widths=[8])


def recipe(**changes):
    plain = {"stages": (Stage(32, 2),), "batch": 8, "rate": 3e-3, "augmentation": Augmentation(jpeg_share=0.0)}
    return Recipe(**(plain | changes))


def run(pixels, split, told=None, begin=None, **changes):
    tell = told.append if told is not None else (lambda line: None)
    begin = begin if begin is not None else network()
    return train(begin, _ARCHITECTURE, pixels, split, 2, recipe(**changes), tell=tell)


def test_learns_two_colours(pixels, split):
    trained = run(pixels, split, stages=(Stage(32, 12),), averaging=0.5, patience=12)
    logits = predict(trained.network, pixels, split.parts["val"], 32)
    assert (logits.argmax(axis=1) == pixels.labels[split.parts["val"]]).all()
    assert not trained.network.training


def test_the_seed_decides(pixels, split):
    first, again, other = (run(pixels, split, seed=seed).network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_best_network_is_returned_and_was_kept(pixels, split):
    kept = []
    trained = train(
        network(),
        _ARCHITECTURE,
        pixels,
        split,
        2,
        recipe(stages=(Stage(32, 4),)),
        keep=kept.append,
        tell=lambda _: None,
    )
    best = min(trained.history, key=lambda each: each["val_loss"])
    logits = predict(trained.network, pixels, split.parts["val"], 32)
    found = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(pixels.labels[split.parts["val"]]))
    assert float(found) == pytest.approx(best["val_loss"], abs=1e-4)
    last, returned = kept[-1].state_dict(), trained.network.state_dict()
    assert all(torch.equal(last[name], returned[name]) for name in last)


def test_stops_when_the_validation_loss_no_longer_falls(pixels, split):
    trained = run(pixels, split, stages=(Stage(32, 50),), rate=0.0, averaging=0.0, patience=2)
    assert trained.stopped == "no lower validation loss for 2 epochs"
    assert len(trained.history) < 50


def test_patience_counts_anew_in_each_stage(pixels, split):
    trained = run(pixels, split, stages=(Stage(32, 9), Stage(48, 9)), rate=0.0, averaging=0.0, patience=1)
    assert {each["side_px"] for each in trained.history} == {32, 48}


def test_the_minutes_end_it(pixels, split):
    seconds = iter(range(0, 100000, 5))
    trained = train(
        network(),
        _ARCHITECTURE,
        pixels,
        split,
        2,
        recipe(stages=(Stage(32, 100),), minutes=1.0, patience=100),
        tell=lambda _: None,
        clock=lambda: float(next(seconds)),
    )
    assert trained.stopped == "time is up"
    assert 1 <= len(trained.history) < 10


def test_an_interrupt_keeps_the_best_so_far(pixels, split):
    told = []

    def tell(line):
        told.append(line)
        if len(told) == 2:
            raise KeyboardInterrupt

    trained = train(network(), _ARCHITECTURE, pixels, split, 2, recipe(stages=(Stage(32, 50),)), tell=tell)
    assert trained.stopped == "interrupted"
    assert len(trained.history) == 2


def test_frozen_epochs_train_the_head_alone(pixels, split):
    begin = network()
    before = copy.deepcopy(begin.state_dict())
    run(pixels, split, begin=begin, freeze_epochs=2)
    head = {f"classifier.{name}" for name in head_of(begin, _ARCHITECTURE).state_dict()}
    changed = {name for name, value in begin.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == head


def test_after_the_frozen_epochs_all_is_trained(pixels, split):
    begin = network()
    before = copy.deepcopy(begin.state_dict())
    run(pixels, split, begin=begin, freeze_epochs=1)
    assert not torch.equal(begin.state_dict()["features.0.0.weight"], before["features.0.0.weight"])


def test_a_loss_that_is_no_number_is_told(pixels, split):
    begin = network()
    with torch.no_grad():
        begin.classifier[0].weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="--rate"):
        run(pixels, split, begin=begin)


def test_plateau_halves_the_rate(pixels, split):
    trained = run(pixels, split, stages=(Stage(32, 4),), schedule="plateau", patience=8)
    assert len(trained.history) == 4


def test_early_stopping_remembers_the_lowest():
    stopping = EarlyStopping(patience=2)
    assert [stopping.improved(loss) for loss in (1.0, 0.5, 0.6)] == [True, True, False]
    assert not stopping.over
    assert not stopping.improved(float("nan"))
    assert stopping.over
    assert stopping.best == 0.5


def test_class_weights_make_classes_weigh_the_same():
    weights = class_weights(np.array([0] * 6 + [1] * 3 + [2]), 3)
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert class_weights(np.array([0, 0, 2, 2]), 3).tolist() == [1.0, 0.0, 1.0]
