"""Synthesised metal: hi-hats, rides, crashes, splashes, chinas, bells; acoustic ones and drum machines'.

A cymbal has hundreds of modes, so close that they sound as coloured noise whose colour changes as it dies away: high
ones first, after the stroke's energy has climbed up to them. Modes are drawn at random with the density that a plate
has (the same everywhere), the first ones apart.
"""

from __future__ import annotations

import numpy as np

from training.drums.modal import SAMPLE_RATE_HZ, Dice, Spectrum, band, fall, noise, num_samples, peaked, ring

_SQUARES_HZ = np.array([205.3, 304.4, 369.6, 522.7, 540.0, 800.0])  # the TR-808's six oscillators


class Plate:
    """A thing of metal: where its modes are and how loud each speaks."""

    def __init__(self, dice: Dice, modes: int, low_hz: float, high_hz: float, *, electronic: bool = False) -> None:
        if electronic:
            harmonics = np.arange(1, 40, 2)
            tuned = _SQUARES_HZ * dice.log(0.7, 1.5) * np.exp(dice.rng.normal(0, 0.05, 6))
            self.hz = np.outer(tuned, harmonics).ravel()
            weights = np.tile(1 / harmonics, 6)
            kept = (self.hz > low_hz) & (self.hz < min(high_hz, 20_000))
            self.hz, self._weights = self.hz[kept], weights[kept] * self.hz[kept] / 3000
        else:
            first = int(modes * 0.12)
            low = np.geomspace(low_hz, 8 * low_hz, first) * np.exp(dice.rng.normal(0, 0.03, first))
            self.hz = np.concatenate([low, dice.rng.uniform(4 * low_hz, high_hz, modes - first)])
            self._weights = np.exp(dice.rng.normal(0, 0.8, self.hz.size))

    def sound(
        self, rng: np.random.Generator, size: int, spectrum: Spectrum, decay_s: np.ndarray, scatter: float = 0.35
    ) -> np.ndarray:
        """Return the modes, each decaying in its own time; where it is struck differs from stroke to stroke."""
        gains = self._weights * spectrum(self.hz) * np.exp(rng.normal(0, scatter, self.hz.size))
        heard = gains > 1e-3 * gains.max()
        phases = rng.uniform(-np.pi, np.pi, self.hz.size)
        made = ring(size, self.hz[heard], gains[heard], decay_s[heard], phases[heard])
        return made / np.float32(np.sqrt((gains[heard] ** 2).sum() / 2) + 1e-9)


class Hihat:
    """Two plates that touch: how tightly decides how long they sound."""

    def __init__(self, dice: Dice, *, electronic: bool = False) -> None:
        self._plate = Plate(dice, 220, dice.log(280, 620), dice.log(13_000, 19_000), electronic=electronic)
        peak_hz = dice.log(4500, 11_500)
        self._spectrum = peaked(
            band(dice.log(1400, 6500), dice.log(9000, 18_000), dice.uniform(1, 3), dice.uniform(1, 2.5)),
            [
                (peak_hz, dice.uniform(0, 8), dice.uniform(0.2, 0.6)),
                (dice.log(2500, 14_000), dice.uniform(-6, 6), dice.uniform(0.15, 0.5)),
                (dice.log(350, 1200), dice.uniform(0, 14), dice.uniform(0.1, 0.4)),
            ],
        )
        self._foot = peaked(
            band(dice.log(500, 2800), dice.log(4500, 12_000), dice.uniform(0.8, 2), dice.uniform(1, 2.5)),
            [(dice.log(300, 900), dice.uniform(0, 12), 0.3), (dice.log(2000, 6000), dice.uniform(-3, 7), 0.4)],
        )
        self._decays_s = {
            "hihat_closed": dice.log(0.012, 0.065),
            "hihat_half": dice.log(0.08, 0.28),
            "hihat_open": dice.log(0.3, 1.3),
            "hihat_pedal": dice.log(0.01, 0.06),
        }
        self._tilt = dice.uniform(0.1, 0.7)
        self._noise = dice.gain(-12, 6)
        self._stick, self._stick_hz = dice.gain(-16, 4), dice.log(3000, 9000)
        self._thud = dice.gain(-40, -16)
        self._clap_s = dice.uniform(0, 0.006)
        self._levels = {
            "hihat_closed": 1.0,
            "hihat_half": dice.gain(0, 6),
            "hihat_open": dice.gain(0, 7),
            "hihat_pedal": dice.gain(-9, 1),
        }
        if electronic and dice.chance(0.5):  # noise alone, as some machines
            self._noise = 8.0
        self._electronic = electronic

    def level(self, articulation: str) -> float:
        """Return how loud it is beside the closed hi-hat."""
        return self._levels[articulation]

    def strike(self, rng: np.random.Generator, velocity: float, articulation: str) -> np.ndarray:
        """Return a stroke, or a closing by foot."""
        foot = articulation == "hihat_pedal"
        hard = velocity ** rng.uniform(0.5, 0.9)
        decay_s = self._decays_s[articulation] * np.exp(rng.normal(0, 0.12)) * (0.75 + 0.25 * hard)
        size = num_samples(min(2.6, 6 * decay_s + 0.02))
        base = self._foot if foot else self._spectrum
        soft_hz = 5000 + 15_000 * hard

        def spectrum(hz: np.ndarray) -> np.ndarray:
            return base(hz) * (1 + (hz / soft_hz) ** 2) ** -0.5

        decays_s = decay_s * (3000 / np.maximum(self._plate.hz, 800)) ** self._tilt * 1.4
        tone = self._plate.sound(rng, size, spectrum, decays_s)
        hiss = noise(rng, size, spectrum) * fall(size, decay_s, 0.0002)
        if articulation in ("hihat_half", "hihat_open"):  # the plates keep knocking at each other
            hiss *= 1 + 0.4 * np.sin(2 * np.pi * rng.uniform(18, 60) * np.arange(size) / SAMPLE_RATE_HZ)
        total = tone + self._noise * hiss
        length = min(size, num_samples(0.025))
        if foot:
            total *= 1 - np.exp(-np.arange(size) / (SAMPLE_RATE_HZ * 0.0009))
            second = num_samples(self._clap_s)
            total[second:] += 0.5 * total[: size - second].copy()
        elif not self._electronic:
            stick = noise(rng, length, band(self._stick_hz / 2, self._stick_hz * 2)) * fall(length, 0.0016, 0.0001)
            total[:length] += 2.5 * self._stick * hard * stick
            total[:length] += self._thud * noise(rng, length, band(200, 900)) * fall(length, 0.006, 0.0005) * 4
        return total.astype(np.float32)


class Ride:
    """A heavy cymbal: the stick's ping, a wash that grows beneath it, a bell that rings."""

    def __init__(self, dice: Dice, *, electronic: bool = False) -> None:
        self._plate = Plate(dice, 260, dice.log(240, 520), dice.log(10_000, 17_000), electronic=electronic)
        self._wash_s = dice.log(0.5, 2.4)
        self._wash = dice.gain(-22, -3)
        self._wash_spectrum = peaked(
            band(dice.log(250, 2800), dice.log(4500, 13_000), dice.uniform(0.6, 2), dice.uniform(0.8, 2)),
            [(dice.log(400, 8000), dice.uniform(-6, 8), dice.uniform(0.2, 0.7)) for _ in range(2)],
        )
        count = int(dice.rng.integers(5, 16))
        self._ping_hz = dice.rng.uniform(dice.log(1100, 3000), dice.log(4200, 9500), count)
        self._ping_gains = np.exp(dice.rng.normal(0, 0.7, count))
        self._ping_s = dice.log(0.05, 0.6) * np.exp(dice.rng.normal(0, 0.5, count))
        self._ping = dice.gain(-10, 4)
        self._tick, self._tick_s = dice.gain(-6, 8), dice.log(0.002, 0.014)
        self._tick_hz = dice.log(2800, 8500)
        self._hum_hz, self._hum = dice.log(220, 600), dice.gain(-40, -14)
        bell = dice.log(550, 1500)
        self._bell_hz = bell * np.array([1.0, *np.sort(dice.rng.uniform(1.3, 7.0, 9))])
        self._bell_gains = np.array([dice.gain(-14, 0) for _ in range(10)])
        self._bell_s = dice.log(0.35, 1.6) * np.exp(dice.rng.normal(0, 0.35, 10)) * np.linspace(1.2, 0.5, 10)
        self._tilt = dice.uniform(0.1, 0.6)

    def strike(self, rng: np.random.Generator, velocity: float, *, bell: bool = False) -> np.ndarray:
        """Return a stroke on the bow or on the bell."""
        hard = velocity ** rng.uniform(0.5, 0.9)
        size = num_samples(min(2.8, 5 * self._wash_s))
        decays_s = self._wash_s * (2000 / np.maximum(self._plate.hz, 500)) ** self._tilt
        wash = self._plate.sound(rng, size, self._wash_spectrum, decays_s)
        wash *= 0.25 + 0.75 * (1 - np.exp(-np.arange(size, dtype=np.float32) / (SAMPLE_RATE_HZ * 0.02)))
        total = self._wash * (0.3 + 0.7 * hard**1.5) * wash
        hum_hz = np.array([self._hum_hz, self._hum_hz * 1.47])
        total += self._hum * ring(size, hum_hz, np.ones(2), np.full(2, self._wash_s), rng.uniform(-3, 3, 2))
        if bell:
            gains = self._bell_gains * np.exp(rng.normal(0, 0.2, 10))
            total += ring(size, self._bell_hz, gains, self._bell_s, rng.uniform(-3, 3, 10))
        else:
            count = self._ping_hz.size
            gains = self._ping_gains * np.exp(rng.normal(0, 0.4, count))
            gains *= self._ping / np.sqrt((gains**2).sum() / 2)
            hz = self._ping_hz * (1 + rng.normal(0, 0.002))
            total += ring(size, hz, gains, self._ping_s, rng.uniform(-3, 3, count))
        length = min(size, num_samples(0.1))
        tick_hz = self._tick_hz * (0.65 + 0.35 * hard)
        tick = noise(rng, length, band(tick_hz / 2.2, tick_hz * 1.8)) * fall(length, self._tick_s, 0.0001)
        total[:length] += self._tick * (0.5 + hard) * tick
        return total


class Crash:
    """A thin cymbal: crash, splash or china."""

    def __init__(self, dice: Dice, kind: str, *, electronic: bool = False) -> None:
        low_hz, decay_s, modes = {
            "crash": (dice.log(200, 480), dice.log(0.4, 1.7), 380),
            "splash": (dice.log(450, 1000), dice.log(0.12, 0.5), 220),
            "china": (dice.log(220, 600), dice.log(0.25, 1.0), 300),
        }[kind]
        self._plate = Plate(dice, modes, low_hz, dice.log(12_000, 19_000), electronic=electronic)
        self._decay_s = decay_s
        self._tilt = dice.uniform(0.15, 0.75)
        self._spectrum = peaked(
            band(dice.log(300, 2600), dice.log(6000, 16_000), dice.uniform(0.6, 1.8), dice.uniform(0.7, 2)),
            [(dice.log(500, 9000), dice.uniform(-6, 7), dice.uniform(0.2, 0.8)) for _ in range(3)],
        )
        self._rise_s = dice.log(0.0008, 0.02)
        self._burst, self._burst_s = dice.gain(-14, 4), dice.log(0.008, 0.09)
        self._trash = dice.gain(-6, 6) if kind == "china" else dice.gain(-26, -6)
        self._thud = dice.gain(-34, -12)

    def strike(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return a stroke."""
        hard = velocity ** rng.uniform(0.5, 0.9)
        size = num_samples(min(3.0, 5.5 * self._decay_s))
        soft_hz = 1500 + 16_000 * hard

        def spectrum(hz: np.ndarray) -> np.ndarray:
            return self._spectrum(hz) * (1 + (hz / soft_hz) ** 2) ** -0.5

        decays_s = self._decay_s * (2500 / np.maximum(self._plate.hz, 500)) ** self._tilt * (0.7 + 0.3 * hard)
        total = self._plate.sound(rng, size, spectrum, decays_s)
        # energy climbs up to the modes that are heard
        total *= 0.35 + 0.65 * (1 - np.exp(-np.arange(size, dtype=np.float32) / (SAMPLE_RATE_HZ * self._rise_s)))
        length = min(size, num_samples(7 * max(self._burst_s, 0.25 * self._decay_s)))
        hiss = noise(rng, length, spectrum)
        total[:length] += self._burst * hiss * fall(length, self._burst_s, 0.0008)
        total[:length] += self._trash * hiss * fall(length, 0.25 * self._decay_s, 0.002)
        short = min(size, num_samples(0.05))
        total[:short] += self._thud * 3 * noise(rng, short, band(150, 1200)) * fall(short, 0.008, 0.0003)
        return total


class Bell:
    """Few modes that ring: a cowbell, a triangle, an agogo."""

    def __init__(self, dice: Dice, kind: str) -> None:
        base, decay_s, count = {
            "cowbell": (dice.log(430, 950), dice.log(0.04, 0.25), 7),
            "triangle": (dice.log(1800, 5200), dice.log(0.25, 1.6), 9),
            "agogo": (dice.log(650, 1500), dice.log(0.08, 0.5), 6),
        }[kind]
        self._hz = base * np.array([1.0, dice.uniform(1.4, 1.6), *np.sort(dice.rng.uniform(2.0, 7.0, count - 2))])
        self._gains = np.array([1.0, dice.gain(-8, 2), *(dice.gain(-24, -4) for _ in range(count - 2))])
        self._decays_s = decay_s * np.array([1.0, 0.9, *(dice.uniform(0.15, 0.9) for _ in range(count - 2))])
        self._click = dice.gain(-20, -4)

    def strike(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return a stroke."""
        size = num_samples(min(2.5, 6 * self._decays_s[0]))
        gains = self._gains * np.exp(rng.normal(0, 0.2, self._hz.size))
        gains[2:] *= 0.4 + 0.6 * velocity
        total = ring(size, self._hz, gains, self._decays_s, rng.uniform(-3, 3, self._hz.size))
        return total + self._click * 2 * noise(rng, size, band(2000, 9000)) * fall(size, 0.002, 0.0001)
