"""The classifiers as Python classes: what the routes answer, from bytes, paths, files and PIL images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import serve_app
from serve_app.errors import ImageTooLarge, ImageUnreadable, InvalidRequest, ModelLoadingError
from serve_app.models.images import conversion, loading
from serve_app.models.images.conversion import convert
from serve_app.models.images.speed import Measured
from tests.unit.models.images.pictures import encoded, quarters

FIELDS = {
    "ReusableClassifierInference": ["is_reusable", "confidence", "predicted_class", "probabilities", "message"],
    "BeverageDetectorInference": [
        "has_beverage",
        "confidence",
        "predicted_class",
        "is_valid",
        "probabilities",
        "message",
    ],
}
CLASSES = {
    "ReusableClassifierInference": ["disposable", "reusable"],
    "BeverageDetectorInference": ["empty", "with_beverage", "unclear"],
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVE_APP_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        patch.setenv("SERVE_APP_MAX_IMAGE_PIXELS", "1000000")
        patch.setattr(loading, "measured", lambda folder, cores: Measured())
        patch.setattr(conversion, "_convert_elsewhere", convert)  # here: the other process would load torch again
        made: dict[str, Any] = {}
        yield lambda name: made.setdefault(name, getattr(serve_app, name)())


def picture() -> Image.Image:
    return quarters(320, 240)


@pytest.mark.parametrize("name", list(FIELDS))
def test_every_form_of_a_picture_has_the_contracts_answer(
    name: str, make: Callable[[str], Any], tmp_path: Path
) -> None:
    classifier = make(name)
    data = encoded(picture(), "PNG")
    path = tmp_path / "컵.png"
    path.write_bytes(data)
    opened = Image.open(path)
    with path.open("rb") as file:
        answers = [
            classifier.predict(each)
            for each in (data, bytearray(data), memoryview(data), path, str(path), file, io.BytesIO(data), opened)
        ]
    answers.append(classifier.predict(picture()))
    assert all(answer == answers[0] for answer in answers)
    assert list(answers[0]) == FIELDS[name]
    assert list(answers[0]["probabilities"]) == CLASSES[name]
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert answers[0]["confidence"] == max(answers[0]["probabilities"].values())
    assert "(" in classifier.model_version


def test_a_pil_image_is_turned_and_flattened_like_its_file_and_stays_as_it_is(make: Callable[[str], Any]) -> None:
    classifier = make("ReusableClassifierInference")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned, transparent = io.BytesIO(), picture().convert("RGBA")
    picture().save(turned, "PNG", exif=exif)
    transparent.putalpha(90)
    for image in (Image.open(turned), transparent, picture().convert("L"), picture().convert("P")):
        file = io.BytesIO()
        image.save(file, "PNG", exif=image.getexif())
        before = (image.size, image.mode, image.getexif().get(0x0112))
        assert classifier.predict(image) == classifier.predict(file.getvalue())
        assert (image.size, image.mode, image.getexif().get(0x0112)) == before


def test_the_threshold_counts(make: Callable[[str], Any]) -> None:
    detector = make("BeverageDetectorInference")
    answer = detector.predict(picture(), confidence_threshold=0.0)
    assert answer["is_valid"] == answer["has_beverage"]
    assert detector.predict(picture(), confidence_threshold=1.0)["is_valid"] is False


def test_what_is_no_picture(make: Callable[[str], Any], tmp_path: Path) -> None:
    classifier = make("ReusableClassifierInference")
    with pytest.raises(ImageUnreadable):
        classifier.predict(b"no picture")
    for large in (encoded(Image.new("RGB", (1001, 1000)), "PNG"), Image.new("RGB", (1001, 1000))):
        with pytest.raises(ImageTooLarge, match="more than 1 million pixels"):
            classifier.predict(large)
    with pytest.raises(FileNotFoundError):
        classifier.predict(tmp_path / "none.jpg")
    with pytest.raises(InvalidRequest, match="not list"):
        classifier.predict([1, 2])


@pytest.mark.usefixtures("make")
def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match="There is no file"):
        serve_app.ReusableClassifierInference(tmp_path / "none.pth")
