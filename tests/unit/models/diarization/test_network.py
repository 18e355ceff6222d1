import pytest
import torch

from serve_app.models.diarization.embedding import NUM_FEATURES, NUM_MELS, load_embedding, weighted_statistics


@pytest.fixture(scope="module")
def network():
    return load_embedding().network


@pytest.fixture
def features():
    return torch.randn(1, 300, NUM_FEATURES, generator=torch.Generator().manual_seed(1))


def _embed(network, features, weights):
    with torch.inference_mode():
        return network(features, weights)[0]


def test_embedding_does_not_depend_on_gain(network, features):
    louder = features.clone()
    louder[..., :NUM_MELS] += 3.0
    weights = torch.ones(1, 300)
    assert torch.allclose(_embed(network, features, weights), _embed(network, louder, weights), atol=1e-3)


def test_frames_of_weight_zero_count_for_nothing_beyond_the_reach_of_the_convolutions(network, features):
    weights = torch.zeros(1, 300)
    weights[:, :150] = 1.0
    changed = features.clone()
    changed[:, 200:] = changed[:, 200:].flip(1)
    assert torch.allclose(_embed(network, features, weights), _embed(network, changed, weights), atol=1e-4)
    everything = torch.ones(1, 300)
    changed[:, 200:, NUM_MELS:] += 1.0
    assert not torch.allclose(_embed(network, features, everything), _embed(network, changed, everything), atol=0.1)


def test_no_weight_at_all_gives_finite_numbers(network, features):
    assert torch.isfinite(_embed(network, features, torch.zeros(1, 300))).all()


def test_weighted_statistics_are_those_of_the_chosen_frames():
    frames = torch.tensor([[[1.0], [3.0], [100.0]]])
    mean, std = weighted_statistics(frames, torch.tensor([[1.0, 1.0, 0.0]]))
    assert mean.item() == pytest.approx(2.0, abs=1e-4)
    assert std.item() == pytest.approx(1.0, abs=1e-3)
