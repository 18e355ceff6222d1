import math

import pytest
import torch
from torch.nn import functional as F

from training.whisper_micro.batches import Batch
from training.whisper_micro.examples import IGNORED
from training.whisper_micro.losses import guided_attention, looks_before, losses, token_loss
from training.whisper_micro.network import Outputs
from training.whisper_micro.rows import NUM_TIMESTAMPS


def log_attention(rows):
    return torch.tensor(rows).log()[None, None]  # one window, one head


class TestGuidedAttention:
    def test_is_the_logarithm_of_what_lies_within(self):
        attention = log_attention([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]])
        looks = torch.tensor([[[1, 3], [0, 1]]])
        expected = -(math.log(0.5) + math.log(0.25)) / 2
        assert float(guided_attention(attention, looks)) == pytest.approx(expected, rel=1e-5)

    def test_tokens_that_are_heard_nowhere_do_not_count(self):
        attention = log_attention([[0.5, 0.5], [0.9, 0.1]])
        looks = torch.tensor([[[0, 1], [-1, -1]]])
        assert float(guided_attention(attention, looks)) == pytest.approx(-math.log(0.5))

    def test_an_interval_may_reach_beyond_the_window(self):
        attention = log_attention([[0.25, 0.75]])
        assert float(guided_attention(attention, torch.tensor([[[-3, 1]]]))) == pytest.approx(-math.log(0.25))
        assert float(guided_attention(attention, torch.tensor([[[1, 9]]]))) == pytest.approx(-math.log(0.75))

    def test_nothing_to_look_at_costs_nothing_and_has_a_gradient(self):
        scores = torch.zeros(1, 1, 1, 2, requires_grad=True)
        loss = guided_attention(scores.log_softmax(-1), torch.tensor([[[-1, -1]]]))
        loss.backward()
        assert loss.detach().item() == 0.0
        assert not scores.grad.any()

    def test_teaches_to_look_there(self):
        scores = torch.zeros(1, 1, 1, 4, requires_grad=True)
        guided_attention(scores.log_softmax(-1), torch.tensor([[[2, 3]]])).backward()
        assert scores.grad.argmin() == 2
        assert scores.grad[0, 0, 0, 2] < 0 < scores.grad[0, 0, 0, 0]


@pytest.fixture
def batch():
    return Batch(
        mels=torch.zeros(1, 80, 4),
        inputs=torch.tensor([[0, 1, 2]]),
        targets=torch.tensor([[1, IGNORED, 0]]),
        looks=torch.full((1, 3, 2), -1),
        phones=(torch.tensor([[1, 0]]), torch.tensor([[IGNORED, 2]])),
        offsets=torch.zeros(1, dtype=torch.long),
    )


def outputs(tokens, first, second):
    even = torch.full((1, 1, 3, 2), 0.5).log()
    rows = F.pad(torch.tensor([tokens]), (0, NUM_TIMESTAMPS + 1), value=-1e4)  # timestamps, and the row of all others
    return Outputs(rows, even, even, (torch.tensor([first]), torch.tensor([second])))


def test_ignored_targets_do_not_count(batch):
    sure = [[0.0, 50.0, 0.0], [50.0, 0.0, 0.0], [50.0, 0.0, 0.0]]
    each = losses(outputs(sure, [[0.0, 50.0, 0.0]] * 2, [[0.0, 0.0, 50.0]] * 2), batch)
    assert float(each.tokens) == pytest.approx(0.0, abs=1e-6)
    assert float(each.token_accuracy) == 1.0


def test_both_sets_of_sounds_count_by_frames(batch):
    even = [[0.0, 0.0, 0.0]] * 2
    each = losses(outputs([[0.0] * 3] * 3, even, even), batch)
    assert float(each.phones) == pytest.approx(math.log(3))  # three labelled frames, each a third
    assert float(each.tokens) == pytest.approx(math.log(3))


def test_accuracy_of_sounds_leaves_silence_out(batch):
    first = [[0.0, 9.0, 0.0], [0.0, 9.0, 0.0]]  # right on the sound, wrong on the silence
    second = [[9.0, 0.0, 0.0], [9.0, 0.0, 0.0]]  # wrong on its only labelled sound
    assert float(losses(outputs([[0.0] * 3] * 3, first, second), batch).phone_accuracy) == 0.5


def test_total_weighs_the_parts(batch):
    each = losses(outputs([[0.0] * 3] * 3, [[0.0] * 3] * 2, [[0.0] * 3] * 2), batch)
    assert float(each.total(2.0, 5.0)) == pytest.approx(
        3 * math.log(3) + 5 * float(each.attention + each.attention_before)
    )


def test_the_first_layer_looks_where_the_last_one_looked_before():
    looks = torch.tensor([[[1, 3], [4, 6], [-1, -1]]])
    assert looks_before(looks).tolist() == [[[-1, -1], [1, 3], [4, 6]]]


class TestTokenLoss:
    NUM_WORDS = 5
    FIRST = NUM_WORDS
    NUM_ROWS = NUM_WORDS + NUM_TIMESTAMPS + 1

    def sure_of(self, row):
        logits = torch.zeros(1, 1, self.NUM_ROWS)
        logits[0, 0, row] = 20.0
        return logits

    def loss(self, row, target):
        return token_loss(self.sure_of(row), torch.tensor([[target]])).item()

    def test_of_words_is_the_cross_entropy(self):
        logits = torch.randn(2, 3, self.NUM_ROWS, generator=torch.Generator().manual_seed(0))
        targets = torch.tensor([[0, 4, IGNORED], [2, IGNORED, 1]])
        expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        assert token_loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)

    def test_a_neighbour_of_the_timestamp_is_nearly_as_good(self):
        at, near, nearby, far = (self.loss(self.FIRST + row, self.FIRST + 700) for row in (700, 701, 703, 720))
        assert at < near < nearby < far
        assert near - at < 0.3 * (far - at)

    def test_the_best_guess_is_the_timestamp_itself(self):
        logits = torch.zeros(1, 1, self.NUM_ROWS, requires_grad=True)
        token_loss(logits, torch.tensor([[self.FIRST + 700]])).backward()
        assert logits.grad.argmin() == self.FIRST + 700

    def test_the_first_and_the_last_timestamp_have_neighbours_on_one_side(self):
        for row in (0, NUM_TIMESTAMPS - 1):
            logits = torch.zeros(1, 1, self.NUM_ROWS, requires_grad=True)
            token_loss(logits, torch.tensor([[self.FIRST + row]])).backward()
            assert logits.grad.argmin() == self.FIRST + row
            assert logits.grad[0, 0, self.FIRST - 1] > 0  # a word
            assert logits.grad[0, 0, -1] > 0  # the row of unused ids

    def test_timestamps_count_half(self):
        both = torch.cat([self.sure_of(0), self.sure_of(self.FIRST)], dim=1)
        word, stamp = self.loss(0, 1), self.loss(self.FIRST, self.FIRST + 900)
        together = token_loss(both, torch.tensor([[1, self.FIRST + 900]])).item()
        assert together == pytest.approx((word + 0.5 * stamp) / 1.5, rel=1e-4)

    def test_nothing_to_learn_costs_nothing(self):
        assert token_loss(self.sure_of(0), torch.tensor([[IGNORED]])).item() == 0.0
