"""What is in a vessel, or is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.images.drawings.palettes import Style, varied

# colour, how opaque a vessel of it looks from the side
_DRINKS: dict[Style, dict[str, tuple[tuple[float, float, float], float]]] = {
    Style.TRAINED: {
        "coffee": ((0.16, 0.08, 0.04), 0.97),
        "latte": ((0.68, 0.47, 0.31), 0.98),
        "black tea": ((0.52, 0.20, 0.05), 0.88),
        "green tea": ((0.66, 0.68, 0.28), 0.72),
        "orange juice": ((0.96, 0.60, 0.10), 0.96),
        "cola": ((0.20, 0.09, 0.06), 0.95),
        "milk": ((0.95, 0.94, 0.90), 0.98),
        "water": ((0.72, 0.82, 0.87), 0.32),
    },
    Style.HELD_OUT: {
        "matcha latte": ((0.58, 0.70, 0.38), 0.98),
        "berry juice": ((0.62, 0.10, 0.22), 0.93),
        "cocoa": ((0.38, 0.22, 0.15), 0.98),
        "lemonade": ((0.93, 0.88, 0.55), 0.70),
        "beer": ((0.88, 0.60, 0.12), 0.82),
    },
}


@dataclass(frozen=True, slots=True)
class Drink:
    """A drink.

    Attributes:
        name: what it is.
        colour: (3,).
        opacity: of a vessel full of it, seen from the side.
        level: height of its surface as a share of the hollow, 0 to 1.
        foam: opacity of foam on the surface, 0: none.
        ice: number of cubes.
        art: whether milk is poured into a pattern.
    """

    name: str
    colour: np.ndarray
    opacity: float
    level: float
    foam: float = 0.0
    ice: int = 0
    art: bool = False


def pour(rng: np.random.Generator, style: Style, level: float) -> Drink:
    """Return a drink of the style, filled to `level`."""
    name = str(rng.choice(list(_DRINKS[style])))
    colour, opacity = _DRINKS[style][name]
    cold = name in {"cola", "water", "orange juice", "berry juice", "lemonade", "black tea", "coffee"}
    milky = name in {"latte", "matcha latte", "cocoa"}
    foamy = name in {"beer", "cola", "coffee"} and rng.random() < 0.35
    return Drink(
        name=name,
        colour=varied(rng, colour, 0.05),
        opacity=opacity,
        level=level,
        foam=float(rng.uniform(0.5, 0.95)) if foamy or (milky and rng.random() < 0.5) else 0.0,
        ice=int(rng.integers(2, 6)) if cold and rng.random() < 0.4 else 0,
        art=milky and rng.random() < 0.5,
    )
