"""Synthesised drum kits: every parameter is drawn once for a kit, little of it anew for a stroke."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from training.drums.articulations import ARTICULATIONS, HIHATS, TOMS
from training.drums.membranes import Conga, Kick, Snare, Toms
from training.drums.metals import Bell, Crash, Hihat, Ride
from training.drums.modal import Dice, Split
from training.drums.percussion import Clap, Other, Shaker, Tambourine, Woodblock

_PERCUSSION: dict[str, Callable[[Dice], Any]] = {
    "clap": Clap,
    "tambourine": Tambourine,
    "shaker": Shaker,
    "woodblock": Woodblock,
    "conga": Conga,
}
Strike = Callable[[np.random.Generator, float], np.ndarray]


class SynthesisedDrums:
    """A source of all articulations that needs no recordings; each drum's parameters are drawn when it is first struck.

    Attributes:
        name: "acoustic" or "electronic", with the seed.
    """

    def __init__(self, rng: np.random.Generator, split: Split, *, electronic: bool = False) -> None:
        self._seed = int(rng.integers(2**31))
        self._split, self._electronic = split, electronic
        self.name = f"{'electronic' if electronic else 'acoustic'}-{split}-{self._seed}"
        self.articulations = frozenset(ARTICULATIONS)
        self._slope_db = float(rng.uniform(20, 38))  # for ten times the velocity
        self._strikes: dict[str, Strike] = {}
        self._hihat: Hihat | None = None

    def level_db(self, articulation: str, velocity: float) -> float:
        """Return how loud a stroke is, relative to the hardest one on the drum, or on the closed hi-hat."""
        level = self._slope_db * float(np.log10(velocity))
        if articulation in HIHATS:
            self._strike(articulation)
            assert self._hihat
            level += 20 * float(np.log10(self._hihat.level(articulation)))
        return level

    def render(self, rng: np.random.Generator, articulation: str, velocity: float) -> np.ndarray:
        """Return a stroke of any scale, (n,) float32."""
        return np.asarray(self._strike(articulation)(rng, velocity), np.float32)

    def _strike(self, articulation: str) -> Strike:
        if articulation not in self._strikes:
            self._strikes |= self._make(articulation)
        return self._strikes[articulation]

    def _make(self, articulation: str) -> dict[str, Strike]:
        """Return how a drum is struck, in all ways that it can be."""
        family = articulation.split("_")[0]
        dice = Dice(np.random.default_rng([self._seed, *family.encode()]), self._split)
        electronic = self._electronic
        match articulation:
            case "kick":
                return {"kick": Kick(dice, electronic=electronic).strike}
            case "snare" | "snare_rim" | "snare_brush" | "side_stick":
                dice = Dice(np.random.default_rng([self._seed, *b"snare"]), self._split)
                snare = Snare(dice, electronic=electronic)
                return {
                    "snare": snare.strike,
                    "snare_rim": partial(snare.strike, rim=True),
                    "snare_brush": snare.brush,
                    "side_stick": snare.cross_stick,
                }
            case "ride" | "ride_bell":
                ride = Ride(dice, electronic=electronic)
                return {"ride": ride.strike, "ride_bell": partial(ride.strike, bell=True)}
            case "crash" | "splash" | "china":
                return {articulation: Crash(dice, articulation, electronic=electronic).strike}
            case "cowbell":
                return {articulation: Bell(dice, "cowbell").strike}
        if articulation in HIHATS:
            self._hihat = hihat = Hihat(dice, electronic=electronic)
            return {name: partial(hihat.strike, articulation=name) for name in HIHATS}
        if articulation in TOMS:
            toms = Toms(dice, electronic=electronic)
            return {name: partial(toms.strike, which=name) for name in TOMS}
        return {articulation: _PERCUSSION.get(articulation, Other)(dice).strike}
