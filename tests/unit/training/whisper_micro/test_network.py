import math

import pytest
import torch
from torch.nn import functional as F

from training.whisper_micro.network import MicroWhisper, Sizes, sinusoids

NUM_ROWS, NUM_UNUSED = 1600, 50_000
SIZES = Sizes(d_model=32, heads=2, encoder_layers=2, decoder_layers=2, guided_heads=1)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return MicroWhisper(SIZES, NUM_ROWS, NUM_UNUSED, (7, 5)).eval()


@pytest.fixture(scope="module")
def mels():
    return torch.randn(2, 80, 100, generator=torch.Generator().manual_seed(1))


TOKENS = torch.tensor([[1, 2, 3], [4, 5, 6]])
AT_START = torch.zeros(2, dtype=torch.long)


def test_shapes(network, mels):
    outputs = network(mels, TOKENS, AT_START)
    assert outputs.tokens.shape == (2, 3, NUM_ROWS)
    assert outputs.attention.shape == outputs.attention_before.shape == (2, 1, 3, 50)
    assert [phones.shape for phones in outputs.phones] == [(2, 50, 7), (2, 50, 5)]
    assert torch.allclose(outputs.attention.exp().sum(-1), torch.ones(2, 1, 3), atol=1e-5)


def test_later_tokens_are_not_seen(network, mels):
    first = network(mels, TOKENS, AT_START).tokens
    changed = TOKENS.clone()
    changed[:, 2] = 99
    second = network(mels, changed, AT_START).tokens
    assert torch.allclose(first[:, :2], second[:, :2], atol=1e-5)
    assert not torch.allclose(first[:, 2], second[:, 2], atol=1e-3)


def test_the_offset_moves_the_positions(network, mels):
    late = torch.tensor([0, 700])
    first, second = network(mels, TOKENS, AT_START).tokens, network(mels, TOKENS, late).tokens
    assert torch.allclose(first[0], second[0], atol=1e-5)
    assert not torch.allclose(first[1], second[1], atol=1e-3)


def test_pads_may_reach_beyond_the_last_position(network, mels):
    assert network(mels, TOKENS, torch.tensor([1480, 1499])).tokens.isfinite().all()


def test_guided_layer_computes_what_the_others_do(network, mels):
    attention = network.decoder.layers[0].encoder_attn
    audio = network.encoder(mels, AT_START)
    queries = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(2))
    expected, (actual, logits) = attention(queries, audio), attention.forward_with_logits(queries, audio)
    assert torch.allclose(expected, actual, atol=1e-5)
    assert logits.dtype == torch.float32


def test_the_last_row_stands_for_all_unused_ids(network, mels):
    """The loss over the rows is that over the whole vocabulary in which every unused id has the last row."""
    logits = network(mels, TOKENS, AT_START).tokens
    states, _, _ = network.decoder(TOKENS, network.encoder(mels, AT_START))
    rows = network.decoder.embed_tokens.weight
    whole = torch.cat([rows[:-1], rows[-1].expand(NUM_UNUSED, -1)])
    targets = torch.tensor([[7, 8, 9], [10, 11, 12]])
    expected = F.cross_entropy((states @ whole.T).flatten(0, 1), targets.flatten())
    actual = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    assert actual.item() == pytest.approx(expected.item(), rel=1e-5)
    assert float(network.shares[-1]) == pytest.approx(math.log(NUM_UNUSED))


def test_sinusoids_are_whispers():
    from whisper.model import sinusoids as openais

    assert torch.allclose(sinusoids(1500, 64), openais(1500, 64), atol=1e-5)
