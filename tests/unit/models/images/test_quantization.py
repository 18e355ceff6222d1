"""Eight bits: calibrated on an operator's images, and used only if they say the same."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime.quantization
import pytest
import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.images import conversion, quantization
from serve_app.models.images.conversion import convert
from serve_app.models.images.converted import BACKBONE, BACKBONE_INT8, read_probe
from serve_app.models.images.engines import EngineName, Precision
from serve_app.models.images.loading import LoadedClassifier, load_classifier
from serve_app.models.images.options import ClassifierOptions
from serve_app.models.images.preprocessing import read_image
from serve_app.models.images.quantization import calibrated, probe_images
from serve_app.models.images.tasks import BEVERAGE
from tests.unit.models.images.conftest import Finished
from tests.unit.models.images.notebooks import mobilenet, saved
from tests.unit.models.images.pictures import write_photographs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def never(images: np.ndarray) -> np.ndarray:
    return pytest.fail("nothing was to be computed")


def copied(source: str, target: str, *args: object, **options: object) -> None:
    """Quantize nothing, in the place of ONNX Runtime's `quantize_static`."""
    shutil.copy(source, target)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 40 photographs and two files that are none."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, 40)
    (folder / "notes.txt").write_text("taken in the canteen")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A model in 8 bits, loaded as an operator does."""

    spec: str
    options: ClassifierOptions
    classifier: LoadedClassifier
    folder: Path


@pytest.fixture(scope="module")
def calm(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    """Load a network whose probabilities move little, so that 8 bits suffice."""
    folder = tmp_path_factory.mktemp("calm")
    notebook = mobilenet(step=1)
    with torch.no_grad():
        for values in (notebook.classifier[3].weight, notebook.classifier[3].bias):
            values *= 0.01
    weights = folder / "calm.pth"
    weights.write_bytes(saved(notebook.state_dict()))
    options = ClassifierOptions(folder / "cache", precision=Precision.INT8, calibration=str(photographs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "_convert_elsewhere", convert)
        classifier = load_classifier(str(weights), BEVERAGE, options)
    [facts] = (folder / "cache" / "images").glob("*/facts.json")
    return Calibrated(str(weights), options, classifier, facts.parent)


@pytest.mark.slow
def test_eight_bits_that_passed_serve(calm: Calibrated) -> None:
    engine = calm.classifier.engine
    assert (engine.name, engine.precision) == (EngineName.OPENVINO, Precision.INT8)
    assert 0 < calm.classifier.difference <= 0.02
    [note] = calm.classifier.notes
    assert note.startswith("8 bits passed: on 20 images of the calibration folder, 8 bits differ by 0.0")
    assert note == calm.classifier.facts.int8


@pytest.mark.slow
def test_eight_bits_are_smaller(calm: Calibrated) -> None:
    assert (calm.folder / BACKBONE_INT8).stat().st_size < 0.5 * (calm.folder / BACKBONE).stat().st_size


def test_engines_are_tried_on_images_that_nothing_was_fitted_on(calm: Calibrated, photographs: Path) -> None:
    probed, _ = read_probe(calm.folder)
    known = {read_image(path.read_bytes()).tobytes() for path in photographs.glob("0*.jpg")}
    assert len(known) == 40
    assert len(probed) == len({image.tobytes() for image in probed}) == 20
    assert all(image.tobytes() in known for image in probed)


def test_onnx_runtime_runs_the_same_file(calm: Calibrated) -> None:
    classifier = load_classifier(calm.spec, BEVERAGE, replace(calm.options, engine=EngineName.ONNXRUNTIME))
    assert (classifier.engine.name, classifier.engine.precision) == (EngineName.ONNXRUNTIME, Precision.INT8)


def test_without_being_asked_for_mobilenet_stays_in_float32(calm: Calibrated) -> None:
    classifier = load_classifier(calm.spec, BEVERAGE, replace(calm.options, precision=None))
    assert classifier.engine.precision is Precision.FP32


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_eight_bits_that_fail_are_not_used_and_said(
    finished: Finished, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime.quantization, "quantize_static", copied)
    monkeypatch.setattr(quantization, "_MAX_MEAN_DIFFERENCE", -1.0)
    options = ClassifierOptions(tmp_path, precision=Precision.INT8, calibration=str(photographs))
    classifier = load_classifier(str(finished.weights), BEVERAGE, options)
    assert (classifier.engine.name, classifier.engine.precision) == (EngineName.PYTORCH, Precision.FP32)
    assert classifier.notes[0].startswith("8 bits are not used: on 20 images of the calibration folder")
    assert "openvino in int8 was passed over" in classifier.notes[1]
    assert "8 bits need calibration images whose check passed" in classifier.notes[1]
    assert not list(tmp_path.rglob(BACKBONE_INT8))


@pytest.mark.parametrize(
    ("plain", "found", "passes"),
    [
        ([0.9, 0.1, 0.0], [0.9, 0.1, 0.0], True),
        ([0.9, 0.1, 0.0], [0.895, 0.105, 0.0], True),
        ([0.9, 0.1, 0.0], [0.88, 0.12, 0.0], False),  # 0.013 in the mean
        ([0.50, 0.49, 0.01], [0.495, 0.495, 0.01], True),  # in doubt: another class may be found
        ([0.50, 0.495, 0.005], [0.495, 0.50, 0.005], True),
        ([0.61, 0.39, 0.0], [0.39, 0.61, 0.0], False),
    ],
)
def test_what_passes(
    plain: list[float],
    found: list[float],
    passes: bool,
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The quantizer copies the backbone, and the head says what the test wants."""
    shutil.copytree(finished.folder, tmp_path / "folder")
    monkeypatch.setattr(onnxruntime.quantization, "quantize_static", copied)

    class Said:
        def probabilities(self, features: np.ndarray) -> np.ndarray:
            return np.tile(np.array(found, np.float32), (len(features), 1))

    monkeypatch.setattr(quantization, "read_head", lambda folder, activation: Said())
    images = probe_images()[:9]
    said = quantization._quantize_and_check(
        images, images, tmp_path / "folder", lambda seen: np.tile(np.array(plain, np.float32), (len(seen), 1)), "relu"
    )
    assert said.startswith("8 bits passed: on 9 images" if passes else "8 bits are not used: on 9 images")
    assert (tmp_path / "folder" / BACKBONE_INT8).exists() == passes


@pytest.mark.parametrize("count", [32, 33, 37])
def test_any_number_of_images_is_taken_one_by_one(count: int) -> None:
    images = np.arange(count, dtype=np.uint8)[:, None, None, None]
    reader = quantization._Reader(images)
    assert len(reader) == count
    seen: list[int] = []
    for start in range(count):
        reader.set_range(start, start + 1)
        while (batch := reader.get_next()) is not None:
            assert batch["images"].shape == (1, 1, 1, 1)
            seen.append(int(batch["images"][0, 0, 0, 0]))
    assert seen == list(range(count))


@pytest.mark.parametrize("count", [0, 31])
def test_too_few_images_are_said_with_what_to_do(count: int, tmp_path: Path) -> None:
    write_photographs(tmp_path / "few", count)
    (tmp_path / "few" / "sub").mkdir()
    with pytest.raises(ModelLoadingError) as caught:
        calibrated(str(tmp_path / "few"), tmp_path, never, "relu")
    assert caught.value.detail == (
        f"8 bits need at least 32 calibration images, but {tmp_path / 'few'} has {count}: add photographs like those "
        "that will be sent, or leave `calibration` out"
    )


@pytest.mark.usefixtures("here")
def test_an_empty_folder_is_not_taken_for_none(finished: Finished, tmp_path: Path) -> None:
    """Though the same weights were converted without calibration before."""
    options = ClassifierOptions(tmp_path / "cache")
    load_classifier(str(finished.weights), BEVERAGE, options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelLoadingError, match="8 bits need at least 32 calibration images"):
        load_classifier(
            str(finished.weights),
            BEVERAGE,
            ClassifierOptions(tmp_path / "cache", calibration=str(tmp_path / "empty")),
            keep_last=False,
        )


def test_files_that_are_no_pictures_are_left_out_and_logged(
    photographs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = quantization._images(photographs)
    assert images.shape == (40, 224, 224, 3)
    assert "calibration image notes.txt is left out: The file is no picture" in caplog.text
    assert "calibration image broken.jpg is left out: " in caplog.text


def test_the_same_images_are_taken_in_the_same_order(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = quantization._images(photographs)
    np.testing.assert_array_equal(quantization._images(photographs), first)
    by_name = [read_image(path.read_bytes()) for path in sorted(photographs.glob("0*.jpg"))]
    assert not np.array_equal(first, np.stack(by_name))  # shuffled: folders are often sorted by class
    monkeypatch.setattr(quantization, "_MOST", 33)
    assert len(quantization._images(photographs)) == 33


def test_without_calibration_the_made_images_are_the_probe(tmp_path: Path) -> None:
    images, said = calibrated("", tmp_path, never, "relu")
    np.testing.assert_array_equal(images, probe_images())
    assert said == ""
