import stat
from urllib.error import URLError

import pytest
import safetensors
import torch
from torchvision import models

from serve_app.models.images.architectures import Architecture
from serve_app.models.images.networks import build_network
from serve_app.models.images.tasks import BEVERAGE
from training.images.weights import WeightsUnfit, initialise, save

_SMALL = Architecture.MOBILENET_V3_SMALL


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(_SMALL, 3)


def test_a_pth_is_a_plain_state_dict(network, tmp_path):
    save(network, tmp_path / "new" / "beverage_detector.pth", BEVERAGE.classes)
    state = torch.load(tmp_path / "new" / "beverage_detector.pth", weights_only=True)
    again = build_network(_SMALL, 3)
    again.load_state_dict(state, strict=True)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in again.state_dict().items())


def test_a_safetensors_file_names_its_classes_and_may_be_half(network, tmp_path):
    path = tmp_path / "net.safetensors"
    save(network, path, BEVERAGE.classes, half=True)
    with safetensors.safe_open(path, "pt") as opened:
        assert opened.metadata()["classes"] == "empty,with_beverage,unclear"
        assert opened.get_tensor("classifier.0.weight").dtype == torch.float16
    assert path.stat().st_size < 3.5e6
    assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044


def test_a_failed_write_leaves_the_old_file(network, tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save(network, path, BEVERAGE.classes)
    assert path.read_bytes() == b"old"


def test_begins_with_a_whole_state_dict(network, tmp_path):
    save(network, tmp_path / "net.pth", BEVERAGE.classes)
    fresh = build_network(_SMALL, 3)
    assert "head included" in initialise(fresh, _SMALL, str(tmp_path / "net.pth"), BEVERAGE.classes)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "backbone.", "module."])
def test_begins_with_a_backbone_under_another_head(tmp_path, prefix):
    given = models.mobilenet_v3_small(weights=None, num_classes=7)
    torch.save({prefix + name: value for name, value in given.state_dict().items()}, tmp_path / "imagenet.pth")
    fresh = build_network(_SMALL, 3)
    head = fresh.classifier[0].weight.clone()
    assert "backbone" in initialise(fresh, _SMALL, str(tmp_path / "imagenet.pth"), BEVERAGE.classes)
    assert torch.equal(fresh.features[0][0].weight, given.features[0][0].weight)
    assert torch.equal(fresh.classifier[0].weight, head)


def test_another_backbone_is_told(network, tmp_path):
    save(network, tmp_path / "net.pth", BEVERAGE.classes)
    with pytest.raises(WeightsUnfit, match="mobilenet_v3_small, not a resnet50"):
        initialise(
            build_network(Architecture.RESNET50, 3), Architecture.RESNET50, str(tmp_path / "net.pth"), BEVERAGE.classes
        )


def test_what_is_no_file_of_weights_is_told(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    fresh = build_network(_SMALL, 3)
    for init in (str(tmp_path / "text.pth"), str(tmp_path / "gone.pth"), "imagnet"):
        with pytest.raises(WeightsUnfit, match="none, imagenet, or a file"):
            initialise(fresh, _SMALL, init, BEVERAGE.classes)


def test_a_failed_download_says_what_to_do(monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(WeightsUnfit, match=r"no route to host.*--init PATH"):
        initialise(build_network(_SMALL, 3), _SMALL, "imagenet", BEVERAGE.classes)
