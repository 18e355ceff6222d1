"""`pictures`: different pictures made in code, and frames of the demo video: what the music corpus is made of."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from serve_app import demo_media

_SIZE = (320, 240)
_FRAMES = 8


def pictures(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield a name and a file, PNG, `count` times: frames of the demo video first, then kinds of pictures in turn."""
    frames = list(_video_frames())[: max(0, count // 10)]
    for number, frame in enumerate(frames):
        yield f"video-{number}", _png(frame)
    kinds = (_gradient, _cloud, _shapes, _landscape, _night, _stripes, _photo, _gray)
    for number in range(count - len(frames)):
        kind = kinds[number % len(kinds)]
        yield f"{kind.__name__[1:]}-{number}", _png(kind(np.random.default_rng(number)))


def flat(color: tuple[int, int, int], noise: float = 0.0) -> bytes:
    """Return a picture of one colour, with grain of this standard deviation in 8-bit steps."""
    pixels = np.full((*_SIZE[::-1], 3), color, dtype=float)
    return _png(_image(pixels + noise * np.random.default_rng(0).standard_normal(pixels.shape)))


def _video_frames() -> Iterator[Image.Image]:
    with av.open(str(Path(demo_media.__file__).parent / "dialogue.mp4")) as file:
        for number, frame in enumerate(file.decode(video=0)):
            if number % 40 == 0:
                yield frame.to_image()
            if number >= 40 * (_FRAMES - 1):
                return


def _color(random: np.random.Generator, saturation: float | None = None, value: float | None = None) -> np.ndarray:
    """Return a random colour, (3,) from 0 to 255."""
    hue = int(random.integers(256))
    depth = int(255 * (random.random() if saturation is None else saturation))
    light = int(255 * (0.15 + 0.85 * random.random() if value is None else value))
    return np.array(Image.new("HSV", (1, 1), (hue, depth, light)).convert("RGB").getpixel((0, 0)), dtype=float)


def _gradient(random: np.random.Generator) -> Image.Image:
    across = np.linspace(0, 1, _SIZE[0])[None, :, None]
    down = np.linspace(0, 1, _SIZE[1])[:, None, None]
    turn = random.random()
    share = turn * across + (1 - turn) * down
    return _image(_color(random) * (1 - share) + _color(random) * share)


def _cloud(random: np.random.Generator) -> Image.Image:
    share = _noise(random, int(random.integers(3, 40)))[:, :, None]
    return _image(_color(random) * (1 - share) + _color(random) * share)


def _shapes(random: np.random.Generator) -> Image.Image:
    image = _image(np.broadcast_to(_color(random), (*_SIZE[::-1], 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(3, 40))):
        x, y, size = random.random() * _SIZE[0], random.random() * _SIZE[1], 5 + random.random() * 80
        color = tuple(_color(random).astype(int))
        if random.random() < 0.5:
            draw.ellipse((x, y, x + size, y + size), fill=color)
        else:
            draw.polygon([(x, y), (x + size, y + size * 0.3), (x + size * 0.4, y + size)], fill=color)
    return image


def _landscape(random: np.random.Generator) -> Image.Image:
    sky, ground = (
        _color(random, random.random() * 0.8, 0.5 + random.random() / 2),
        _color(random, None, random.random()),
    )
    rows, columns = np.mgrid[0 : _SIZE[1], 0 : _SIZE[0]]
    hills = 130 + 35 * np.sin(columns / (20 + 60 * random.random()) + 6 * random.random()) + 20 * random.random()
    pixels = np.where((rows > hills)[:, :, None], ground, sky * (0.6 + 0.4 * rows / _SIZE[1])[:, :, None])
    return _image(pixels + 30 * (_noise(random, 4)[:, :, None] - 0.5))


def _night(random: np.random.Generator) -> Image.Image:
    pixels = np.broadcast_to(_color(random, None, 0.05 + 0.2 * random.random()), (*_SIZE[::-1], 3)).copy()
    lights = random.random(pixels.shape[:2]) < 0.02 * random.random()
    pixels[lights] = _color(random, 0.5, 1.0)
    return _image(pixels).filter(ImageFilter.GaussianBlur(0.8))


def _stripes(random: np.random.Generator) -> Image.Image:
    width = int(random.integers(4, 60))
    rows, columns = np.mgrid[0 : _SIZE[1], 0 : _SIZE[0]]
    odd = ((rows * random.random() + columns * random.random()) // width % 2)[:, :, None]
    return _image(_color(random) * (1 - odd) + _color(random) * odd)


def _photo(random: np.random.Generator) -> Image.Image:
    layers = np.stack([0.6 * _noise(random, 40) + 0.3 * _noise(random, 12) + 0.1 * _noise(random, 2) for _ in range(3)])
    pixels = np.moveaxis(layers, 0, 2) * _color(random, 0.5, 1.0) * (0.4 + 0.9 * random.random())
    return _image(pixels)


def _gray(random: np.random.Generator) -> Image.Image:
    level = random.random()
    pixels = 255 * np.clip(level + random.random() * (_noise(random, int(random.integers(2, 50))) - 0.5), 0, 1)
    return _image(np.repeat(pixels[:, :, None], 3, axis=2))


def _noise(random: np.random.Generator, scale: int) -> np.ndarray:
    """Return smooth noise, 0 to 1; `scale`: size of its spots in pixels."""
    small = random.random((max(2, _SIZE[1] // scale), max(2, _SIZE[0] // scale)))
    large = np.asarray(Image.fromarray((255 * small).astype(np.uint8)).resize(_SIZE, Image.Resampling.BICUBIC))
    return large / 255.0


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
