"""Networks from pixels on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from serve_app.models.images.converted import ModelFacts
from serve_app.models.images.networks import PixelNetwork, converted_network
from serve_app.models.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from serve_app.models.images.state_dict import fit_weights
from serve_app.models.images.weights_file import StoredWeights
from tests.unit.models.images.notebooks import BEVERAGES, images, logits, mobilenet
from tests.unit.models.images.pictures import noise


def theirs(image: Image.Image) -> torch.Tensor:
    """Return what ToTensor and Normalize make of a picture."""
    steps = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    return transforms.Compose(steps)(image)


def test_pixels_are_normalised_as_torchvision_does() -> None:
    pictures = [noise(224, 224, seed) for seed in (1, 2)]
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    expected = torch.stack([theirs(picture) for picture in pictures])
    assert torch.equal(PixelNetwork(nn.Identity())(pixels), expected)


def test_only_what_follows_the_normalisation_is_rounded() -> None:
    picture = noise(224, 224)
    pixels = torch.from_numpy(np.asarray(picture)[None].copy())
    found = PixelNetwork(nn.Identity(), torch.bfloat16)(pixels)
    assert torch.equal(found, theirs(picture)[None].bfloat16())


@pytest.fixture(scope="module")
def notebook() -> nn.Module:
    return mobilenet()


@pytest.fixture(scope="module")
def facts_and_state(notebook: nn.Module) -> tuple[ModelFacts, dict[str, torch.Tensor]]:
    fitted = fit_weights(StoredWeights(dict(notebook.state_dict()), None), BEVERAGES)
    facts = ModelFacts("mobilenet_v3_small", (256,), "relu", BEVERAGES, "w.pth", "0" * 64, ())
    return facts, fitted.state


def test_a_converted_network_is_the_notebooks(
    notebook: nn.Module, facts_and_state: tuple[ModelFacts, dict[str, torch.Tensor]]
) -> None:
    network = converted_network(*facts_and_state, with_head=True)
    assert not any(module.training for module in network.modules())
    torch.testing.assert_close(logits(network), logits(notebook), rtol=0, atol=1e-5)


def test_without_its_head_it_gives_features(
    notebook: nn.Module, facts_and_state: tuple[ModelFacts, dict[str, torch.Tensor]]
) -> None:
    features = logits(converted_network(*facts_and_state))
    assert features.shape == (2, 576)
    with torch.inference_mode():
        torch.testing.assert_close(notebook.classifier(features), notebook(images()), rtol=0, atol=1e-5)
