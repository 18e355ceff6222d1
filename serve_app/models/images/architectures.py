"""Backbones and heads, by name; `networks` builds them. Imports nothing heavy."""

from __future__ import annotations

from enum import StrEnum


class Architecture(StrEnum):
    """A backbone, by torchvision's name."""

    RESNET50 = "resnet50"
    MOBILENET_V3_SMALL = "mobilenet_v3_small"


class Activation(StrEnum):
    """What stands between the head's layers; a state_dict does not tell."""

    RELU = "relu"
    HARDSWISH = "hardswish"
    GELU = "gelu"
    NONE = "none"


NUM_FEATURES = {Architecture.RESNET50: 2048, Architecture.MOBILENET_V3_SMALL: 576}
HIDDEN_WIDTH = {Architecture.RESNET50: 512, Architecture.MOBILENET_V3_SMALL: 256}
# what torchvision calls its own head, which ours stands in for
HEAD_NAME = {Architecture.RESNET50: "fc", Architecture.MOBILENET_V3_SMALL: "classifier"}
