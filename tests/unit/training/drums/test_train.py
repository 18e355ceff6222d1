import json

import numpy as np
import pytest
import torch

from serve_app.models.drums.network import LABELS, DrumNetwork, DrumOutput, HyperParameters
from tests.unit.training.drums.made_songs import random_example
from training.drums import evaluate, shards
from training.drums.batches import UNKNOWN, Batch
from training.drums.train import Recipe, _rate, load_run, loss, train

pytestmark = pytest.mark.slow  # trains; what is served does not depend on it

SIZES = HyperParameters(conv_channels=(8, 8), width=32, block_width=16, dilations=(1, 2), kernel=3)
STEP_S = 1.0  # by the clock of these tests


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        self.now_s += STEP_S
        return self.now_s


def recipe(num_steps, **changed):
    chosen = {"warmup_steps": 5, "crops": 4, "crop_frames": 200, "sizes": SIZES, "log_every": 10, "peak_rate": 1e-2}
    return Recipe(minutes=num_steps * STEP_S / 60, **(chosen | changed))


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    shards.write(folder / "train-v-00000.npz", [random_example(rng) for _ in range(12)])
    return folder


def read_log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


class TestTrain:
    @pytest.mark.slow
    def test_learns_to_hear(self, songs, tmp_path):
        network = train(songs, tmp_path / "run", recipe(200, averaging=0.9), clock=Clock())
        unheard = [random_example(np.random.default_rng(99)) for _ in range(3)]
        heard = evaluate.hear(network, unheard)
        measures = evaluate.summary(heard, dict.fromkeys(evaluate.DRUMS, 0.4))
        assert min(measures.values()) > 0.85
        lost = [line["strokes"] for line in read_log(tmp_path / "run")]
        assert lost[-1] < 0.5 * lost[0]

    def test_goes_on_where_it_was(self, songs, tmp_path):
        run = tmp_path / "run"
        train(songs, run, recipe(20), clock=Clock())
        _, before = load_run(run)
        train(songs, run, recipe(30), clock=Clock())
        _, after = load_run(run)
        assert (before["step"], after["step"]) == (20, 30)

    def test_does_nothing_when_the_time_is_up(self, songs, tmp_path):
        run = tmp_path / "run"
        first = train(songs, run, recipe(10), clock=Clock())
        again = train(songs, run, recipe(10), clock=Clock())
        assert torch.equal(first.strokes.weight, again.strokes.weight)

    def test_returns_what_it_saved(self, songs, tmp_path):
        network = train(songs, tmp_path / "run", recipe(10), clock=Clock())
        loaded, state = load_run(tmp_path / "run")
        assert loaded.hyper_parameters == SIZES
        assert state["recipe"]["crops"] == 4
        bands = torch.rand(1, 50, 81)
        assert torch.allclose(network(bands).logits, loaded(bands).logits)

    def test_starts_from_given_weights(self, songs, tmp_path):
        torch.manual_seed(5)
        begun = DrumNetwork(SIZES)
        network = train(songs, tmp_path / "run", recipe(1, peak_rate=0.0), start_from=begun, clock=Clock())
        assert torch.equal(network.strokes.weight, begun.strokes.weight)

    def test_measures_now_and_then(self, songs, tmp_path):
        measured = []

        def measure(network):
            measured.append(network.training)
            return {"kick": 0.5}

        train(songs, tmp_path / "run", recipe(25, measure_every_s=9.5), measure=measure, clock=Clock())
        assert measured == [False, False]
        assert sum("kick" in line for line in read_log(tmp_path / "run")) == 2


def test_the_rate_warms_up_and_falls_to_zero():
    own = recipe(100, warmup_steps=10, peak_rate=1.0)
    assert _rate(own, 0, 0.0) == pytest.approx(0.1)
    assert _rate(own, 9, 0.0) == pytest.approx(1.0)
    assert _rate(own, 50, 0.5) == pytest.approx(0.5)
    assert _rate(own, 99, 1.0) == pytest.approx(0.0)


class TestLoss:
    @pytest.fixture
    def batch(self):
        targets = torch.zeros(1, 10, len(LABELS))
        targets[0, 5, 0] = 1.0
        levels_db = torch.full_like(targets, float("nan"))
        levels_db[0, 5, 0] = -10.0
        return Batch(torch.zeros(1, 10, 81), targets, levels_db)

    @staticmethod
    def output(batch, logit=9.0, level_db=-10.0):
        logits = torch.where(batch.targets > 0.5, logit, -logit)
        return DrumOutput(logits, torch.full_like(logits, level_db))

    def test_is_small_where_all_is_right(self, batch):
        strokes, levels = loss(self.output(batch), batch)
        assert strokes < 0.01
        assert levels == 0.0

    def test_grows_with_what_is_wrong(self, batch):
        strokes, levels = loss(self.output(batch, logit=-9.0, level_db=-30.0), batch)
        assert strokes > 9
        assert levels == pytest.approx(1.5)  # Huber of 20 dB, in units of 10

    def test_what_is_unknown_teaches_nothing(self, batch):
        right = self.output(batch)
        batch.targets[0, 2, 1] = UNKNOWN
        right.logits[0, 2, 1] = 50.0
        assert loss(right, batch)[0] < 0.01

    def test_music_without_strokes_has_no_levels_to_learn(self, batch):
        batch.levels_db[:] = float("nan")
        batch.targets[:] = 0.0
        strokes, levels = loss(self.output(batch), batch)
        assert torch.isfinite(strokes)
        assert levels == 0.0
