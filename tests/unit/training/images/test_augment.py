import numpy as np
import pytest
import torch

from serve_app.models.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from training.images.augment import Augmentation, augment, normalised

_NOTHING = Augmentation(
    least_area=1.0,
    stretch=1.0,
    turn_degrees=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    cast=0.0,
    blur_share=0.0,
    jpeg_share=0.0,
    erase_share=0.0,
    grey_share=0.0,
)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 48, 48, 3), dtype=np.uint8)


def test_normalises_as_torchvision_does(images):
    expected = (images[0] / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    assert np.allclose(normalised(images)[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_the_seed_decides(images):
    first, again, other = (augment(images, 32, Augmentation(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (6, 3, 32, 32)


def test_pictures_differ_within_a_batch_and_stay_in_range():
    same = np.full((8, 40, 40, 3), 128, np.uint8)
    batch = augment(same, 40, Augmentation(), np.random.default_rng(0))
    assert len({round(float(each.mean()), 4) for each in batch}) == 8
    pixels = batch * torch.tensor(IMAGENET_STD).view(3, 1, 1) + torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    assert pixels.min() >= -1e-5
    assert pixels.max() <= 1.0 + 1e-5


def test_without_change_only_mirrors():
    smooth = np.tile(np.linspace(0, 255, 48, dtype=np.uint8)[None, None, :, None], (6, 48, 1, 3))
    batch = augment(smooth, 48, _NOTHING, np.random.default_rng(0))
    plain = normalised(smooth)
    mirrored = [torch.allclose(one, other.flip(2), atol=0.12) for one, other in zip(batch, plain, strict=True)]
    kept = [torch.allclose(one, other, atol=0.12) for one, other in zip(batch, plain, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert any(mirrored)
    assert any(kept)


def test_the_given_pictures_are_not_changed(images):
    before = images.copy()
    augment(images, 32, Augmentation(jpeg_share=1.0), np.random.default_rng(0))
    assert np.array_equal(images, before)
