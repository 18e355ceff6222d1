import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.training.whisper_micro.made_speech import made_speech
from training.whisper_micro import corpus
from training.whisper_micro.corpus import Pool
from training.whisper_micro.examples import learn_phones
from training.whisper_micro.network import Sizes
from training.whisper_micro.train import Recipe, _rate, train

pytestmark = pytest.mark.slow  # trains; what is served does not depend on it

SIZES = Sizes(d_model=32, heads=2, encoder_layers=1, decoder_layers=1)
STEP_S = 1.0  # by the clock of these tests
RECIPE = Recipe(warmup_steps=5, sizes=SIZES, log_every=5)
TEXTS = ("hello daniel", "good morning", "the red cup", "안녕하세요 오늘", "커피 두 잔 주세요")


@pytest.fixture
def pool(tmp_path):
    folder = tmp_path / "pool"
    folder.mkdir()
    speeches = [made_speech(text, "ko" if text[0] > "z" else "en") for text in TEXTS]
    corpus._write(folder, 0, speeches)
    return folder


def read_log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        self.now_s += STEP_S
        return self.now_s


class TestPool:
    def test_returns_what_was_written(self, pool):
        rng = np.random.default_rng(0)
        drawn = [next(Pool(pool).draw(rng, "ko")) for _ in range(20)]
        assert {speech.text for speech in drawn} == {text for text in TEXTS if text[0] > "z"}
        expected = {text: made_speech(text, "ko") for text in TEXTS}
        for speech in drawn:
            assert speech.words == expected[speech.text].words
            assert np.allclose(speech.samples, expected[speech.text].samples, atol=1e-4)

    def test_finds_shards_that_come_later(self, pool):
        opened = Pool(pool)
        corpus._write(pool, 1, [made_speech("five minutes")])
        assert "five minutes" not in {speech.text for speech in opened.speeches()}
        opened.refresh()
        assert [speech.text for speech in opened.speeches()].count("five minutes") == 1

    def test_a_shard_that_is_being_written_is_not_seen(self, pool):
        (pool / "0001.part").write_bytes(pickle.dumps(([], [])))
        assert len(list(Pool(pool).speeches())) == len(TEXTS)

    def test_numbers_its_sounds_from_one(self, pool):
        assert learn_phones(Pool(pool)) == {"espeak": {"a": 1, "b": 2}, "cmu": {}}


def run_for(minutes, pool, run):
    train(pool, run, replace(RECIPE, minutes=minutes), workers=0, clock=Clock())
    return torch.load(run / "state.pt", weights_only=True)


class TestTrain:
    def test_leaves_a_checkpoint_and_a_log(self, pool, tmp_path):
        state = run_for(0.25, pool, tmp_path / "run")
        assert state["spent_s"] == pytest.approx(15, abs=3 * STEP_S)
        assert state["sizes"]["d_model"] == 32
        assert state["phones"]["espeak"] == {"a": 1, "b": 2}
        assert read_log(tmp_path / "run")[0]["step"] == 5

    def test_goes_on_where_it_was(self, pool, tmp_path):
        before = run_for(0.25, pool, tmp_path / "run")
        after = run_for(0.5, pool, tmp_path / "run")
        assert after["step"] > before["step"] > 0
        assert after["spent_s"] == pytest.approx(30, abs=5 * STEP_S)
        moments = after["optimizer"]["state"][0]["step"]
        assert float(moments) == after["step"]  # the optimiser's memory went on as well

    def test_does_nothing_once_the_time_is_spent(self, pool, tmp_path):
        before = run_for(0.25, pool, tmp_path / "run")
        after = run_for(0.25, pool, tmp_path / "run")
        assert after["step"] == before["step"]

    @pytest.mark.slow
    def test_learns(self, pool, tmp_path):
        run_for(2.0, pool, tmp_path / "run")
        log = read_log(tmp_path / "run")
        assert log[-1]["tokens"] < 0.8 * log[0]["tokens"]


def test_rate_warms_up_and_falls_to_nothing():
    recipe = Recipe(peak_rate=1.0, warmup_steps=10, held_rate=0.3, decay=0.2)
    assert _rate(recipe, 0, 0.0) == pytest.approx(0.1)
    assert _rate(recipe, 9, 0.0) == pytest.approx(1.0)
    assert _rate(recipe, 500, 0.5) == pytest.approx(0.5)
    assert _rate(recipe, 700, 0.79) == pytest.approx(0.3)
    assert _rate(recipe, 800, 0.9) == pytest.approx(0.15)
    assert _rate(recipe, 900, 1.0) == pytest.approx(0.0, abs=1e-9)
