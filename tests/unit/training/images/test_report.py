import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.images.report import Measured, figures, warnings, write

_CLASSES = ("empty", "with_beverage", "unclear")


@pytest.fixture
def measured():
    """Three right, one wrong and sure."""
    logits = np.log(np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9], [0.02, 0.97, 0.01]]))
    return Measured(logits, np.array([0, 1, 2, 0]), [Path(f"{index}.jpg") for index in range(4)])


def test_figures_of_a_worked_example(measured):
    found = figures(measured, _CLASSES)
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert found["classes"]["empty"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert found["cross_entropy"] == pytest.approx(-np.log([0.8, 0.8, 0.9, 0.02]).mean())
    assert found["worst_mistakes"] == [{"file": "3.jpg", "is": "empty", "said": "with_beverage", "confidence": 0.97}]


def test_the_checklist_warns():
    few = {"train": {"empty": 80, "unclear": 150}, "val": {"empty": 19, "unclear": 30}, "held_out": {"empty": 500}}
    told = warnings(few, 0.899)
    assert len(told) == 2
    assert "empty has 99" in told[0]
    assert "unclear" not in told[0]
    assert "89.9%" in told[1]


def test_the_checklist_is_content():
    assert warnings({"train": {"empty": 80}, "val": {"empty": 20}}, 0.9) == []


def test_writes_all_files(measured, tmp_path):
    facts = {
        "task": "beverage",
        "backbone": "mobilenet_v3_small",
        "command": "python -m training.images --seed 7",
        "seed": 7,
        "warnings": ["validation accuracy is 75.0%"],
        "pictures": {"train": dict.fromkeys(_CLASSES, 9), "val": dict.fromkeys(_CLASSES, 1)},
        "unreadable": {"broken.jpg": "no picture"},
    }
    write(tmp_path / "report", facts, {"val": measured}, _CLASSES)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["parts"]["val"]["accuracy"] == 0.75
    text = (tmp_path / "report" / "report.md").read_text()
    for expected in ("**Warning**: validation accuracy", "--seed 7", "broken.jpg: no picture", "3.jpg: empty"):
        assert expected in text
    for name in ("confusion-val.png", "reliability-val.png"):
        with Image.open(tmp_path / "report" / name) as picture:
            assert picture.format == "PNG"
            assert len(picture.convert("L").getcolors()) > 10
