"""What a camera makes of a scene."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter


def photograph(rng: np.random.Generator, scene: Image.Image) -> Image.Image:
    """Return a scene with a usual camera's colour cast, exposure, blur and noise."""
    pixels = np.asarray(scene, np.float32) / 255.0
    cast = 1.0 + rng.uniform(-0.12, 0.12, 3).astype(np.float32) * rng.uniform(0.0, 1.0)
    pixels = np.clip(pixels * cast * rng.uniform(0.7, 1.25), 0.0, 1.0) ** np.float32(rng.uniform(0.8, 1.25))
    pixels = 0.5 + (pixels - 0.5) * rng.uniform(0.75, 1.15)
    image = _picture(_noisy(rng, pixels, rng.uniform(0.0, 0.045)))
    blur = rng.uniform(-0.8, 1.2) * min(scene.size) / 288.0
    return image.filter(ImageFilter.GaussianBlur(blur)) if blur > 0.2 else image


def blurred(rng: np.random.Generator, scene: Image.Image) -> Image.Image:
    """Return a scene out of focus or shaken beyond recognition."""
    small = min(scene.size)
    if rng.random() < 0.6:
        return photograph(rng, scene.filter(ImageFilter.GaussianBlur(rng.uniform(0.035, 0.08) * small)))
    pixels = np.asarray(scene, np.float32)
    steps, angle = int(rng.uniform(0.16, 0.3) * small), rng.uniform(0, 2 * np.pi)
    total = np.zeros_like(pixels)
    for step in np.linspace(-0.5, 0.5, 24):
        shift = (round(step * steps * np.sin(angle)), round(step * steps * np.cos(angle)))
        total += np.roll(pixels, shift, axis=(0, 1))
    return photograph(rng, Image.fromarray((total / 24).astype(np.uint8)))


def dark(rng: np.random.Generator, scene: Image.Image) -> Image.Image:
    """Return a scene far too dark: nearly black, and noisy."""
    pixels = np.asarray(scene, np.float32) / 255.0 * np.float32(rng.uniform(0.015, 0.085))
    return _picture(_noisy(rng, pixels, rng.uniform(0.01, 0.05)))


def glaring(rng: np.random.Generator, scene: Image.Image) -> Image.Image:
    """Return a scene burnt out, or behind a veil of light."""
    pixels = np.asarray(scene, np.float32) / 255.0
    if rng.random() < 0.5:
        pixels = pixels * rng.uniform(3.0, 6.0) + rng.uniform(0.2, 0.4)
    else:
        pixels = pixels * rng.uniform(0.03, 0.1) + rng.uniform(0.8, 0.95)
    return _picture(_noisy(rng, pixels, rng.uniform(0.005, 0.02)))


def _noisy(rng: np.random.Generator, pixels: np.ndarray, strength: float) -> np.ndarray:
    noise = rng.standard_normal(pixels.shape[:2], dtype=np.float32)[..., None]
    if rng.random() < 0.4:
        noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    return pixels + noise * np.float32(strength)


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8))
