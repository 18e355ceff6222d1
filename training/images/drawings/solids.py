"""Solids of revolution around an upright axis, and which of their points a viewer sees.

Projection is parallel, from `elevation` above the horizon: a point at height z, to the right by u and nearer by d is
at column x0 + u and row y0 - z cos(elevation) + d sin(elevation). A solid is a pile of discs; as heights only grow
towards a viewer from above, what is seen at a pixel is the highest disc that covers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_OUTSIDE = -1


@dataclass(frozen=True, slots=True)
class Solid:
    """Discs from the lowest up: `heights` (discs,) and `radii` (discs,), in heights of the vessel."""

    heights: np.ndarray
    radii: np.ndarray

    def radius(self, height: float) -> float:
        """Return the radius at a height."""
        return float(np.interp(height, self.heights, self.radii))

    def between(self, low: float, high: float, *, widened: float = 0.0, num: int = 48) -> Solid:
        """Return the part from `low` to `high`, its radii changed by `widened`."""
        heights = np.linspace(low, high, num)
        return Solid(heights, np.maximum(np.interp(heights, self.heights, self.radii) + widened, 0.005))

    @property
    def top(self) -> float:
        """Height of the highest disc."""
        return float(self.heights[-1])


@dataclass(frozen=True, slots=True)
class View:
    """Where a vessel is seen from.

    Attributes:
        elevation: of the viewer above the horizon, in radians, 0 to pi/2.
        taper: how much nearer discs, those higher up, look wider.
        scale_px: pixels of a vessel's height.
        x0_px, y0_px: where the foot of the axis is.
        width_px, height_px: of the canvas.
    """

    elevation: float
    taper: float
    scale_px: float
    x0_px: float
    y0_px: float
    width_px: int
    height_px: int

    def place(self, right: float, nearer: float, height: float) -> tuple[float, float]:
        """Return column and row of a point."""
        scale = self.scale_px * self.widening(height)
        row = self.y0_px - height * np.cos(self.elevation) * self.scale_px + nearer * np.sin(self.elevation) * scale
        return self.x0_px + right * scale, float(row)

    def widening(self, height: float) -> float:
        """Return the factor by which a disc at a height looks wider."""
        return 1.0 + self.taper * float(np.sin(self.elevation)) * (height - 0.5)


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a solid is seen, in a box of the canvas.

    Attributes:
        box: rows and columns.
        mask: (rows, columns) bool.
        heights: (rows, columns) of the points seen; 0 outside the mask.
        sides: (rows, columns) sine of the azimuth: -1 at the left edge, 1 at the right.
        facing: (rows, columns) cosine of the azimuth: 1 nearest to the viewer, -1 farthest.
        slopes: (rows, columns) how far the surface faces upward, -1 to 1.
        top: (rows, columns) bool: the highest disc's face.
    """

    box: tuple[slice, slice]
    mask: np.ndarray
    heights: np.ndarray
    sides: np.ndarray
    facing: np.ndarray
    slopes: np.ndarray
    top: np.ndarray


def solid(points: Sequence[tuple[float, float]], *, num: int = 90, smooth: bool = False) -> Solid:
    """Return a solid through points (height, radius), in order of height; `smooth` rounds its corners."""
    given = np.array(points, dtype=float)
    heights = np.linspace(given[0, 0], given[-1, 0], num)
    radii = np.interp(heights, given[:, 0], given[:, 1])
    if smooth:
        width = max(num // 12, 1)
        padded = np.pad(radii, width, mode="edge")
        radii = np.convolve(padded, np.full(2 * width + 1, 1.0 / (2 * width + 1)), mode="valid")
    return Solid(heights, radii)


def see(shape: Solid, view: View) -> Seen:
    """Return what is seen of a solid from outside."""
    sine, cosine = float(np.sin(view.elevation)), float(np.cos(view.elevation))
    radii_px, rows_px = _projected(shape, view)
    step_px = float(np.diff(shape.heights).max()) * cosine * view.scale_px
    box = _box(radii_px, rows_px, sine, step_px, view)
    columns = np.arange(box[1].start, box[1].stop) - view.x0_px
    rows = np.arange(box[0].start, box[0].stop, dtype=np.float32)
    discs = np.full((len(rows), len(columns)), _OUTSIDE, np.int16)
    for index, (radius, row) in enumerate(zip(radii_px, rows_px, strict=True)):
        covered = _cover(discs.shape, columns, rows, radius, row, sine, step_px)
        if covered is not None:
            where, inside = covered
            discs[where][inside] = index
    return _describe(discs, shape, radii_px, rows_px, columns, rows, box)


def see_inside(shape: Solid, view: View, lowest: float) -> Seen:
    """Return what is seen of a hollow through its highest disc: the wall down to `lowest`; `top` is the floor there."""
    sine, cosine = float(np.sin(view.elevation)), float(np.cos(view.elevation))
    num = max(int(np.searchsorted(shape.heights, lowest)), 0)
    hollow = Solid(shape.heights[num:], shape.radii[num:])
    radii_px, rows_px = _projected(hollow, view)
    step_px = cosine * view.scale_px * 0.004
    box = _box(radii_px[-1:], rows_px[-1:], sine, step_px, view)
    columns = np.arange(box[1].start, box[1].stop) - view.x0_px
    rows = np.arange(box[0].start, box[0].stop, dtype=np.float32)
    discs = np.full((len(rows), len(columns)), _OUTSIDE, np.int16)
    within = np.ones(discs.shape, bool)
    for index in range(len(radii_px) - 1, -1, -1):
        halves = sine * np.sqrt(np.maximum(radii_px[index] ** 2 - columns**2, 0.0)) + step_px
        halves[np.abs(columns) > radii_px[index]] = -1.0
        within &= np.abs(rows - rows_px[index])[:, None] <= halves[None, :]
        discs[within] = index
    seen = _describe(discs, hollow, radii_px, rows_px, columns, rows, box)
    return Seen(seen.box, seen.mask, seen.heights, seen.sides, seen.facing, seen.slopes, discs == 0)


def _projected(shape: Solid, view: View) -> tuple[np.ndarray, np.ndarray]:
    widening = 1.0 + view.taper * np.sin(view.elevation) * (shape.heights - 0.5)
    radii_px = shape.radii * widening * view.scale_px
    return radii_px, view.y0_px - shape.heights * np.cos(view.elevation) * view.scale_px


def _box(radii: np.ndarray, rows: np.ndarray, sine: float, step: float, view: View) -> tuple[slice, slice]:
    widest = float(radii.max())
    first, last = float((rows - radii * sine).min() - step), float((rows + radii * sine).max() + step)
    vertical = slice(max(int(first), 0), max(min(int(last) + 2, view.height_px), 1))
    horizontal = slice(max(int(view.x0_px - widest), 0), max(min(int(view.x0_px + widest) + 2, view.width_px), 1))
    return vertical, horizontal


def _cover(
    shape: tuple[int, ...], columns: np.ndarray, rows: np.ndarray, radius: float, row: float, sine: float, step: float
) -> tuple[tuple[slice, slice], np.ndarray] | None:
    reach = sine * radius + step
    first, last = np.searchsorted(rows, row - reach), np.searchsorted(rows, row + reach, side="right")
    left, right = np.searchsorted(columns, -radius), np.searchsorted(columns, radius, side="right")
    if first >= last or left >= right:
        return None
    halves = sine * np.sqrt(np.maximum(radius**2 - columns[left:right] ** 2, 0.0)) + 0.6 * step
    where = (slice(int(first), int(last)), slice(int(left), int(right)))
    return where, np.abs(rows[first:last] - row)[:, None] <= halves[None, :]


def _describe(
    discs: np.ndarray,
    shape: Solid,
    radii_px: np.ndarray,
    rows_px: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
    box: tuple[slice, slice],
) -> Seen:
    mask = discs != _OUTSIDE
    found = np.maximum(discs, 0)
    sides = np.clip(columns[None, :] / np.maximum(radii_px[found], 1e-3), -1.0, 1.0).astype(np.float32)
    nearer = rows[:, None] >= rows_px[found]
    facing = np.sqrt(1.0 - sides**2) * np.where(nearer, 1.0, -1.0).astype(np.float32)
    slopes = -np.gradient(shape.radii, shape.heights) if len(shape.radii) > 1 else np.zeros(1)
    upward = (slopes / np.sqrt(1.0 + slopes**2)).astype(np.float32)
    heights = np.where(mask, shape.heights[found], 0.0).astype(np.float32)
    return Seen(box, mask, heights, sides, facing, upward[found], discs == len(radii_px) - 1)
