"""`ImageTask`: the classes of a task, in the order of the weights' outputs, and the weights' usual names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ImageTask:
    """One question that is asked of a photograph.

    Attributes:
        name: short name, of commands and answers.
        classes: by output of the network, first to last. Not alphabetical: `ImageFolder` would sort them.
        embedded: spec of the weights that come with serve_app.
        weights_file: what the owners' notebooks call the file.
    """

    name: str
    classes: tuple[str, ...]
    embedded: str
    weights_file: str


CONTAINER = ImageTask(
    "container", ("disposable", "reusable"), "embedded:container-net", weights_file="reusable_classifier.pth"
)
BEVERAGE = ImageTask(
    "beverage", ("empty", "with_beverage", "unclear"), "embedded:beverage-net", weights_file="beverage_detector.pth"
)
TASKS: Mapping[str, ImageTask] = MappingProxyType({task.name: task for task in (CONTAINER, BEVERAGE)})
