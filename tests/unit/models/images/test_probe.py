"""Images that engines are tried on."""

from __future__ import annotations

import numpy as np

from serve_app.models.images.quantization import NUM_IMAGES, probe_images


def test_they_are_the_same_every_time() -> None:
    np.testing.assert_array_equal(probe_images(), probe_images())


def test_they_are_pixels_that_differ() -> None:
    images = probe_images()
    assert (images.shape, images.dtype) == ((NUM_IMAGES, 224, 224, 3), np.uint8)
    assert len({image.tobytes() for image in images}) == NUM_IMAGES
    assert images.std(axis=(1, 2, 3)).min() > 10  # none is plain
    assert np.ptp(images.mean(axis=(1, 2, 3))) > 40  # bright ones and dark ones
