"""`ImageTask`: the classes of a task, in the order of the weights' outputs, and the weights' usual names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ImageTask:
    """A classification of photographs."""

    name: str  # in commands and answers
    classes: tuple[str, ...]  # by output of the network; not alphabetical, as `ImageFolder` would sort them
    embedded: str  # spec of the weights that come with serve_app
    weights_file: str  # its name in the owners' notebooks


CONTAINER = ImageTask(
    "container", ("disposable", "reusable"), "embedded:container-net", weights_file="reusable_classifier.pth"
)
BEVERAGE = ImageTask(
    "beverage", ("empty", "with_beverage", "unclear"), "embedded:beverage-net", weights_file="beverage_detector.pth"
)
TASKS: Mapping[str, ImageTask] = MappingProxyType({task.name: task for task in (CONTAINER, BEVERAGE)})
