import numpy as np
import pytest
import torch

from tests.unit.training.whisper_micro.made_speech import made_speech
from training.whisper_micro.batches import Mixture, by_length, collate
from training.whisper_micro.examples import IGNORED, ExampleMaker
from training.whisper_micro.rows import Rows
from training.whisper_micro.windows import Layout, lay

LAYOUT = Layout(lead_s=(0.2, 0.2), gap_s=(0.4, 0.4), trail_s=(0.2, 0.2))


@pytest.fixture(scope="module")
def maker():
    return ExampleMaker(Rows(), {"espeak": {"a": 1, "b": 2}, "cmu": {}})


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class TestBatches:
    def test_of_equal_length_within_the_budget(self, maker, rng):
        made = [maker.make(rng, lay(rng, [made_speech("hello " * num)], LAYOUT)) for num in (9, 1, 5, 2, 9, 1)]
        groups = by_length(made, 700)
        assert sum(map(len, groups)) == len(made)
        assert all(len(group) * max(each.mels.shape[1] for each in group) <= 700 for group in groups)
        lengths = [each.mels.shape[1] for group in groups for each in group]
        assert lengths == sorted(lengths)

    def test_pad_with_both_values_that_users_pad_with(self, maker, rng):
        example = maker.make(rng, lay(rng, [made_speech("hello")], LAYOUT))
        end = example.mels.shape[1]
        pads = {float(collate(rng, [example], "full").mels[0, 0, end + 10]) for _ in range(40)}
        assert sorted(pads) == pytest.approx(sorted([0.0, float(example.mels.max()) - 2.0]))

    def test_full_ones_are_thirty_seconds(self, maker, rng):
        example = maker.make(rng, lay(rng, [made_speech("hello")], LAYOUT))
        batch = collate(rng, [example], "full")
        assert batch.mels.shape == (1, 80, 3000)
        assert batch.phones[0].shape == (1, 1500)
        assert (batch.phones[0][0, -100:] == IGNORED).all()

    def test_shorter_ones_end_where_the_longest_does(self, maker, rng):
        short, long = (maker.make(rng, lay(rng, [made_speech("hello " * num)], LAYOUT)) for num in (1, 4))
        batch = collate(rng, [short, long], "short")
        assert batch.mels.shape[2] == long.mels.shape[1]
        assert (batch.targets[0, short.targets.size :] == IGNORED).all()
        assert (batch.looks[0, short.looks.shape[0] :] == -1).all()
        assert torch.equal(batch.inputs[1], torch.from_numpy(long.inputs))


def test_mixture_follows_its_shares(rng):
    mixture = Mixture()
    for progress in (0.0, 0.5, 1.0):
        shares = next(shares for until, shares in mixture.stages if progress < until)
        assert sum(shares.values()) == pytest.approx(1.0)
        drawn = [mixture.draw(rng, progress) for _ in range(3000)]
        for shape, share in shares.items():
            assert drawn.count(shape) / 3000 == pytest.approx(share, abs=0.04)
