import pytest
import torch

from serve_app.models.drums.bands import num_bands
from serve_app.models.drums.network import LABELS, DrumNetwork, HyperParameters
from serve_app.results import Drum

SMALL = HyperParameters(conv_channels=(4, 8), width=16, block_width=8, dilations=(1, 3), kernel=3, gru_width=8)


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


def remember_for_long(network):
    """Let the GRU keep nearly all that it knows from frame to frame, and have its say."""
    width = network.hyper_parameters.gru_width
    with torch.no_grad():
        for name in ("bias_ih_l0", "bias_ih_l0_reverse"):
            getattr(network.gru, name)[width : 2 * width] = 6.0  # of the update gate
        network.follow.weight.normal_()


def test_pieces_cut_where_the_gru_begins_anew_get_the_answers_of_the_whole():
    torch.manual_seed(0)
    network, bands = DrumNetwork().eval(), torch.rand(1, 2500, 81)
    remember_for_long(network)
    with torch.inference_mode():
        whole = network(bands).logits[0]
        middle = network(bands[:, 600:2400]).logits[0]
        assert (middle[300:-300] - whole[900:2100]).abs().max() < 1e-4
        assert (middle[:20] - whole[600:620]).abs().max() > 1e-2  # at its ends it can't know
        shifted = network(bands[:, 500:2400]).logits[0]
        assert (shifted[400:-300] - whole[900:2100]).abs().max() > 1e-4  # not just anywhere


def test_training_follows_a_crop_in_one_go():
    torch.manual_seed(0)
    network, x = DrumNetwork(SMALL), torch.rand(1, 800, 16)
    remember_for_long(network)
    in_one_go = network.train()._followed(x)
    assert torch.equal(in_one_go, network.gru(x)[0])
    assert (network.eval()._followed(x) - in_one_go).abs().max() > 1e-2


@pytest.mark.parametrize("changed", [18, 42])
def test_the_gru_looks_both_ways_beyond_the_convolutions(network, changed):
    bands = torch.rand(1, 60, 81)
    before = network(bands).logits[0, 30]
    bands[0, changed] = 0.0
    assert (network(bands).logits[0, 30] - before).abs().max() > 0


def test_hears_when_something_begins(network):
    bands = torch.zeros(1, 40, 81)
    silent = network(bands).logits
    bands[:, 20:] = 2.0
    changed = (network(bands).logits - silent).abs().sum(dim=2)[0]
    assert changed[20] > 1e-3
    assert changed[0] < changed[20] / 10


def test_a_batch_says_of_each_piece_what_it_says_of_it_alone(network):
    pieces = torch.rand(3, 30, 81)
    together = network(pieces)
    for index in range(3):
        alone = network(pieces[index : index + 1])
        assert torch.allclose(together.logits[index], alone.logits[0], atol=1e-5)
        assert torch.allclose(together.levels_db[index], alone.levels_db[0], atol=1e-4)
