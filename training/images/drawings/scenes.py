"""One drawing of a class: which vessel, filled how, seen from where, where it stands, and how it is photographed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from serve_app.models.images.tasks import BEVERAGE, CONTAINER, ImageTask
from training.images.drawings import camera
from training.images.drawings.backgrounds import background, clutter, shadow
from training.images.drawings.canvas import Canvas
from training.images.drawings.drinks import Drink, pour
from training.images.drawings.painting import Light, Painted, paint
from training.images.drawings.palettes import Style
from training.images.drawings.vessels import Closure, Vessel, make_vessel

# what of the picture's pixels a drink or an empty floor takes at least, of those of the vessel, to be told
_LEAST_DRINK, _LEAST_FLOOR, _LEAST_DEPTH = 0.05, 0.015, 0.85
_ATTEMPTS = 30
_OVERSAMPLING = 1.15
# width to height of usual photographs
_ASPECTS = ((3, 4), (4, 3), (1, 1), (9, 16), (16, 9), (2, 3))


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture and what is known of it."""

    image: Image.Image
    label: str
    about: str


def draw(
    task: ImageTask, label: str, rng: np.random.Generator, style: Style, size: tuple[int, int] | None = None
) -> Drawing:
    """Return a drawing of a task's class.

    Args:
        task: CONTAINER or BEVERAGE.
        label: one of its classes.
        rng: decides all.
        style: what it is made of.
        size: width and height; None: various, 208 to 256 pixels along the shorter side.
    """
    size = size or _size(rng)
    if task.name == CONTAINER.name:
        return _container(label, rng, style, size)
    if task.name == BEVERAGE.name:
        return (
            _UNCLEAR[_pick_unclear(rng)](rng, style, size) if label == "unclear" else _content(label, rng, style, size)
        )
    raise ValueError(f"There are drawings for {CONTAINER.name} and {BEVERAGE.name}, not for {task.name}")


def _size(rng: np.random.Generator) -> tuple[int, int]:
    wide, high = _ASPECTS[rng.choice(len(_ASPECTS), p=[0.35, 0.25, 0.2, 0.08, 0.05, 0.07])]
    short = int(rng.choice([208, 224, 240, 256]))
    return short * wide // min(wide, high), short * high // min(wide, high)


def _container(label: str, rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Drawing:
    vessel = make_vessel(rng, style, reusable=label == "reusable")
    drink = pour(rng, style, float(rng.uniform(0.2, 0.95))) if rng.random() < 0.6 else None
    elevation = np.radians(
        rng.choice([rng.uniform(2, 20), rng.uniform(20, 50), rng.uniform(50, 78)], p=[0.4, 0.45, 0.15])
    )
    painted = _paint(vessel, drink, float(elevation), rng, size)
    scene = _compose(painted, float(elevation), rng, style, size)
    if rng.random() < 0.15:
        _hand(scene, rng, _where(rng, size), size, cover=0.0)
    return Drawing(camera.photograph(rng, scene), label, vessel.kind)


def _content(label: str, rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Drawing:
    vessel, drink, elevation, painted = _telling(label, rng, style, size)
    scene = _compose(painted, elevation, rng, style, size)
    if rng.random() < 0.12:
        _hand(scene, rng, _where(rng, size), size, cover=0.0)
    return Drawing(camera.photograph(rng, scene), label, f"{vessel.kind} {drink.name if drink else 'empty'}")


def _telling(
    label: str, rng: np.random.Generator, style: Style, size: tuple[int, int]
) -> tuple[Vessel, Drink | None, float, Painted]:
    """Return a vessel whose content is seen."""
    for _ in range(_ATTEMPTS):
        vessel = make_vessel(rng, style, reusable=bool(rng.random() < 0.55))
        if vessel.closure is Closure.OPAQUE and not vessel.see_through:
            vessel = _opened(vessel)
            if vessel.kind == "bottle":
                continue
        highest = 35 if vessel.closure is Closure.OPAQUE else 65
        elevation = float(np.radians(rng.uniform(5, highest) if vessel.see_through else rng.uniform(28, 82)))
        drink = pour(rng, style, float(rng.uniform(0.3, 0.96))) if label == "with_beverage" else None
        residue = float(rng.uniform(0.1, 0.5)) if drink is None and rng.random() < 0.25 else 0.0
        painted = _paint(vessel, drink, elevation, rng, size, residue)
        if drink is not None and painted.drink_share >= _LEAST_DRINK:
            return vessel, drink, elevation, painted
        seen = painted.floor_share >= _LEAST_FLOOR or painted.depth_seen >= _LEAST_DEPTH
        if drink is None and (vessel.see_through or seen):
            return vessel, drink, elevation, painted
    raise RuntimeError(f"No vessel of style {style} shows that it is {label}")


def _opened(vessel: Vessel) -> Vessel:
    pieces = tuple(piece for piece in vessel.pieces if piece.shape.heights[0] < 0.9)
    return replace(vessel, closure=Closure.OPEN, pieces=pieces, straw=None)


def _any_scene(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Image.Image:
    label = "empty" if rng.random() < 0.4 else "with_beverage"
    _, _, elevation, painted = _telling(label, rng, style, size)
    return _compose(painted, elevation, rng, style, size)


def _closed(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Drawing:
    """An opaque vessel with its lid on, or seen from the side."""
    for _ in range(_ATTEMPTS):
        vessel = make_vessel(rng, style, reusable=bool(rng.random() < 0.5))
        if vessel.see_through:
            continue
        covered = vessel.closure is Closure.OPAQUE
        elevation = float(np.radians(rng.uniform(2, 65) if covered else rng.uniform(0.5, 6)))
        painted = _paint(vessel, None, elevation, rng, size)
        scene = _compose(painted, elevation, rng, style, size)
        if rng.random() < 0.12:
            _hand(scene, rng, _where(rng, size), size, cover=0.0)
        about = f"{vessel.kind} {'closed' if covered else 'from the side'}"
        return Drawing(camera.photograph(rng, scene), "unclear", about)
    raise RuntimeError(f"No vessel of style {style} hides what is in it")


def _cut_off(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Drawing:
    """Only a piece of a vessel is in the picture: its lower part, or an edge."""
    vessel = make_vessel(rng, style, reusable=bool(rng.random() < 0.5))
    while vessel.see_through:
        vessel = make_vessel(rng, style, reusable=bool(rng.random() < 0.5))
    elevation = float(np.radians(rng.uniform(5, 45)))
    painted = _paint(vessel, None, elevation, rng, size)
    scene = background(rng, style, size, elevation)
    width, height = size
    piece = painted.image
    if rng.random() < 0.5:  # its rim above the picture
        at = (int(rng.uniform(0.1, 0.9) * width - piece.width / 2), int(-piece.height * rng.uniform(0.5, 0.75)))
    else:
        left = rng.random() < 0.5
        inside = int(piece.width * rng.uniform(0.1, 0.28))
        at = (inside - piece.width if left else width - inside, int(rng.uniform(0.0, 0.6) * height))
    scene.paste(piece, at, piece)
    return Drawing(camera.photograph(rng, scene), "unclear", f"{vessel.kind} cut off")


def _nothing(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Drawing:
    """No vessel: a table with other things, at times a hand."""
    elevation = float(np.radians(rng.uniform(3, 85)))
    scene = background(rng, style, size, elevation)
    clutter(rng, style, scene, int(0.2 * size[1]), num=int(rng.integers(0, 7)))
    if rng.random() < 0.2:
        _hand(scene, rng, _where(rng, size), size, cover=float(rng.uniform(0, 1)))
    return Drawing(camera.photograph(rng, scene), "unclear", "no vessel")


def _hidden(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Drawing:
    """A hand over the opening and most of the vessel."""
    scene = _any_scene(rng, style, size)
    _hand(scene, rng, (size[0] / 2, size[1] * rng.uniform(0.38, 0.5)), size, cover=1.0)
    return Drawing(camera.photograph(rng, scene), "unclear", "behind a hand")


def _spoilt(
    by: Callable[[np.random.Generator, Image.Image], Image.Image],
) -> Callable[[np.random.Generator, Style, tuple[int, int]], Drawing]:
    def spoilt(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Drawing:
        return Drawing(by(rng, _any_scene(rng, style, size)), "unclear", by.__name__)

    return spoilt


_UNCLEAR: dict[str, Callable[[np.random.Generator, Style, tuple[int, int]], Drawing]] = {
    "closed": _closed,
    "blurred": _spoilt(camera.blurred),
    "dark": _spoilt(camera.dark),
    "glaring": _spoilt(camera.glaring),
    "cut off": _cut_off,
    "hidden": _hidden,
    "nothing": _nothing,
}
_SHARES = (0.34, 0.14, 0.1, 0.08, 0.08, 0.12, 0.14)


def _pick_unclear(rng: np.random.Generator) -> str:
    return str(rng.choice(list(_UNCLEAR), p=_SHARES))


def _paint(
    vessel: Vessel,
    drink: Drink | None,
    elevation: float,
    rng: np.random.Generator,
    size: tuple[int, int],
    residue: float = 0.0,
) -> Painted:
    light = Light(float(rng.uniform(-1, 1)), float(rng.uniform(0.45, 0.8)), float(rng.uniform(0, 6.3)))
    height_px = min(size) * rng.uniform(0.8, 1.1)
    enlarged = height_px * _OVERSAMPLING
    return paint(vessel, drink, elevation=elevation, height_px=enlarged, light=light, rng=rng, residue=residue)


def _where(rng: np.random.Generator, size: tuple[int, int]) -> tuple[float, float]:
    return size[0] * rng.uniform(0.45, 0.55), size[1] * rng.uniform(0.45, 0.55)


def _compose(
    painted: Painted, elevation: float, rng: np.random.Generator, style: Style, size: tuple[int, int]
) -> Image.Image:
    """Put a vessel on a table: turned a little, in its shadow, at times with another thing in front."""
    scene = background(rng, style, size, elevation)
    tilt = float(rng.normal(0.0, 5.0)) if elevation < np.radians(60) else float(rng.uniform(-40, 40))
    width, height = (max(round(each / _OVERSAMPLING), 1) for each in painted.image.size)
    middle = _where(rng, size)
    left, top = middle[0] - width / 2, middle[1] - height / 2
    foot = (left + painted.foot_px[0] / _OVERSAMPLING, top + painted.foot_px[1] / _OVERSAMPLING)
    shadow(rng, scene, foot, painted.foot_radius_px / _OVERSAMPLING, elevation)
    vessel = painted.image.resize((width, height), Image.Resampling.BOX, reducing_gap=None)
    vessel = vessel.rotate(tilt, Image.Resampling.BILINEAR, expand=True)
    at = (round(middle[0] - vessel.width / 2), round(middle[1] - vessel.height / 2))
    scene.paste(vessel, at, vessel)
    return scene


def _hand(
    scene: Image.Image, rng: np.random.Generator, at: tuple[float, float], size: tuple[int, int], cover: float
) -> None:
    """Draw fingers around a point: beside it where `cover` is 0, over it where it is 1."""
    width, height = size
    small = min(size)
    canvas = Canvas(height, width)
    skin = np.array([[0.93, 0.76, 0.65], [0.78, 0.57, 0.43], [0.5, 0.33, 0.24]], np.float32)[rng.integers(3)]
    side = rng.choice([-1.0, 1.0])
    finger = small * rng.uniform(0.07, 0.1)
    inward = small * (0.3 + 0.22 * cover) * (1.0 - cover) + small * cover * rng.uniform(-0.28, -0.15)
    palm = [(at[0] + side * small * 0.75, at[1] + small * 0.3), (at[0] + side * (inward + finger), at[1])]
    canvas.stroke(palm, finger * (3.2 + 2.0 * cover), skin * np.float32(0.92))
    for index in range(4):
        row = at[1] + (index - 1.5) * finger * 1.05
        start = (at[0] + side * (inward + small * 0.18), row + rng.uniform(-0.2, 0.2) * finger)
        end = (at[0] + side * (inward - small * rng.uniform(0.0, 0.08)), row + rng.uniform(-0.3, 0.3) * finger)
        canvas.stroke([start, end], finger * 1.1, skin * np.float32(0.72))
        canvas.stroke([start, end], finger * 0.95, skin * np.float32(rng.uniform(0.95, 1.05)))
    sheet = canvas.image()
    scene.paste(sheet, (0, 0), sheet)
