"""What vessels stand on and in front of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.images.drawings.palettes import Style, grey, tinted, varied, white

_WOODS = ((0.55, 0.36, 0.2), (0.72, 0.53, 0.34), (0.35, 0.22, 0.14), (0.82, 0.68, 0.5))


def background(rng: np.random.Generator, style: Style, size: tuple[int, int], elevation: float) -> Image.Image:
    """Return a table, with a wall behind it where the viewer (at `elevation`, radians) looks that far up."""
    width, height = size
    table = _surface(rng, style, size)
    share = np.clip(0.62 - elevation / np.radians(40.0) * 0.6 + rng.uniform(-0.08, 0.08), 0.0, 0.75)
    horizon = int(height * share)
    if horizon > 4:
        wall = _wall(rng, style, (width, horizon))
        table[:horizon] = wall
        edge = np.float32(rng.uniform(0.5, 1.0))
        table[horizon : horizon + max(height // 80, 1)] *= edge
    light = _falloff(rng, size)
    picture = Image.fromarray((np.clip(table * light[..., None], 0.0, 1.0) * 255.0).astype(np.uint8))
    clutter(rng, style, picture, horizon)
    blur = rng.uniform(0.0, 0.012) * min(size)
    return picture.filter(ImageFilter.GaussianBlur(blur)) if blur > 0.5 else picture


def clutter(rng: np.random.Generator, style: Style, picture: Image.Image, horizon: int, num: int | None = None) -> None:
    """Draw books, plates, papers, devices, fruit, windows onto a picture."""
    width, height = picture.size
    draw = ImageDraw.Draw(picture)
    small = min(width, height)
    for _ in range(int(rng.choice([0, 0, 1, 2, 3, 5])) if num is None else num):
        x, y = rng.uniform(-0.1, 1.1) * width, rng.uniform(horizon / height, 1.05) * height
        half = rng.uniform(0.06, 0.3) * small
        colour = _rgb(tinted(rng, style, vivid=bool(rng.random() < 0.5)) if rng.random() < 0.6 else grey(rng))
        kind = rng.choice(["book", "plate", "ball", "stick", "paper", "keys"])
        turn = rng.uniform(0, np.pi)
        if kind in {"book", "paper"}:
            long, short = half, half * rng.uniform(0.3, 0.9)
            draw.polygon(_quad(x, y, long, short, turn), fill=colour, outline=_rgb(grey(rng, 0.0, 0.4)))
        elif kind == "plate":
            flat = half * rng.uniform(0.3, 0.9)
            draw.ellipse((x - half, y - flat, x + half, y + flat), fill=colour, outline=_rgb(grey(rng, 0.2, 0.8)))
            inner = _rgb(np.clip(np.array(colour) / 255.0 * 0.92, 0, 1))
            draw.ellipse((x - half * 0.7, y - flat * 0.7, x + half * 0.7, y + flat * 0.7), outline=inner)
        elif kind == "ball":
            half *= 0.45
            draw.ellipse((x - half, y - half, x + half, y + half), fill=colour)
            draw.ellipse((x - half * 0.5, y - half * 0.6, x, y - half * 0.1), fill=_rgb(white(rng)))
        elif kind == "stick":
            far = half * 2.0
            ends = (x - far * np.cos(turn), y - far * np.sin(turn), x + far * np.cos(turn), y + far * np.sin(turn))
            draw.line(ends, fill=colour, width=max(int(half * 0.12), 1))
        else:
            step = max(half * 0.25, 2.0)
            for row in range(3):
                for column in range(5):
                    left, top = x + column * step, y + row * step
                    draw.rectangle((left, top, left + step * 0.8, top + step * 0.8), fill=colour)


def shadow(
    rng: np.random.Generator, picture: Image.Image, foot: tuple[float, float], radius_px: float, elevation: float
) -> None:
    """Darken the table beside a vessel's foot."""
    small = 4  # soft shadows need no more pixels
    width, height = picture.size
    sheet = Image.new("L", (width // small + 1, height // small + 1))
    draw = ImageDraw.Draw(sheet)
    flat = max(float(np.sin(elevation)), 0.12)
    cast, reach = rng.uniform(-1.0, 1.0), rng.uniform(0.0, 1.2)
    for step, strength in ((0.0, 1.0), (0.5, 0.7), (1.0, 0.5)):
        x = (foot[0] + cast * reach * radius_px * 1.5 * step) / small
        y = (foot[1] - abs(reach) * radius_px * flat * 0.6 * step) / small
        wide = radius_px * (1.05 + 0.2 * step) / small
        shade = int(255 * strength)
        draw.ellipse((x - wide, y - wide * flat, x + wide, y + wide * flat), fill=shade)
    sheet = sheet.filter(ImageFilter.GaussianBlur(float(max(radius_px * rng.uniform(0.06, 0.2) / small, 0.5))))
    opacity = rng.uniform(0.15, 0.6)
    mask = sheet.resize(picture.size, Image.Resampling.BILINEAR).point(lambda value: int(value * opacity))
    picture.paste((10, 8, 8), (0, 0), mask)


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (np.clip(colour, 0.0, 1.0) * 255.0).astype(int).tolist()
    return red, green, blue


def _quad(x: float, y: float, long: float, short: float, turn: float) -> list[tuple[float, float]]:
    cosine, sine = np.cos(turn), np.sin(turn)
    corners = ((-long, -short), (long, -short), (long, short), (-long, short))
    return [(float(x + a * cosine - b * sine), float(y + (a * sine + b * cosine) * 0.7)) for a, b in corners]


def _noise(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Return smooth noise (height, width), -1 to 1, with so many cells across and down."""
    coarse = rng.uniform(-1.0, 1.0, (cells[1] + 1, cells[0] + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def _wood(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> np.ndarray:
    base = varied(rng, np.array(_WOODS[rng.integers(len(_WOODS))], np.float32), 0.06)
    grain = _noise(rng, size, (3, int(rng.integers(25, 70)))) * 0.1 + _noise(rng, size, (2, 9)) * 0.08
    planks = np.ones(size[1], np.float32)
    if rng.random() < 0.5:
        planks[:: max(size[1] // int(rng.integers(3, 8)), 2)] = 0.6
    return base * (1.0 + grain[..., None]) * planks[:, None, None]


def _plain(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> np.ndarray:
    base = [white, grey, lambda rng: tinted(rng, style, vivid=False), lambda rng: tinted(rng, style)][
        rng.choice(4, p=[0.3, 0.3, 0.25, 0.15])
    ](rng)
    return base * (1.0 + 0.12 * _noise(rng, size, (2, 2)))[..., None]


def _marble(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> np.ndarray:
    base = grey(rng, 0.15, 0.9)
    veins = np.abs(_noise(rng, size, (5, 5)) + 0.5 * _noise(rng, size, (14, 14)))
    return base * (1.0 - 0.35 * np.exp(-veins * 14.0))[..., None]


def _cloth(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> np.ndarray:
    base = tinted(rng, style, vivid=False)
    weave = _noise(rng, size, (60, 60)) * 0.08 + _noise(rng, size, (4, 4)) * 0.1
    stripes = np.sin(np.arange(size[0]) / size[0] * rng.uniform(20, 90)) > rng.uniform(0.0, 0.95)
    return base * (1.0 + weave - 0.2 * stripes[None, :])[..., None]


def _tiles(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> np.ndarray:
    step = max(int(min(size) / rng.uniform(3, 8)), 4)
    columns, rows = np.arange(size[0]), np.arange(size[1])
    joints = (columns % step < 2)[None, :] | (rows % step < 2)[:, None]
    shades = rng.uniform(0.88, 1.05, (size[1] // step + 1, size[0] // step + 1)).astype(np.float32)
    base = white(rng) if rng.random() < 0.5 else tinted(rng, style, vivid=False)
    tiles = shades[rows // step][:, columns // step]
    return np.where(joints[..., None], base * 0.7, base * tiles[..., None]).astype(np.float32)


def _checks(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> np.ndarray:
    step = max(int(min(size) / rng.uniform(5, 14)), 3)
    across = (np.arange(size[0]) // step % 2).astype(np.float32)
    down = (np.arange(size[1]) // step % 2).astype(np.float32)
    share = ((across[None, :] + down[:, None]) / 2)[..., None]
    return white(rng) * (1.0 - share) + tinted(rng, style) * share


def _stone(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> np.ndarray:
    speckles = _noise(rng, size, (90, 90)) * 0.2 + _noise(rng, size, (30, 30)) * 0.12
    return grey(rng, 0.2, 0.75) * (1.0 + speckles)[..., None]


def _wall(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> np.ndarray:
    wall = _plain(rng, style, size) if rng.random() < 0.65 else _surface(rng, style, size)
    for _ in range(int(rng.integers(0, 4))):  # windows, shelves, pictures
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        wide, high = int(rng.uniform(0.05, 0.4) * size[0]) + 1, int(rng.uniform(0.05, 0.7) * size[1]) + 1
        wall[y : y + high, x : x + wide] = wall[y : y + high, x : x + wide] * 0.3 + 0.7 * grey(rng, 0.1, 1.1)
    return wall


def _falloff(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    x, y = np.linspace(-1, 1, size[0], dtype=np.float32), np.linspace(-1, 1, size[1], dtype=np.float32)
    slope = rng.uniform(-0.25, 0.25, 2).astype(np.float32)
    corners = np.float32(rng.uniform(0.0, 0.2)) * (x[None, :] ** 2 + y[:, None] ** 2)
    return 1.0 + slope[0] * x[None, :] + slope[1] * y[:, None] - corners


_SURFACES: dict[Style, tuple[Callable[[np.random.Generator, Style, tuple[int, int]], np.ndarray], ...]] = {
    Style.TRAINED: (_wood, _plain, _marble, _cloth),
    Style.HELD_OUT: (_tiles, _checks, _stone),
}


def _surface(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> np.ndarray:
    kinds = _SURFACES[style]
    return np.array(kinds[rng.integers(len(kinds))](rng, style, size), np.float32)
