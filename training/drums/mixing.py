"""From strokes to a mix: each drum's level and sound, what is choked, what rattles along, and the room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from training.drums.articulations import LABEL_OF
from training.drums.kits import SAMPLE_RATE_HZ, Kit
from training.drums.performance import PlayedStroke
from training.drums.rooms import convolve, reverberation

# Level of a channel's plain stroke: mean and spread in dB against the kick, and bounds.
_BALANCE_DB = {
    "kick": (0.0, 2.0, -6.0, 6.0),
    "snare": (-1.0, 4.0, -14.0, 8.0),
    "hihat": (-13.0, 6.5, -30.0, 2.0),
    "ride": (-14.0, 5.5, -30.0, 0.0),
    "crash": (-9.0, 5.0, -26.0, 2.0),
    "tom": (-3.0, 4.0, -14.0, 6.0),
    "percussion": (-9.0, 6.0, -26.0, 4.0),
}
_PLAIN = {"kick": "kick", "snare": "snare", "hihat": "hihat_closed", "ride": "ride", "crash": "crash",
          "tom": "tom_mid", "percussion": "cowbell"}  # fmt: skip
_OPEN_HATS = frozenset({"hihat_open", "hihat_half"})
_SHARE_NATURAL_BALANCE = 0.3
_FAINT_END = 0.003  # of a stroke's peak: an end below it may come at once
_SHARE_GATED, _SHARE_CRUSHED_ROOM = 0.06, 0.15
_VELOCITY_STEPS = 12
_LEVEL_WINDOW = SAMPLE_RATE_HZ // 25  # 40 ms: what a stroke's level is measured on
_SPECTRUM_WINDOW = 2048
_BAND_EDGES_HZ = (0, 60, 110, 180, 300, 500, 900, 1600, 2800, 4500, 7000, 10_000, 14_000)


@dataclass(frozen=True)
class MixedStroke:
    """A stroke as it lies in the mix.

    Attributes:
        power: Mean of its squared samples over its first 40 ms, alone.
        bands: (bands,) its energy around the onset, alone.
    """

    played: PlayedStroke
    power: float
    bands: np.ndarray


@dataclass(frozen=True)
class Mix:
    """The drums before anything is done to their sum.

    Attributes:
        samples: (n,) float32.
        recipe: What was drawn.
    """

    samples: np.ndarray
    strokes: tuple[MixedStroke, ...]
    recipe: dict


@dataclass(frozen=True)
class _Sound:
    samples: np.ndarray
    power: float
    bands: np.ndarray


def mix(rng: np.random.Generator, kit: Kit, strokes: tuple[PlayedStroke, ...], num_samples: int, machine: bool) -> Mix:
    """Return the strokes played on a kit in a room; strokes before 0 only ring."""
    desk = _Desk(rng, kit, machine)
    names = sorted({channel_of(stroke.articulation) for stroke in strokes})  # draws below are in this order
    channels = {name: np.zeros(num_samples, np.float32) for name in names}
    mixed, fade = [], round(rng.uniform(0.008, 0.045) * SAMPLE_RATE_HZ)
    for stroke, cut_s in zip(strokes, _cuts_s(rng, strokes, machine), strict=True):
        sound = desk.sound(stroke.articulation, stroke.velocity)
        gain = desk.gain(stroke)
        _add(channels[channel_of(stroke.articulation)], sound.samples, gain, stroke.time_s, cut_s, fade)
        mixed.append(MixedStroke(stroke, sound.power * gain**2, sound.bands * gain**2))
    total = np.zeros(num_samples, np.float32)
    for samples in channels.values():
        total += samples
    rattle_db = -90.0
    if "snare" in kit.articulations and not machine and rng.random() < 0.5:
        rattle_db = float(rng.uniform(-48, -24))
        total += _rattle(rng, channels, num_samples) * np.float32(10 ** (rattle_db / 20))
    brushed = [stroke.power for stroke in mixed if stroke.played.articulation == "snare_brush"]
    if brushed and rng.random() < 0.6:
        total += _stir(rng, num_samples) * np.float32(np.sqrt(np.median(brushed)) * 10 ** (rng.uniform(-22, -6) / 20))
    wet_db = _wet_db(rng, machine)
    if wet_db > -40:
        sends = {name: float(np.clip(rng.normal(1.0, 0.35), 0.1, 2.0)) for name in channels}
        if rng.random() < 0.5:
            sends["kick"] = 0.3 * sends.get("kick", 1.0)
        bus = np.zeros(num_samples, np.float32)
        for name, samples in channels.items():
            bus += samples * np.float32(sends[name])
        wet = convolve(bus, reverberation(rng))
        if rng.random() < _SHARE_CRUSHED_ROOM:  # squeezed so that it breathes between the strokes
            loudest = np.float32(max(float(np.abs(wet).max()), 1e-6))
            wet = np.tanh(wet * (np.float32(rng.uniform(3, 12)) / loudest)) * (loudest / 2)
        total += wet * np.float32(10 ** (wet_db / 20))
    return Mix(total, tuple(mixed), {"balance_db": desk.balance_db, "wet_db": wet_db, "rattle_db": rattle_db})


def channel_of(articulation: str) -> str:
    """Return the channel of the desk that an articulation comes on."""
    label = LABEL_OF[articulation]
    if label == "cymbal":
        return "ride" if articulation.startswith("ride") else "crash"
    return "snare" if articulation == "side_stick" else label


def band_energies(samples: np.ndarray) -> np.ndarray:
    """Return the energy of 46 ms of sound, tapered, in bands from the lowest to the highest, (..., bands)."""
    spectrum = np.abs(np.fft.rfft(samples * _TAPER)) ** 2
    return np.add.reduceat(spectrum, _BAND_BINS, axis=-1)


# Half a Hann window: full weight at the onset, none at the end; what lay before an onset is not in it.
_TAPER = np.hanning(2 * _SPECTRUM_WINDOW)[_SPECTRUM_WINDOW:].astype(np.float32)
_TAPER[:32] *= np.hanning(64)[:32].astype(np.float32)
_BAND_BINS = np.round(np.array(_BAND_EDGES_HZ) * _SPECTRUM_WINDOW / SAMPLE_RATE_HZ).astype(int)


class _Desk:
    """The kit's sounds as the desk lets them through; made when first asked for, then used again.

    A real drum never sounds the same twice; three takes of each velocity come near enough, at a fraction of the time.
    """

    def __init__(self, rng: np.random.Generator, kit: Kit, machine: bool) -> None:
        self._rng, self._kit = rng, kit
        self._takes = 1 if machine else 3
        self._sounds: dict[tuple[str, int, int], _Sound] = {}
        self._filters: dict[str, np.ndarray | None] = {}
        self._gates: dict[str, float] = {}
        self._gains: dict[str, float] = {}
        self.balance_db = {
            name: float(np.clip(rng.normal(mean, spread), low, high))
            for name, (mean, spread, low, high) in _BALANCE_DB.items()
        }
        self._natural = rng.random() < _SHARE_NATURAL_BALANCE

    def sound(self, articulation: str, velocity: float) -> _Sound:
        """Return a stroke of about that velocity."""
        step = self._step(velocity)
        takes = min(self._takes, 2) if LABEL_OF[articulation] == "cymbal" else self._takes
        key = (articulation, step, int(self._rng.integers(takes)))
        if key not in self._sounds:
            samples = _faded(self._kit.stroke(self._rng, articulation, (step + 0.5) / _VELOCITY_STEPS))
            sos = self._filter(channel_of(articulation))
            if sos is not None:
                samples = signal.sosfilt(sos, samples).astype(np.float32)
            if self._gate(channel_of(articulation)) > 0:
                decay_s = self._gate(channel_of(articulation))
                times_s = np.arange(len(samples), dtype=np.float32) / SAMPLE_RATE_HZ
                samples = samples * np.minimum(1, np.exp((np.float32(decay_s) - times_s) / np.float32(decay_s / 4)))
            head = np.zeros(_SPECTRUM_WINDOW, np.float32)
            head[: min(len(samples), _SPECTRUM_WINDOW)] = samples[:_SPECTRUM_WINDOW]
            power = float(np.mean(np.square(head[:_LEVEL_WINDOW])))
            self._sounds[key] = _Sound(np.asarray(samples, np.float32), power, band_energies(head))
        return self._sounds[key]

    def gain(self, stroke: PlayedStroke) -> float:
        """Return the linear gain of the stroke's channel, and what its velocity differs from its sound's."""
        channel = channel_of(stroke.articulation)
        if channel not in self._gains:
            self._gains[channel] = self._channel_gain(channel)
        exact = stroke.velocity * _VELOCITY_STEPS / (self._step(stroke.velocity) + 0.5)
        return self._gains[channel] * float(np.clip(exact, 0.5, 1.4)) ** 1.3

    def _gate(self, channel: str) -> float:
        """Return after how many seconds a gate closes on the channel's strokes; 0: there is none."""
        if channel not in self._gates:
            gated = channel in ("kick", "snare", "tom") and self._rng.random() < _SHARE_GATED
            self._gates[channel] = float(self._rng.uniform(0.06, 0.2)) if gated else 0.0
        return self._gates[channel]

    def _channel_gain(self, channel: str) -> float:
        if self._natural:
            return 10 ** ((self.balance_db[channel] - _BALANCE_DB[channel][0]) / 3 / 20)
        plain = self.sound(_PLAIN[channel], 0.75)
        return 10 ** (self.balance_db[channel] / 20) * 0.1 / max(np.sqrt(plain.power), 1e-4)

    def _step(self, velocity: float) -> int:
        return min(int(velocity * _VELOCITY_STEPS), _VELOCITY_STEPS - 1)

    def _filter(self, channel: str) -> np.ndarray | None:
        """Return the channel's equaliser: as microphones, their places and engineers differ."""
        if channel not in self._filters:
            rng = self._rng
            sections = [
                peak(float(np.exp(rng.uniform(np.log(80), np.log(10_000)))), rng.normal(0, 4.0), rng.uniform(0.5, 2.0))
                for _ in range(rng.integers(0, 3))
            ]
            self._filters[channel] = np.stack(sections) if sections else None
        return self._filters[channel]


def _faded(samples: np.ndarray) -> np.ndarray:
    """Return a stroke whose end does not break off: recordings of cymbals are often cut while they ring."""
    last = samples[-max(len(samples) // 20, 1) :]
    if np.abs(last).max(initial=0.0) < _FAINT_END * np.abs(samples).max(initial=0.0):
        return samples
    ending = len(samples) - len(samples) // 2
    fade = np.cos(np.linspace(0, np.pi / 2, len(samples) - ending, dtype=np.float32)) ** 2
    return np.concatenate([samples[:ending], samples[ending:] * fade]).astype(np.float32)


def peak(center_hz: float, gain_db: float, quality: float) -> np.ndarray:
    """Return a peaking filter as one second-order section (Bristow-Johnson's cookbook), (6,)."""
    amplitude, omega = 10 ** (gain_db / 40), 2 * np.pi * center_hz / SAMPLE_RATE_HZ
    alpha = np.sin(omega) / (2 * quality)
    b = np.array([1 + alpha * amplitude, -2 * np.cos(omega), 1 - alpha * amplitude])
    a = np.array([1 + alpha / amplitude, -2 * np.cos(omega), 1 - alpha / amplitude])
    return np.concatenate([b, a]) / a[0]


def _cuts_s(rng: np.random.Generator, strokes: tuple[PlayedStroke, ...], machine: bool) -> list[float]:
    """Return when each stroke is choked, infinity where it rings out."""
    cuts_s = [np.inf] * len(strokes)
    cuts_itself = machine and rng.random() < 0.6  # a sampler with one voice a pad
    grabbed = 0.0 if machine else 0.02
    next_hat_s = np.inf
    next_same_s: dict[str, float] = {}
    for index in range(len(strokes) - 1, -1, -1):
        stroke = strokes[index]
        if LABEL_OF[stroke.articulation] == "hihat":
            if stroke.articulation in _OPEN_HATS:
                cuts_s[index] = next_hat_s
            if machine or stroke.articulation not in _OPEN_HATS:  # struck again while open, it rings on
                next_hat_s = stroke.time_s
        elif stroke.articulation in ("crash", "splash", "china") and rng.random() < grabbed:
            cuts_s[index] = stroke.time_s + float(rng.uniform(0.15, 0.6))
        if cuts_itself:
            cuts_s[index] = min(cuts_s[index], next_same_s.get(stroke.articulation, np.inf))
            next_same_s[stroke.articulation] = stroke.time_s
    return cuts_s


def _add(channel: np.ndarray, samples: np.ndarray, gain: float, time_s: float, cut_s: float, fade: int) -> None:
    """Add a stroke to its channel, faded out within that many samples where it is choked."""
    start = round(time_s * SAMPLE_RATE_HZ)
    if np.isfinite(cut_s):
        keep = max(round((cut_s - time_s) * SAMPLE_RATE_HZ), 0)
        if keep + fade < len(samples):
            samples = samples[: keep + fade].copy()
            samples[keep:] *= np.linspace(1, 0, fade, dtype=np.float32)
    first, last = max(start, 0), min(start + len(samples), len(channel))
    if last > first:
        channel[first:last] += samples[first - start : last - start] * np.float32(gain)


def _rattle(rng: np.random.Generator, channels: dict[str, np.ndarray], num_samples: int) -> np.ndarray:
    """Return the snare wires' buzz while kick and toms sound."""
    driver = np.zeros(num_samples, np.float32)
    for name in ("kick", "tom"):
        if name in channels:
            driver += np.abs(channels[name])
    decay = np.exp(-1 / (SAMPLE_RATE_HZ * 0.06))
    envelope = signal.lfilter(np.array([1 - decay], np.float32), np.array([1, -decay], np.float32), driver)
    sos = signal.butter(
        1, [rng.uniform(800, 2500), rng.uniform(5000, 9000)], "bandpass", fs=SAMPLE_RATE_HZ, output="sos"
    )
    noise = signal.sosfilt(sos, rng.standard_normal(num_samples, dtype=np.float32)).astype(np.float32)
    return noise * envelope * np.float32(4.0 / max(float(np.std(noise)), 1e-6))


def _stir(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return the sweep of a brush round the snare's head: noise that swells once or twice a beat, of unit level."""
    sos = signal.butter(
        1, [rng.uniform(500, 1500), rng.uniform(4000, 9000)], "bandpass", fs=SAMPLE_RATE_HZ, output="sos"
    )
    noise = signal.sosfilt(sos, rng.standard_normal(num_samples, dtype=np.float32)).astype(np.float32)
    phase = np.arange(num_samples, dtype=np.float32) * np.float32(2 * np.pi * rng.uniform(1, 4) / SAMPLE_RATE_HZ)
    swell = 1 + np.float32(rng.uniform(0.3, 0.95)) * np.sin(phase + np.float32(rng.uniform(0, 6.28)))
    return noise * swell / np.float32(max(float(np.std(noise)), 1e-6))


def _wet_db(rng: np.random.Generator, machine: bool) -> float:
    """Return the level of the reverberation against the direct sound."""
    draw = rng.random()
    if draw < (0.5 if machine else 0.15):
        return -60.0  # as dry as it came
    if draw < 0.65:
        return float(rng.uniform(-26, -12))
    return float(rng.uniform(-12, -2)) if draw < 0.95 else float(rng.uniform(-2, 6))
