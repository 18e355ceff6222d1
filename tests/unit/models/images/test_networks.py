"""Networks: torchvision's backbones with the notebooks' heads."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torchvision import models

from serve_app.models.images.architectures import HEAD_NAME, HIDDEN_WIDTH, NUM_FEATURES, Activation, Architecture
from serve_app.models.images.networks import backbone_shapes, build_network


def on_meta(architecture: Architecture, num_classes: int = 2, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build_network(architecture, num_classes, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("architecture", "num_classes", "widths"),
    [(Architecture.RESNET50, 2, (2048, 512, 2)), (Architecture.MOBILENET_V3_SMALL, 3, (576, 256, 3))],
)
def test_heads_are_the_notebooks(architecture: Architecture, num_classes: int, widths: tuple[int, ...]) -> None:
    state = on_meta(architecture, num_classes).state_dict()
    head = {name: tuple(value.shape) for name, value in state.items() if name.startswith(f"{HEAD_NAME[architecture]}.")}
    assert head == {
        f"{HEAD_NAME[architecture]}.{number * 3}.{kind}": shape
        for number, (num_in, num_out) in enumerate(pairwise(widths))
        for kind, shape in (("weight", (num_out, num_in)), ("bias", (num_out,)))
    }


@pytest.mark.parametrize("architecture", list(Architecture))
def test_the_backbone_has_torchvisions_names(architecture: Architecture) -> None:
    with torch.device("meta"):
        theirs = getattr(models, architecture.value)(weights=None).state_dict()
    ours = on_meta(architecture).state_dict()
    head = HEAD_NAME[architecture]
    assert [name for name in theirs if not name.startswith(head)] == [
        name for name in ours if not name.startswith(head)
    ]


@pytest.mark.parametrize(
    ("architecture", "count"), [(Architecture.RESNET50, 265), (Architecture.MOBILENET_V3_SMALL, 206)]
)
def test_the_backbones_shapes_leave_out_head_and_counters(architecture: Architecture, count: int) -> None:
    shapes = backbone_shapes(architecture)
    state = on_meta(architecture).state_dict()
    assert not [name for name in shapes if name.startswith(HEAD_NAME[architecture]) or "num_batches" in name]
    assert {name: state[name].shape for name in shapes} == shapes
    assert len(shapes) == count


@pytest.mark.parametrize("architecture", list(Architecture))
def test_features_and_widths_are_those_of_torchvision(architecture: Architecture) -> None:
    with torch.device("meta"):
        network = getattr(models, architecture.value)(weights=None)
    head = getattr(network, HEAD_NAME[architecture])
    first = next(module for module in head.modules() if isinstance(module, nn.Linear))
    assert first.in_features == NUM_FEATURES[architecture]
    assert getattr(on_meta(architecture), HEAD_NAME[architecture])[0].out_features == HIDDEN_WIDTH[architecture]


@pytest.mark.parametrize("widths", [(), (7,), (9, 8)])
def test_heads_of_other_widths(widths: tuple[int, ...]) -> None:
    head = on_meta(Architecture.MOBILENET_V3_SMALL, 3, hidden_widths=widths).classifier
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in linear] == [576, *widths]
    assert [layer.out_features for layer in linear] == [*widths, 3]
    assert len(head) == 3 * len(widths) + 1


@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        (Activation.RELU, nn.ReLU),
        (Activation.HARDSWISH, nn.Hardswish),
        (Activation.GELU, nn.GELU),
        (Activation.NONE, nn.Identity),
    ],
)
def test_every_activation_stands_between_the_layers(activation: Activation, kind: type[nn.Module]) -> None:
    head = on_meta(Architecture.RESNET50, activation=activation, dropout=0.4).fc
    assert [type(layer) for layer in head] == [nn.Linear, kind, nn.Dropout, nn.Linear]
    assert head[2].p == 0.4


def test_logits_come_by_class() -> None:
    network = build_network(Architecture.MOBILENET_V3_SMALL, 3).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 3, 64, 64)).shape == (2, 3)
