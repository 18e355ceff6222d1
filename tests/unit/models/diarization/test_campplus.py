import os
import pickle

import pytest
import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.diarization.campplus import CamPlusPlus, CamShape, filter_banks, load_campplus

SMALL = CamShape(head_channels=4, initial_channels=8, growth=4, layers=(2, 1), dilations=(1, 2), dimension=6)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = CamPlusPlus(SMALL)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture
def checkpoint(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "campplus.pt")
    return tmp_path / "campplus.pt"


def test_the_published_sizes_are_those_of_the_published_checkpoint():
    state = CamPlusPlus().state_dict()
    assert len(state) == 937
    assert sum(tensor.numel() for tensor in state.values()) == 6_930_842
    assert state["xvector.block2.tdnnd24.nonlinear1.batchnorm.weight"].shape == (992,)
    assert state["xvector.block3.tdnnd16.cam_layer.linear1.weight"].shape == (64, 128, 1)
    assert state["xvector.dense.linear.weight"].shape == (192, 1024, 1)
    assert "xvector.dense.nonlinear.batchnorm.weight" not in state


def test_what_is_stored_comes_back(network, checkpoint):
    features = torch.randn(3, 120, 80)
    with torch.inference_mode():
        assert torch.equal(load_campplus(checkpoint, SMALL)(features), network(features))


def test_one_by_one_is_the_same_as_in_a_batch(network):
    features = torch.randn(5, 230, 80)
    with torch.inference_mode():
        together = network(features)
        alone = torch.cat([network(row[None]) for row in features])
    assert together.shape == (5, 6)
    assert torch.allclose(together, alone, atol=1e-5)


def test_vectors_have_no_sign_cut_off(network):
    """Some ports put a ReLU behind the last normalization; the published network has none."""
    with torch.inference_mode():
        vectors = network(torch.randn(8, 100, 80))
    assert (vectors < 0).any()
    assert (vectors > 0).any()


def test_a_mask_is_the_mean_of_all_and_of_its_own_two_seconds(network):
    """As in the published code: there, means of 100 frames are repeated for each of their frames."""
    layer = network.xvector.block1["tdnnd1"].cam_layer
    x = torch.randn(2, 16, 250)
    with torch.inference_mode():
        parts = [x[..., first : first + 100] for first in (0, 100, 200)]
        means = torch.cat([part.mean(dim=2, keepdim=True).expand_as(part) for part in parts], dim=2)
        context = x.mean(dim=2, keepdim=True) + means
        mask = torch.sigmoid(layer.linear2(torch.relu(layer.linear1(context))))
        assert torch.allclose(layer(x), layer.linear_local(x) * mask, atol=1e-6)


def test_too_few_frames_are_refused(network):
    with pytest.raises(ValueError, match="4 frames"):
        network(torch.randn(1, 3, 80))
    with torch.inference_mode():
        assert torch.isfinite(network(torch.randn(1, 4, 80))).all()


def test_a_part_that_begins_on_a_frame_has_the_frames_of_the_whole():
    samples = torch.randn(16_000, generator=torch.Generator().manual_seed(1)) * 0.1
    whole = filter_banks(samples)
    assert whole.shape == (98, 80)
    assert torch.allclose(filter_banks(samples[3200:]), whole[20:], atol=1e-3)


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("writer", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_checkpoint_does_not_run(tmp_path, writer):
    writer({"head.conv1.weight": _Bomb(str(tmp_path / "it_ran"))}, tmp_path / "bomb.pt")
    with pytest.raises(ModelLoadingError, match=r"bomb\.pt"):
        load_campplus(tmp_path / "bomb.pt")
    assert not (tmp_path / "it_ran").exists()


def test_a_missing_file_is_a_loading_error(tmp_path):
    with pytest.raises(ModelLoadingError, match="nothing"):
        load_campplus(tmp_path / "nothing.pt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_file_that_is_cut_off_is_a_loading_error(checkpoint, share):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelLoadingError, match="Fetch the file again"):
        load_campplus(checkpoint, SMALL)


def test_damaged_numbers_are_a_loading_error(network, checkpoint):
    state = network.state_dict()
    state["xvector.dense.linear.weight"][0, 0, 0] = torch.nan
    torch.save(state, checkpoint)
    with pytest.raises(ModelLoadingError, match="not finite"):
        load_campplus(checkpoint, SMALL)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("head.bn1.weight"), "Missing key"),
        (lambda state: state.update(more=torch.zeros(1)), "Unexpected key"),
        (lambda state: state.update({"head.bn1.weight": torch.zeros(5)}), "size mismatch"),
        (lambda state: state.update({"head.bn1.weight": "a text"}), "no table of tensors"),
    ],
)
def test_another_network_is_a_loading_error(network, checkpoint, change, reason):
    state = network.state_dict()
    change(state)
    torch.save(state, checkpoint)
    with pytest.raises(ModelLoadingError, match=reason):
        load_campplus(checkpoint, SMALL)


def test_a_tensor_alone_is_no_checkpoint(checkpoint):
    torch.save(torch.zeros(3), checkpoint)
    with pytest.raises(ModelLoadingError, match="no table of tensors"):
        load_campplus(checkpoint, SMALL)
