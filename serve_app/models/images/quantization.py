"""`calibrated`: a backbone in 8 bits, calibrated on half of an operator's images and kept if the other half agrees.

ONNX Runtime quantizes statically (QDQ); OpenVINO runs the same file. The activations' ranges are the 99.999th
percentiles on the calibration images; weights have a range for each channel. `probe_images` are the images for trying
engines where there are no calibration images.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from serve_app.errors import MediaError, ModelLoadingError
from serve_app.models.images.converted import BACKBONE, BACKBONE_INT8, INPUT, OUTPUT, read_head
from serve_app.models.images.preprocessing import SIDE_PX, read_image
from serve_app.sentences import Sentence

NUM_IMAGES = 16
_SEED = 20261127


def probe_images() -> np.ndarray:
    """Return drawn images with soft colours, edges and texture, always the same: (16, 224, 224, 3) uint8."""
    rng = np.random.default_rng(_SEED)
    return np.stack([_image(rng) for _ in range(NUM_IMAGES)])


def _image(rng: np.random.Generator) -> np.ndarray:
    coarse = rng.integers(0, 256, (int(rng.integers(2, 9)), int(rng.integers(2, 9)), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 9))):
        left, top = rng.integers(-40, SIDE_PX - 20, 2).tolist()
        width, height = rng.integers(20, 160, 2).tolist()
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((left, top, left + width, top + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.0, 2.0))))
    noise = rng.normal(0.0, rng.uniform(0.0, 12.0), (SIDE_PX, SIDE_PX, 3))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


_FEWEST = 32
_MOST = 256
_NUM_PROBED = 32
_MAX_MEAN_DIFFERENCE = 0.01
MAX_DIFFERENCE = 0.1
_SURE = 0.6  # from this probability on an image is not in doubt, and 8 bits must give it the same class

Reference = Callable[[np.ndarray], np.ndarray]


def calibrated(calibration: str, folder: Path, reference: Reference, activation: str) -> tuple[np.ndarray, str]:
    """Return images for trying engines, (images, 224, 224, 3) uint8, and how 8 bits did, in words.

    Where calibration images are given, the backbone in 8 bits is added to the folder if it passes.

    Args:
        calibration: folder of images; empty: none.
        folder: holds the backbone and the head.
        reference: computes PyTorch's probabilities.

    Raises:
        ModelLoadingError: there are too few calibration images.
    """
    if not calibration:
        return probe_images(), ""
    images = _images(Path(calibration))
    half = len(images) // 2
    result = _quantize_and_check(images[:half], images[half:], folder, reference, activation)
    return images[half:][:_NUM_PROBED], result


def _images(calibration: Path) -> np.ndarray:
    paths = [path for path in sorted(calibration.iterdir()) if path.is_file()]
    random.Random(_SEED).shuffle(paths)  # noqa: S311 (which images, not secrets)
    images = []
    for path in paths:
        try:
            images.append(read_image(path.read_bytes()))
        except MediaError as error:
            logging.getLogger(__name__).warning("calibration image %s is left out: %s", path.name, error.detail)
        if len(images) == _MOST:
            break
    if len(images) < _FEWEST:
        raise ModelLoadingError(
            Sentence(
                "8 bits need at least {fewest} calibration images, but {folder} has {num}: add photographs like those "
                "that will be sent, or leave `calibration` out",
                fewest=_FEWEST,
                folder=calibration,
                num=len(images),
            )
        )
    return np.stack(images)


def _quantize_and_check(
    fitted_on: np.ndarray, checked_on: np.ndarray, folder: Path, reference: Reference, activation: str
) -> str:
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantized = folder / BACKBONE_INT8
    quantize_static(
        str(folder / BACKBONE),
        str(quantized),
        _Reader(fitted_on),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.Percentile,
        op_types_to_quantize=["Conv", "Add", "MaxPool"],
        # one image at a time: the activations of all at once would not fit the memory, 90 MB an image for ResNet-50
        extra_options={"CalibPercentile": 99.999, "CalibStridedMinMax": 1},
    )
    session = onnxruntime.InferenceSession(str(quantized), providers=["CPUExecutionProvider"])
    head = read_head(folder, activation)
    plain = reference(checked_on)
    found = np.concatenate(
        [
            head.probabilities(session.run([OUTPUT], {INPUT: checked_on[start : start + 8]})[0])
            for start in range(0, len(checked_on), 8)
        ]
    )
    differences = np.abs(found - plain)
    sure = plain.max(axis=1) >= _SURE
    num_other = int((found.argmax(1) != plain.argmax(1))[sure].sum())
    result = (
        f"on {len(checked_on)} images of the calibration folder, 8 bits differ by {differences.mean():.4f} in the mean "
        f"and {differences.max():.4f} at most; {num_other} of the {int(sure.sum())} not in doubt get another class"
    )
    if differences.mean() > _MAX_MEAN_DIFFERENCE or differences.max() > MAX_DIFFERENCE or num_other:
        quantized.unlink()
        return f"8 bits are not used: {result}"
    return f"8 bits passed: {result}"


class _Reader:
    """Images for ONNX Runtime's calibration, one at a time: all batches must be equally large."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self._left = range(len(images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = range(start_index, end_index)

    def get_next(self) -> dict[str, Any] | None:
        if not self._left:
            return None
        first, self._left = self._left[0], self._left[1:]
        return {INPUT: self._images[first : first + 1]}
