"""Synthesised hand percussion and other short sounds that are no drum of the kit."""

from __future__ import annotations

import numpy as np

from training.drums.metals import Bell
from training.drums.modal import SAMPLE_RATE_HZ, Dice, band, fall, noise, num_samples, ring


class Clap:
    """Several hands, not quite together, and the room after them."""

    def __init__(self, dice: Dice) -> None:
        self._count = int(dice.rng.integers(1, 6))
        self._gap_s = dice.log(0.004, 0.016)
        self._spectrum = band(dice.log(450, 1300), dice.log(1700, 6000), 2.0, 1.5)
        self._burst_s, self._tail_s = dice.log(0.002, 0.008), dice.log(0.02, 0.15)
        self._tail = dice.gain(-10, 0)

    def strike(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return a clap."""
        size = num_samples(self._count * self._gap_s + 6 * self._tail_s)
        starts = np.arange(self._count) * self._gap_s + np.abs(rng.normal(0, 0.001, self._count))
        starts[0] = 0
        envelope = sum(fall(size, self._burst_s, 0.0002, start) for start in starts)
        envelope += self._tail * fall(size, self._tail_s, 0.0005, starts[-1])
        return noise(rng, size, self._spectrum) * envelope


class Tambourine:
    """Jingles that ring and knock."""

    def __init__(self, dice: Dice) -> None:
        self._hz = dice.rng.uniform(dice.log(3000, 6000), dice.log(9000, 16_000), 40)
        self._decay_s = dice.log(0.02, 0.12)
        self._rise_s = dice.log(0.0005, 0.006)
        self._knocks = int(dice.rng.integers(1, 5))
        self._skin = dice.gain(-30, -6)

    def strike(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return a stroke."""
        size = num_samples(8 * self._decay_s + 0.05)
        gains = np.exp(rng.normal(0, 0.7, 40)) / 6
        total = ring(size, self._hz, gains, np.full(40, self._decay_s), rng.uniform(-3, 3, 40))
        envelope = fall(size, self._decay_s * 0.6, self._rise_s)
        for start_s in np.cumsum(rng.exponential(0.012, self._knocks - 1)):
            envelope += rng.uniform(0.2, 0.8) * fall(size, self._decay_s * 0.4, 0.0005, start_s)
        total += noise(rng, size, band(4000, 13_000)) * envelope
        return total + self._skin * noise(rng, size, band(200, 900)) * fall(size, 0.02, 0.001)


class Shaker:
    """Grains in a box: their noise swells, and ends with a knock."""

    def __init__(self, dice: Dice) -> None:
        low_hz = dice.log(2200, 7000)
        self._spectrum = band(low_hz, low_hz * dice.uniform(1.3, 3.5), 2.0, 1.5)
        self._rise_s, self._decay_s = dice.log(0.001, 0.03), dice.log(0.01, 0.06)
        self._grain = dice.uniform(0.0, 0.8)

    def strike(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return one shake; the swell begins within it, so that it is heard where it is loud."""
        size = num_samples(3 * self._rise_s + 7 * self._decay_s)
        grains = np.abs(noise(rng, size, band(20, 400))) ** 2
        return (
            noise(rng, size, self._spectrum)
            * (1 - self._grain + self._grain * grains)
            * fall(size, self._decay_s * (0.7 + 0.3 * velocity), min(self._rise_s, 0.004))
        )


class Woodblock:
    """Hollow wood: a few short modes."""

    def __init__(self, dice: Dice) -> None:
        self._hz = dice.log(450, 2700) * np.array([1.0, *np.sort(dice.rng.uniform(1.6, 5.0, 3))])
        self._gains = np.array([1.0, *(dice.gain(-20, -3) for _ in range(3))])
        self._decays_s = dice.log(0.008, 0.06) * np.array([1.0, 0.6, 0.4, 0.3])
        self._click = dice.gain(-24, -6)

    def strike(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return a stroke."""
        size = num_samples(7 * self._decays_s[0] + 0.01)
        gains = self._gains * np.exp(rng.normal(0, 0.15, 4))
        total = ring(size, self._hz, gains, self._decays_s, rng.uniform(-0.5, 0.5, 4) - np.pi / 2)
        return total + self._click * 2 * noise(rng, size, band(1500, 7000)) * fall(size, 0.0025, 0.0001)


class Other:
    """Whatever else is struck: bells, scraped gourds, rattles, blips of drum machines, finger snaps."""

    def __init__(self, dice: Dice) -> None:
        self._kind = dice.pick(("triangle", "agogo", "scrape", "rattle", "blip", "snap"))
        self._bell = Bell(dice, self._kind) if self._kind in ("triangle", "agogo") else None
        self._rate_hz = dice.log(25, 90)
        self._length_s = dice.log(0.06, 0.35)
        self._spectrum = band(dice.log(800, 2500), dice.log(3500, 9000))
        self._hz, self._ratio = dice.log(250, 3000), dice.uniform(0.5, 3.5)
        self._index, self._bend = dice.uniform(0, 3), dice.uniform(-0.5, 0.8)
        self._decay_s = dice.log(0.01, 0.12)

    def strike(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return a stroke."""
        if self._bell:
            return self._bell.strike(rng, velocity)
        if self._kind == "blip":
            size = num_samples(6 * self._decay_s)
            times = np.arange(size) / SAMPLE_RATE_HZ
            phase = 2 * np.pi * self._hz * (times + self._bend * self._decay_s * (1 - np.exp(-times / self._decay_s)))
            wave = np.sin(phase + self._index * np.sin(self._ratio * phase)).astype(np.float32)
            return wave * fall(size, self._decay_s, 0.0005)
        if self._kind == "snap":
            size = num_samples(0.15)
            hz = self._hz * np.array([1.0, 1.7]) + 900
            click = noise(rng, size, self._spectrum) * fall(size, 0.006, 0.0003)
            return click + ring(size, hz, np.ones(2), np.full(2, 0.008), rng.uniform(-3, 3, 2))
        size = num_samples(self._length_s + 0.03)
        times = np.arange(size) / SAMPLE_RATE_HZ
        teeth = np.exp(-((times * self._rate_hz * (1 + 0.1 * rng.normal())) % 1) * 6)
        fade = np.clip((self._length_s - times) / 0.02, 0, 1) if self._kind == "scrape" else np.exp(-times / 0.1)
        return (noise(rng, size, self._spectrum) * teeth * fade).astype(np.float32)
