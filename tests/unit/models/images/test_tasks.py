"""What images are classified for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serve_app.models.images import conversion
from serve_app.models.images.conversion import convert
from serve_app.models.images.loading import load_classifier
from serve_app.models.images.options import ClassifierOptions
from serve_app.models.images.quantization import probe_images
from serve_app.models.images.tasks import BEVERAGE, CONTAINER, TASKS, ImageTask
from serve_app.models.weights import EMBEDDED

_MOST_BYTES = 8_000_000


def test_classes_are_in_the_order_of_the_outputs() -> None:
    """The classes of the fixed answers. Not in alphabetical order, as a folder of images would be."""
    assert CONTAINER.classes == ("disposable", "reusable")
    assert BEVERAGE.classes == ("empty", "with_beverage", "unclear")


def test_tasks_are_found_by_name() -> None:
    assert dict(TASKS) == {"container": CONTAINER, "beverage": BEVERAGE}
    with pytest.raises(TypeError):
        TASKS["drums"] = CONTAINER  # type: ignore[index]


def test_the_usual_names_are_the_owners() -> None:
    assert [task.weights_file for task in TASKS.values()] == ["reusable_classifier.pth", "beverage_detector.pth"]


def test_every_task_has_weights_among_the_embedded() -> None:
    names = [task.embedded.removeprefix("embedded:") for task in TASKS.values()]
    assert len(set(names)) == len(names)
    assert set(names) <= set(EMBEDDED)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_embedded_weights_fit_their_task(task: ImageTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "_convert_elsewhere", convert)  # in this process, where torch is loaded already
    options = ClassifierOptions(tmp_path)
    classifier = load_classifier(task.embedded, task, options, keep_last=False)
    assert classifier.facts.classes == task.classes
    probabilities = classifier.engine.probabilities(probe_images())
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-5)
    assert np.ptp(probabilities, axis=0).max() > 0.05  # they look at the image


def test_the_embedded_weights_are_small() -> None:
    paths = [EMBEDDED[task.embedded.removeprefix("embedded:")] for task in TASKS.values()]
    assert sum(path.stat().st_size for path in paths) <= _MOST_BYTES
