"""A transparent sheet that is painted on, layer over layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

Box = tuple[slice, slice]
Colour = np.ndarray  # (3,) or (rows, columns, 3), 0 to 1


class Canvas:
    """Pixels (rows, columns, 4), colour times opacity and opacity, 0 to 1."""

    def __init__(self, height_px: int, width_px: int) -> None:
        self.pixels = np.zeros((height_px, width_px, 4), np.float32)

    def paint(self, box: Box, opacity: np.ndarray, colour: Colour) -> None:
        """Lay a colour over a box of the sheet.

        Args:
            box: rows and columns.
            opacity: (rows, columns), 0 to 1 or bool.
            colour: one, or one for each pixel.
        """
        share = opacity.astype(np.float32)[..., None]
        part = self.pixels[box]
        part *= 1.0 - share
        part[..., :3] += np.clip(colour, 0.0, 1.0) * share
        part[..., 3:] += share

    def stroke(
        self, points: Sequence[tuple[float, float]], width_px: float, colour: np.ndarray, opacity: float = 1.0
    ) -> None:
        """Draw a line with round ends through points (column, row)."""
        half = width_px / 2
        columns, rows = zip(*points, strict=True)
        left, upper = int(min(columns) - half) - 1, int(min(rows) - half) - 1
        right, lower = int(max(columns) + half) + 2, int(max(rows) + half) + 2
        left, upper = max(left, 0), max(upper, 0)
        right, lower = min(right, self.pixels.shape[1]), min(lower, self.pixels.shape[0])
        if left >= right or upper >= lower:
            return
        moved = [(column - left, row - upper) for column, row in points]
        sheet = Image.new("L", (right - left, lower - upper))
        draw = ImageDraw.Draw(sheet)
        if len(moved) > 1:
            draw.line(moved, fill=255, width=max(round(width_px), 1), joint="curve")
        for column, row in (moved[0], moved[-1]):
            draw.ellipse((column - half, row - half, column + half, row + half), fill=255)
        box = (slice(upper, lower), slice(left, right))
        self.paint(box, np.asarray(sheet, np.float32) / 255.0 * opacity, colour)

    def fill(self, points: Sequence[tuple[float, float]], colour: np.ndarray, opacity: float = 1.0) -> None:
        """Fill a polygon of points (column, row)."""
        columns, rows = zip(*points, strict=True)
        left, upper = max(int(min(columns)) - 1, 0), max(int(min(rows)) - 1, 0)
        right = min(int(max(columns)) + 2, self.pixels.shape[1])
        lower = min(int(max(rows)) + 2, self.pixels.shape[0])
        if left >= right or upper >= lower:
            return
        sheet = Image.new("L", (right - left, lower - upper))
        ImageDraw.Draw(sheet).polygon([(column - left, row - upper) for column, row in points], fill=255)
        box = (slice(upper, lower), slice(left, right))
        self.paint(box, np.asarray(sheet, np.float32) / 255.0 * opacity, colour)

    def image(self) -> Image.Image:
        """Return the sheet as an RGBA image."""
        opacity = self.pixels[..., 3:]
        colours = self.pixels[..., :3] / np.maximum(opacity, 1e-4)
        joined = np.concatenate([colours, opacity], axis=2)
        return Image.fromarray((np.clip(joined, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8), "RGBA")
