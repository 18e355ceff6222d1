from dataclasses import replace

import pytest
import torch

from serve_app.models.drums.bands import num_bands
from serve_app.models.drums.network import LABELS, DrumNetwork, HyperParameters
from serve_app.results import Drum

SMALL = HyperParameters(conv_channels=(4, 8), width=16, block_width=8, dilations=(1, 3), kernel=3)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return DrumNetwork(SMALL).eval()


def test_says_something_of_each_frame_and_label(network):
    output = network(torch.rand(2, 50, 81))
    assert output.logits.shape == output.levels_db.shape == (2, 50, len(LABELS))


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_takes_pieces_shorter_than_its_context(network, frames):
    assert network(torch.rand(1, frames, 81)).logits.shape == (1, frames, len(LABELS))


def test_the_default_fits_the_front_end_and_knows_every_drum():
    assert HyperParameters().num_bands == num_bands()
    assert set(Drum) <= set(LABELS)


def test_a_frame_depends_on_its_context_alone(network):
    bands, around = torch.rand(1, 60, 81), SMALL.context_frames
    whole = network(bands).logits[0]
    part = network(bands[:, 20:50]).logits[0]
    assert torch.allclose(whole[20 + around : 50 - around], part[around:-around], atol=1e-5)


@pytest.mark.parametrize("sizes", [SMALL, replace(SMALL, dilations=(2, 5), kernel=5)])
def test_the_context_is_no_wider_than_need_be(sizes):
    torch.manual_seed(0)
    network = DrumNetwork(sizes).eval()
    bands = torch.rand(1, 101, 81, requires_grad=True)
    network(bands).logits[0, 50].abs().sum().backward()
    reached = bands.grad[0].abs().sum(dim=1).nonzero().flatten()
    first, last = int(reached[0]), int(reached[-1])
    assert first == 50 - sizes.context_frames
    assert last <= 50 + sizes.context_frames


def test_hears_when_something_begins(network):
    bands = torch.zeros(1, 40, 81)
    silent = network(bands).logits
    bands[:, 20:] = 2.0
    changed = (network(bands).logits - silent).abs().sum(dim=2)[0]
    assert changed[20] > 1e-3
    assert torch.all(changed[: 20 - SMALL.context_frames] == 0)


def test_a_batch_says_of_each_piece_what_it_says_of_it_alone(network):
    pieces = torch.rand(3, 30, 81)
    together = network(pieces)
    for index in range(3):
        alone = network(pieces[index : index + 1])
        assert torch.allclose(together.logits[index], alone.logits[0], atol=1e-5)
        assert torch.allclose(together.levels_db[index], alone.levels_db[0], atol=1e-4)
