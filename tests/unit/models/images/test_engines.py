"""Engines: each says what PyTorch says of plain torchvision preprocessing."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from serve_app.errors import ModelLoadingError, ProcessingError
from serve_app.models.images import engines
from serve_app.models.images.converted import BACKBONE, HEAD
from serve_app.models.images.engines import Engine, EngineName, Layout, Precision, has_bfloat16, open_engine
from serve_app.models.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, read_image
from tests.unit.models.images.conftest import Finished
from tests.unit.models.images.pictures import encoded, write_photographs

NOTEBOOK = transforms.Compose(
    [
        transforms.Resize(224),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, 4)
    square = [path.read_bytes() for path in sorted(folder.iterdir())]
    wide = Image.open(io.BytesIO(square[0])).resize((500, 300))
    return [*square, encoded(wide, "PNG")]


@pytest.fixture(scope="module")
def expected(finished: Finished, files: list[bytes]) -> np.ndarray:
    """Return what a notebook finds: PIL, torchvision's transforms, the network, softmax."""
    seen = torch.stack([NOTEBOOK(Image.open(io.BytesIO(data)).convert("RGB")) for data in files])
    with torch.inference_mode():
        found = finished.notebook(seen).softmax(1).numpy()
    assert np.ptp(found, axis=0).max() > 0.1
    return found


@pytest.fixture(scope="module")
def pixels(files: list[bytes]) -> np.ndarray:
    return np.stack([read_image(data) for data in files])


def opened(finished: Finished, name: EngineName, precision: Precision, folder: Path | None = None) -> Engine:
    return open_engine(name, precision, folder or finished.folder, finished.facts, device="cpu", layout=Layout())


@pytest.mark.parametrize("name", list(EngineName))
def test_in_float32_every_engine_says_what_the_notebook_says(
    name: EngineName, finished: Finished, pixels: np.ndarray, expected: np.ndarray
) -> None:
    engine = opened(finished, name, Precision.FP32)
    assert (engine.name, engine.precision, engine.device) == (name, Precision.FP32, "cpu")
    found = engine.probabilities(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_openvino_tells_nobody_that_it_is_used(finished: Finished) -> None:
    opened(finished, EngineName.OPENVINO, Precision.FP32)
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
    assert "openvino_telemetry.main" not in sys.modules


@pytest.mark.parametrize("name", list(EngineName))
def test_a_batch_says_what_its_images_say_alone(name: EngineName, finished: Finished, pixels: np.ndarray) -> None:
    engine = opened(finished, name, Precision.FP32)
    together = engine.probabilities(pixels)
    alone = [engine.probabilities(pixels[number : number + 1]) for number in range(len(pixels))]
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)
    np.testing.assert_allclose(engine.probabilities(pixels[:3]), together[:3], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [Layout(2, 1, 2), Layout(2, 2, 1), Layout(1, 3, 1)])
@pytest.mark.parametrize("name", list(EngineName))
def test_however_the_cores_are_used_the_answers_and_their_order_are_the_same(
    name: EngineName, layout: Layout, finished: Finished, pixels: np.ndarray, expected: np.ndarray
) -> None:
    engine = open_engine(name, Precision.FP32, finished.folder, finished.facts, device="cpu", layout=layout)
    for number in range(1, len(pixels) + 1):
        np.testing.assert_allclose(engine.probabilities(pixels[:number]), expected[:number], atol=1e-4)


@pytest.mark.parametrize("name", list(EngineName))
def test_the_features_are_torchvisions(name: EngineName, finished: Finished, pixels: np.ndarray) -> None:
    network = finished.notebook
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / (
        torch.tensor(IMAGENET_STD).view(3, 1, 1)
    )
    with torch.inference_mode():
        expected = network.avgpool(network.features(images)).flatten(1).numpy()
    found = opened(finished, name, Precision.FP32).features(pixels)
    assert found.shape == (len(pixels), 576)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", list(EngineName))
def test_a_result_outlives_the_next_call(name: EngineName, finished: Finished, pixels: np.ndarray) -> None:
    engine = opened(finished, name, Precision.FP32)
    first = engine.probabilities(pixels[:1])
    kept = first.copy()
    engine.probabilities(pixels[1:2])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", [EngineName.OPENVINO, EngineName.PYTORCH])
def test_bfloat16_is_close(name: EngineName, finished: Finished, pixels: np.ndarray, expected: np.ndarray) -> None:
    if not has_bfloat16():
        pytest.skip("this CPU does not compute in bfloat16")
    found = opened(finished, name, Precision.BF16).probabilities(pixels)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 0.02
    assert np.abs(found - expected).max() > 1e-6  # it is another precision indeed


@pytest.mark.parametrize(
    ("name", "precision", "told"),
    [
        (EngineName.ONNXRUNTIME, Precision.BF16, "it computes in fp32, int8, not in bf16"),
        (EngineName.OPENVINO, Precision.FP16, "it computes in fp32, bf16, int8, not in fp16"),
        (EngineName.PYTORCH, Precision.INT8, "PyTorch computes in fp32, bf16, fp16, not in int8"),
        (EngineName.ONNXRUNTIME, Precision.INT8, "8 bits need calibration images whose check passed"),
        (EngineName.OPENVINO, Precision.INT8, "8 bits need calibration images whose check passed"),
    ],
)
def test_a_precision_that_an_engine_has_not_is_said(
    name: EngineName, precision: Precision, told: str, finished: Finished
) -> None:
    with pytest.raises(ModelLoadingError) as caught:
        opened(finished, name, precision)
    assert caught.value.detail.startswith(
        f"The model failed while loading beverage_detector.pth with {name} in {precision} on cpu: "
    )
    assert told in caught.value.detail


@pytest.mark.parametrize("name", [EngineName.ONNXRUNTIME, EngineName.OPENVINO])
@pytest.mark.parametrize("damaged", [BACKBONE, HEAD])
def test_a_damaged_file_is_said(name: EngineName, damaged: str, finished: Finished, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "folder"))
    (folder / damaged).write_bytes(b"not a model")
    with pytest.raises(ModelLoadingError, match=f"loading beverage_detector.pth with {name} in fp32 on cpu: "):
        opened(finished, name, Precision.FP32, folder)


def test_a_device_that_is_not_there_is_said(finished: Finished) -> None:
    with pytest.raises(ModelLoadingError, match="in fp16 on mps: "):
        open_engine(EngineName.PYTORCH, Precision.FP16, finished.folder, finished.facts, device="mps", layout=Layout())


@pytest.mark.parametrize("name", list(EngineName))
def test_images_of_another_size_are_an_error_of_ours(name: EngineName, finished: Finished) -> None:
    engine = opened(finished, name, Precision.FP32)
    with pytest.raises(ProcessingError, match=f"classifying 1 pictures with {name}: "):
        engine.probabilities(np.zeros((1, 224, 224, 4), np.uint8))


@pytest.mark.parametrize(
    ("flags", "has"), [("fpu avx2 avx512f", False), ("fpu avx512_bf16 avx2", True), ("amx_bf16", True), (None, False)]
)
def test_bfloat16_is_told_by_the_cpus_flags(
    flags: str | None, has: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "cpuinfo"
    if flags is not None:
        told.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(engines, "Path", lambda path: told if path == "/proc/cpuinfo" else Path(path))
    assert has_bfloat16() == has
