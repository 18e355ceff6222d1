"""Synthesised drums with a head: bass drums, snare drums, toms, congas; acoustic ones and drum machines'.

Ratios of the modes are those of an ideal circular membrane (Fletcher and Rossing, The Physics of Musical Instruments),
scattered: air, shell and tuning move them. A stroke takes its velocity in (0, 1] and returns samples of any scale.
"""

from __future__ import annotations

import numpy as np

from training.drums.modal import SAMPLE_RATE_HZ, Dice, band, fall, noise, num_samples, peaked, ring

_MEMBRANE = np.array([1.0, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156, 3.5, 3.6, 4.06])


def _glide(size: int, hz: float, share: float, decay_s: float) -> np.ndarray:
    """Return the phase of a tone that begins higher by a share and falls to its frequency."""
    times = np.arange(size) / SAMPLE_RATE_HZ
    return 2 * np.pi * hz * (times + share * decay_s * (1 - np.exp(-times / decay_s)))


def _sweep(
    rng: np.random.Generator, phase: np.ndarray, ratios: np.ndarray, gains: np.ndarray, decays_s: np.ndarray
) -> np.ndarray:
    """Return modes that glide together."""
    total = np.zeros(phase.size, np.float32)
    for ratio, gain, decay_s in zip(ratios, gains, decays_s, strict=True):
        size = min(phase.size, num_samples(7 * decay_s))
        start = rng.normal(0, 0.15)
        total[:size] += np.sin((ratio * phase[:size] + start).astype(np.float32)) * fall(size, decay_s) * gain
    return total


class Kick:
    """A bass drum: modes that glide a little, the beater's click, the shell, and what the room's floor adds."""

    def __init__(self, dice: Dice, *, electronic: bool = False) -> None:
        self._hz = dice.log(42, 92)
        tight = dice.uniform(0, 1)
        self._decay_s = 0.035 * (0.35 / 0.035) ** (1 - tight)
        self._share, self._glide_s = dice.log(0.08, 1.6), dice.log(0.008, 0.04)
        self._ratios = _MEMBRANE[:6] * np.exp(dice.rng.normal(0, 0.06, 6))
        self._ratios[0] = 1.0
        if dice.chance(0.4):  # the resonant head, close to the beaten one
            self._ratios[1] = dice.uniform(1.05, 1.5)
        self._gains = np.array([1.0, *(dice.gain(-30, -7) for _ in range(5))])
        self._decays_s = self._decay_s * np.array([1.0, *(dice.uniform(0.15, 0.7) for _ in range(5))])
        self._click = dice.gain(-34, -6)
        self._click_s, self._click_hz = dice.log(0.0012, 0.009), dice.log(900, 5500)
        self._click_width = dice.uniform(0.6, 2.5)
        self._shell, self._shell_s = dice.gain(-34, -12), dice.log(0.012, 0.08)
        self._shell_hz = dice.log(130, 700)
        self._buzz = dice.gain(-52, -30) if dice.chance(0.35) else 0.0
        self._drive = dice.uniform(0, 2.5) if dice.chance(0.3) else 0.0
        if electronic:
            self._hz, self._share, self._glide_s = dice.log(38, 70), dice.log(0.8, 9), dice.log(0.006, 0.05)
            self._gains[1:] = 0
            self._decays_s[0] = dice.log(0.06, 0.5)
            self._shell = self._buzz = 0.0
            self._drive = dice.uniform(0, 5) if dice.chance(0.5) else 0.0

    def strike(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return a stroke."""
        size = num_samples(min(1.4, 7 * self._decays_s[0] + 0.05))
        hard = velocity ** rng.uniform(0.5, 0.9)
        phase = _glide(size, self._hz * (1 + rng.normal(0, 0.004)), self._share * (0.4 + 0.6 * hard), self._glide_s)
        gains = self._gains * np.exp(rng.normal(0, 0.12, 6)) * np.array([1, *[0.5 + 0.5 * hard] * 5])
        body = _sweep(rng, phase, self._ratios, gains, self._decays_s)
        # a felt beater gives way: the attack is rounded off when it strikes softly
        body *= 1 - np.exp(-np.arange(size, dtype=np.float32) / (SAMPLE_RATE_HZ * (0.0004 + 0.0016 * (1 - hard))))
        length = min(size, num_samples(0.12))
        click_hz = self._click_hz * (0.5 + 0.5 * hard)
        click = noise(rng, length, band(click_hz / self._click_width, click_hz * self._click_width))
        body[:length] += self._click * hard * click * fall(length, self._click_s, 0.0002)
        if self._shell:
            shell_size = min(size, num_samples(6 * self._shell_s))
            shell = noise(rng, shell_size, band(self._shell_hz / 1.6, self._shell_hz * 2.2))
            body[:shell_size] += self._shell * shell * fall(shell_size, self._shell_s, 0.001)
        if self._buzz:
            body += self._buzz * noise(rng, size, band(1500, 7000)) * fall(size, 0.12, 0.01)
        return np.tanh(self._drive * body) if self._drive > 0.5 else body


class Snare:
    """A snare drum: the head, the wires that rattle against it, the rim, the stick; brushes on it."""

    def __init__(self, dice: Dice, *, electronic: bool = False) -> None:
        self._hz = dice.log(135, 290)
        self._ratios = np.array([1.0, *(np.sort(dice.rng.uniform(1.35, 4.2, 5)))])
        self._gains = np.array([1.0, *(dice.gain(-22, 0) for _ in range(5))])
        dead = dice.log(0.018, 0.13)
        self._decays_s = dead * np.array([1.0, *(dice.uniform(0.25, 1.2) for _ in range(5))])
        if dice.chance(0.3):  # an undamped head that rings
            self._decays_s[int(dice.rng.integers(1, 6))] = dice.uniform(0.12, 0.4)
        self._head = dice.gain(-9, 5)
        self._wires_s, self._snap_s = dice.log(0.035, 0.22), dice.log(0.004, 0.022)
        self._snap = dice.gain(-8, 6)
        self._wires = peaked(
            band(dice.log(350, 2600), dice.log(5000, 15000), dice.uniform(0.6, 2.5), dice.uniform(0.6, 2.5)),
            [(dice.log(500, 9000), dice.uniform(-7, 9), dice.uniform(0.15, 0.8)) for _ in range(3)],
        )
        self._rattle = dice.uniform(0, 0.7)
        self._delay_s = dice.uniform(0, 0.003)
        self._stick = dice.gain(-18, -3)
        self._stick_hz = dice.log(2200, 9000)
        self._rim_hz = dice.log(380, 1900) * np.array([1.0, *dice.rng.uniform(1.3, 4.5, 4)])
        self._rim_s = np.array([dice.log(0.008, 0.07) for _ in range(5)])
        self._rim = dice.gain(-6, 8)
        self._cross_hz = dice.log(750, 2300) * np.array([1.0, *dice.rng.uniform(1.2, 4.0, 4)])
        self._cross_s = np.array([dice.log(0.003, 0.022) for _ in range(5)])
        self._cross_body = dice.gain(-26, -6)
        self._brush = peaked(
            band(dice.log(300, 1500), dice.log(3500, 11000), 1.0, dice.uniform(1.0, 2.5)),
            [(dice.log(800, 6000), dice.uniform(-5, 6), 0.6)],
        )
        self._brush_s, self._brush_rise_s = dice.log(0.025, 0.11), dice.log(0.0008, 0.005)
        self._sweeps = dice.uniform(0, 0.6)
        if electronic:
            self._ratios = np.array([1.0, dice.uniform(1.5, 1.9)])
            self._gains = np.array([1.0, dice.gain(-12, 0)])
            self._decays_s = np.array([dice.log(0.03, 0.14), dice.log(0.02, 0.1)])
            self._rattle = self._delay_s = 0.0
            self._head = dice.gain(-12, 6)
        self._electronic = electronic

    def strike(self, rng: np.random.Generator, velocity: float, *, rim: bool = False) -> np.ndarray:
        """Return a stroke with a stick; a soft one has far more wires than head."""
        hard = velocity ** rng.uniform(0.5, 0.9)
        size = num_samples(min(0.9, 6.5 * max(self._wires_s, float(self._decays_s.max()))))
        modes = self._ratios.size
        glide = 1 + 0.03 * hard
        phase = _glide(size, self._hz * (1 + rng.normal(0, 0.005)), glide - 1, 0.02)
        place = np.exp(rng.normal(0, 0.3, modes))  # each stroke hits another place of the head
        head = _sweep(rng, phase, self._ratios, self._gains * place, self._decays_s)
        wires = noise(rng, size, self._wires)
        if self._rattle:  # the head throws the wires off, once each period
            wires = wires * (1 - self._rattle + self._rattle * 2 * np.abs(np.sin(phase / 2)).astype(np.float32))
        wires_s = self._wires_s * (0.7 + 0.3 * hard) * np.exp(rng.normal(0, 0.06))
        envelope = fall(size, wires_s, 0.0008, self._delay_s) + self._snap * fall(size, self._snap_s, 0.0003)
        total = self._head * (0.35 + 0.65 * hard) * head + wires * envelope
        length = min(size, num_samples(0.03))
        stick_hz = self._stick_hz * (0.6 + 0.4 * hard)
        total[:length] += (
            self._stick * hard * 2 * noise(rng, length, band(stick_hz / 2, stick_hz * 2)) * fall(length, 0.0015, 0.0001)
        )
        if rim:
            total += self._rim * (0.5 + hard) * self._wood(rng, size, self._rim_hz, self._rim_s)
        return total

    def _wood(self, rng: np.random.Generator, size: int, hz: np.ndarray, decay_s: np.ndarray) -> np.ndarray:
        gains = np.exp(rng.normal(0, 0.25, hz.size)) / np.arange(1, hz.size + 1) ** 0.5
        return ring(size, hz * (1 + rng.normal(0, 0.004)), gains, decay_s, rng.uniform(-1, 1, hz.size) - np.pi / 2)

    def cross_stick(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return the stick laid across the head and knocked on the rim."""
        size = num_samples(0.2)
        total = self._wood(rng, size, self._cross_hz, self._cross_s * (0.8 + 0.2 * velocity))
        phase = _glide(size, self._hz * 1.6, 0.0, 0.02)
        total += self._cross_body * _sweep(rng, phase, self._ratios[:2], self._gains[:2], self._decays_s[:2] * 0.5)
        return total + 0.3 * noise(rng, size, band(1800, 7000)) * fall(size, 0.003, 0.0002)

    def brush(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return a tap with a brush, or one that goes over into a sweep."""
        size = num_samples(0.5)
        tap = fall(size, self._brush_s * np.exp(rng.normal(0, 0.2)), self._brush_rise_s * (1.3 - velocity))
        if rng.random() < self._sweeps:
            times = np.arange(size, dtype=np.float32) / SAMPLE_RATE_HZ
            middle_s, width_s = rng.uniform(0.08, 0.22), rng.uniform(0.04, 0.09)
            tap += np.float32(rng.uniform(0.1, 0.4)) * np.exp(-(((times - middle_s) / width_s) ** 2))
        total = noise(rng, size, self._brush) * tap
        phase = _glide(size, self._hz, 0.0, 0.02)
        head = _sweep(rng, phase, self._ratios[:3], self._gains[:3], self._decays_s[:3])
        return total + 0.25 * velocity * self._head * head


class Toms:
    """Toms of one make: each a few modes that glide down, and a stick."""

    def __init__(self, dice: Dice, *, electronic: bool = False) -> None:
        low = dice.log(58, 105)
        high = low * dice.uniform(1.7, 2.6)
        self._hz = {
            "tom_low": low,
            "tom_mid": float(np.sqrt(low * high)) * dice.uniform(0.94, 1.06),
            "tom_high": high,
        }
        self._ratios = _MEMBRANE[:8] * np.exp(dice.rng.normal(0, 0.04, 8))
        self._ratios[0] = 1.0
        slope = dice.uniform(2, 7)
        self._gains = np.array([1.0, *(10 ** (-(slope + dice.uniform(0, 14)) / 20) for _ in range(7))])
        self._decay_s = dice.log(0.06, 0.5)
        self._decays = np.array([1.0, *(dice.uniform(0.12, 0.75) for _ in range(7))])
        self._share, self._glide_s = dice.log(0.008, 0.18), dice.log(0.02, 0.09)
        self._stick, self._stick_hz = dice.gain(-26, -6), dice.log(1200, 6500)
        self._skin, self._skin_s = dice.gain(-26, -8), dice.log(0.006, 0.03)
        self._buzz = dice.gain(-50, -28) if dice.chance(0.4) else 0.0
        if electronic:
            self._gains[1:] = 0
            self._share, self._glide_s = dice.log(0.15, 2.0), dice.log(0.03, 0.15)
            self._skin = self._buzz = 0.0

    def strike(self, rng: np.random.Generator, velocity: float, which: str) -> np.ndarray:
        """Return a stroke."""
        hz = self._hz[which]
        hard = velocity ** rng.uniform(0.5, 0.9)
        decay_s = self._decay_s * (100 / hz) ** 0.4
        size = num_samples(min(1.8, 6.5 * decay_s))
        phase = _glide(size, hz * (1 + rng.normal(0, 0.004)), self._share * hard, self._glide_s)
        gains = self._gains * np.exp(rng.normal(0, 0.3, 8)) * np.array([1.0, *[0.35 + 0.65 * hard] * 7])
        total = _sweep(rng, phase, self._ratios, gains, decay_s * self._decays)
        length = min(size, num_samples(0.12))
        stick = noise(rng, length, band(self._stick_hz / 1.8, self._stick_hz * 1.8)) * fall(length, 0.002, 0.0002)
        skin = noise(rng, length, band(hz * 1.5, hz * 9)) * fall(length, self._skin_s, 0.0008)
        total[:length] += hard * self._stick * 2 * stick + self._skin * skin
        if self._buzz:
            total += self._buzz * noise(rng, size, band(1800, 8000)) * fall(size, 0.15, 0.01)
        return total


class Conga:
    """A hand drum: one head, slapped or left to sing."""

    def __init__(self, dice: Dice) -> None:
        self._hz = dice.log(150, 480)
        self._ratios = _MEMBRANE[:5] * np.exp(dice.rng.normal(0, 0.05, 5))
        self._gains = np.array([1.0, *(dice.gain(-20, -3) for _ in range(4))])
        self._decays_s = dice.log(0.05, 0.25) * np.array([1.0, *(dice.uniform(0.1, 0.6) for _ in range(4))])
        self._slap = dice.gain(-18, 0)

    def strike(self, rng: np.random.Generator, velocity: float) -> np.ndarray:
        """Return a stroke."""
        size = num_samples(min(1.0, 6 * self._decays_s[0]))
        phase = _glide(size, self._hz * (1 + rng.normal(0, 0.01)), 0.03, 0.03)
        gains = self._gains * np.exp(rng.normal(0, 0.3, 5))
        total = _sweep(rng, phase, self._ratios, gains, self._decays_s * rng.uniform(0.7, 1.1))
        slap = noise(rng, size, band(700, 5000)) * fall(size, 0.006, 0.0003)
        return total + self._slap * velocity * slap
