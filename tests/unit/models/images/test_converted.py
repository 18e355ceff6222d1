"""The folder of a converted model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from serve_app.errors import ModelLoadingError
from serve_app.models.images.converted import (
    FACTS,
    HEAD,
    Head,
    ModelFacts,
    read_facts,
    read_head,
    read_probe,
    softmax,
    write_arrays,
    write_facts,
)
from tests.unit.models.images.conftest import Finished

MODEL = ModelFacts("resnet50", (512, 7), "gelu", ("ä", "b"), "w.pth", "0123456789abcdef" * 4, ("head fc → 2",), "said")


def test_facts_come_back_as_they_were(tmp_path: Path) -> None:
    write_facts(tmp_path, MODEL)
    assert read_facts(tmp_path) == MODEL


def test_the_version_is_name_and_beginning_of_the_hash() -> None:
    assert MODEL.model_version == "w.pth (01234567)"


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"architecture": "resnet50"}', '{"other": 1}', "\udcff"])
def test_damaged_facts_are_said(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / FACTS).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelLoadingError, match=f"converted model in {tmp_path} is damaged: remove that folder"):
        read_facts(tmp_path)


@pytest.mark.parametrize(
    ("name", "activation"),
    [("relu", nn.ReLU()), ("hardswish", nn.Hardswish()), ("gelu", nn.GELU()), ("none", nn.Identity())],
)
def test_the_head_is_torchs(name: str, activation: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = nn.Sequential(nn.Linear(30, 20), activation, nn.Linear(20, 10), activation, nn.Linear(10, 3))
    layers = [layer for layer in theirs if isinstance(layer, nn.Linear)]
    arrays = {
        f"{number}.{kind}": getattr(layer, kind).detach().numpy()
        for number, layer in enumerate(layers)
        for kind in ("weight", "bias")
    }
    write_arrays(tmp_path / HEAD, arrays)
    head = read_head(tmp_path, name)
    assert [weight.shape for weight in head.weights] == [(20, 30), (10, 20), (3, 10)]
    features = torch.randn(50, 30) * 4
    with torch.no_grad():
        expected = theirs(features).softmax(1).numpy()
    np.testing.assert_allclose(head.probabilities(features.numpy()), expected, atol=1e-5)


def test_a_head_of_one_layer_has_no_activation() -> None:
    head = Head((np.array([[1.0], [-1.0]], np.float32),), (np.zeros(2, np.float32),), "relu")
    [[first, second]] = head.probabilities(np.array([[-3.0]], np.float32))
    assert second / first == pytest.approx(np.exp(6.0), rel=1e-4)


def test_probabilities_stay_float32() -> None:
    for name in ("relu", "hardswish", "gelu", "none"):
        weights = (np.ones((4, 5), np.float32), np.ones((3, 4), np.float32))
        head = Head(weights, (np.zeros(4, np.float32), np.zeros(3, np.float32)), name)
        assert head.probabilities(np.ones((2, 5), np.float32)).dtype == np.float32, name


def test_softmax_of_huge_logits_is_sure() -> None:
    found = softmax(np.array([[1e4, 0.0], [-1e4, -1e4], [0.0, np.log(3.0)]], np.float32))
    np.testing.assert_allclose(found, [[1, 0], [0.5, 0.5], [0.25, 0.75]], atol=1e-6)


def test_arrays_that_are_views_are_kept_right(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)[:, ::-1]
    write_arrays(tmp_path / "probe.safetensors", {"images": images, "probabilities": images.T})
    found, probabilities = read_probe(tmp_path)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(probabilities, images.T)


def test_a_converted_folder_reads_back(finished: Finished) -> None:
    assert read_facts(finished.folder) == finished.facts
    head = read_head(finished.folder, "relu")
    assert [weight.shape for weight in head.weights] == [(256, 576), (3, 256)]
    images, probabilities = read_probe(finished.folder)
    assert images.shape == (len(probabilities), 224, 224, 3)
    assert probabilities.std(0).min() > 0.01  # the network of these tests reacts to its input
