"""Backbones and heads, by name; `networks` builds them. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Architecture(StrEnum):
    """A backbone, by torchvision's name."""

    RESNET50 = "resnet50"
    MOBILENET_V3_SMALL = "mobilenet_v3_small"


class Activation(StrEnum):
    """The function between the head's layers; a state_dict does not hold it."""

    RELU = "relu"
    HARDSWISH = "hardswish"
    GELU = "gelu"
    NONE = "none"


NUM_FEATURES = {Architecture.RESNET50: 2048, Architecture.MOBILENET_V3_SMALL: 576}
HIDDEN_WIDTH = {Architecture.RESNET50: 512, Architecture.MOBILENET_V3_SMALL: 256}
# torchvision's name of its own head, which ours replaces
HEAD_NAME = {Architecture.RESNET50: "fc", Architecture.MOBILENET_V3_SMALL: "classifier"}

_TORCHVISION_HIDDEN_WIDTH = 1024  # of MobileNetV3-Small


def default_activation(architecture: Architecture, hidden_widths: Sequence[int]) -> Activation:
    """Return the activation that a head's shape suggests: ReLU, as in the owners' notebooks.

    Torchvision's own head of MobileNetV3-Small, FC(576→1024→…), has Hardswish; a notebook that replaces its last layer
    keeps it.
    """
    own = architecture is Architecture.MOBILENET_V3_SMALL and list(hidden_widths) == [_TORCHVISION_HIDDEN_WIDTH]
    return Activation.HARDSWISH if own else Activation.RELU
