"""`sound_of`: one note of an instrument: plucked, struck, blown and bowed tones, bells and synthesisers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from serve_app.models.music.composer.wavetable import (
    RATE,
    TOP_HZ,
    envelope,
    frame_times,
    noise,
    num_harmonics,
    read_tables,
    steady_cycles,
    vibrato_cycles,
)

_LEVEL = 0.1  # RMS of the loudest third of a second of every note
_LEVEL_WINDOW = RATE // 3


@dataclass(frozen=True, slots=True)
class _Plucked:
    """A string that is plucked or struck and then left alone.

    Attributes:
        place: where along the string, 0 to 0.5: harmonics with a node there are missing.
        slope: the power with which harmonics get weaker.
        decay: of the fundamental of 220 Hz, per second.
        damping: how much faster each higher harmonic decays.
        dull_hz: above it, harmonics get weaker still.
        knock: level of the noise of the attack.
        strings: detuned by as many cents; two of them are heard left and right.
        release_s: after the note is let go.
    """

    place: float
    slope: float
    decay: float
    damping: float
    dull_hz: float
    knock: float
    strings: tuple[float, ...] = (0.0,)
    release_s: float = 0.25


@dataclass(frozen=True, slots=True)
class _Sustained:
    """A tone that is held: bowed, blown, or of an organ or synthesiser.

    Attributes:
        spectrum: from (harmonic numbers, Hz of the note) to amplitudes.
        attack_s: until it is as loud as it gets.
        release_s: after it is let go.
        opening_s: until it is as bright as it gets.
        voices: detuned by as many cents, spread from left to right.
        vibrato: in cents.
        breath: level of the noise.
        octave: an octave lower is -1.
    """

    spectrum: Callable[[np.ndarray, float], np.ndarray]
    attack_s: float
    release_s: float
    opening_s: float = 0.05
    voices: tuple[float, ...] = (0.0,)
    vibrato: float = 0.0
    breath: float = 0.0
    octave: int = 0


@dataclass(frozen=True, slots=True)
class _Struck:
    """A bar or bell: partials (ratio to the fundamental, amplitude, decay per second), and the noise of the mallet."""

    partials: tuple[tuple[float, float, float], ...]
    knock: float
    tremolo: float = 0.0
    release_s: float = 0.3


def _saw(dull_hz: float, slope: float = 1.0) -> Callable[[np.ndarray, float], np.ndarray]:
    return lambda number, hz: number**-slope / (1 + (number * hz / dull_hz) ** 2)


def _body(*formants: tuple[float, float, float]) -> Callable[[np.ndarray, float], np.ndarray]:
    """Return a bowed string's spectrum through a body: formants (Hz, width in octaves, gain)."""

    def spectrum(number: np.ndarray, hz: float) -> np.ndarray:
        pitch = np.log2(number * hz)
        gain = 0.35 + sum(height * np.exp(-(((pitch - np.log2(at)) / width) ** 2)) for at, width, height in formants)
        return number**-1.0 * gain / (1 + (number * hz / 4200) ** 3)

    return spectrum


def _listed(*amplitudes: float) -> Callable[[np.ndarray, float], np.ndarray]:
    levels = np.array(amplitudes)
    return lambda number, hz: np.where(
        number <= len(levels), levels[np.minimum(number, len(levels)).astype(int) - 1], 0
    )


_ENSEMBLE = (-9.0, -3.0, 4.0, 10.0)
_VOICES: dict[str, _Plucked | _Sustained | _Struck] = {
    "piano": _Plucked(0.12, 1.15, 0.9, 0.10, 2600, 0.03, (-0.7, 0.8), 0.2),
    "acoustic guitar": _Plucked(0.21, 1.0, 1.4, 0.14, 3200, 0.035),
    "harp": _Plucked(0.42, 1.5, 1.1, 0.2, 3000, 0.01, release_s=0.5),
    "gayageum": _Plucked(0.1, 0.85, 1.7, 0.12, 4200, 0.04),
    "electric bass": _Plucked(0.2, 1.25, 1.0, 0.22, 900, 0.01, release_s=0.08),
    "double bass": _Plucked(0.3, 1.35, 2.0, 0.3, 600, 0.03, release_s=0.12),
    "synth bass": _Sustained(_saw(420, 0.9), 0.006, 0.06, -0.25),
    "electric piano": _Struck(
        ((1, 1.0, 1.1), (2, 0.22, 2.0), (3, 0.12, 3.5), (4, 0.05, 5), (14.1, 0.05, 16)), 0.01, tremolo=0.18
    ),
    "music box": _Struck(((1, 1.0, 1.8), (2.0, 0.12, 3), (5.4, 0.22, 7), (8.9, 0.05, 14)), 0.02, release_s=0.6),
    "glockenspiel": _Struck(((1, 1.0, 1.6), (2.76, 0.3, 4), (5.4, 0.12, 9)), 0.02, release_s=0.6),
    "vibraphone": _Struck(((1, 1.0, 0.8), (4.0, 0.16, 3), (10.0, 0.03, 9)), 0.008, tremolo=0.3, release_s=0.4),
    "marimba": _Struck(((1, 1.0, 4.2), (3.93, 0.22, 11), (9.2, 0.06, 25)), 0.04),
    "kalimba": _Struck(((1, 1.0, 2.6), (2.0, 0.08, 4), (5.9, 0.16, 12)), 0.05),
    "flute": _Sustained(_listed(1.0, 0.38, 0.2, 0.07, 0.04, 0.015), 0.06, 0.1, 0.08, vibrato=9, breath=0.03),
    "clarinet": _Sustained(
        _listed(1.0, 0.04, 0.55, 0.05, 0.32, 0.06, 0.16, 0.05, 0.08, 0.03, 0.03),
        0.05, 0.08, 0.08, vibrato=4, breath=0.012,
    ),
    "violin": _Sustained(_body((480, 0.5, 0.8), (1100, 0.6, 0.8), (2800, 0.5, 0.7)), 0.09, 0.14, 0.12, vibrato=16),
    "cello": _Sustained(_body((220, 0.6, 0.9), (620, 0.6, 0.8), (1700, 0.6, 0.4)), 0.11, 0.18, 0.15, vibrato=13),
    "french horn": _Sustained(_saw(900, 0.8), 0.07, 0.14, 0.12, vibrato=4),
    "trumpet": _Sustained(_saw(2200, 0.6), 0.04, 0.09, 0.09, vibrato=8),
    "synth lead": _Sustained(_saw(2400), 0.012, 0.12, 0.02, (-5.0, 5.0), vibrato=8),
    "strings": _Sustained(_body((450, 0.8, 0.5), (1300, 0.8, 0.6)), 0.22, 0.35, 0.3, _ENSEMBLE, vibrato=8),
    "synth pad": _Sustained(_saw(900), 0.45, 0.6, 1.6, _ENSEMBLE),
    "organ": _Sustained(
        _listed(0.5, 1.0, 0.3, 0.7, 0.02, 0.3, 0.02, 0.35, 0.02, 0.02, 0.02, 0.15),
        0.03, 0.08, voices=(-1.5, 1.5), octave=-1,
    ),
}  # fmt: skip


def sound_of(instrument: str, pitch: int, held_s: float, force: float) -> np.ndarray:
    """Return a note.

    Args:
        instrument: a name of `instruments.INSTRUMENTS`, not the drums.
        pitch: MIDI pitch.
        held_s: until the note is let go.
        force: 0 to 1: harder is brighter; all notes are equally loud.

    Returns:
        (n, 2) float32 at `RATE`, faded at both ends.
    """
    hz = 440.0 * 2 ** ((pitch - 69) / 12)
    voice = _VOICES[instrument]
    match voice:
        case _Plucked():
            sound = _pluck(voice, hz, held_s, force)
        case _Sustained():
            sound = _sustain(voice, hz * 2.0**voice.octave, held_s, force)
        case _Struck():
            sound = _strike(voice, hz, held_s, force)
    window = sound[: max(_LEVEL_WINDOW, 1)]
    if isinstance(voice, _Sustained):
        window = sound[: max(1, round(held_s * RATE))]
    level = float(np.sqrt(np.mean(np.square(window, dtype=np.float64)))) + 1e-9
    sound *= np.float32(_LEVEL / level)
    return sound if sound.ndim == 2 else np.repeat(sound[:, None], 2, axis=1)


def _pluck(voice: _Plucked, hz: float, held_s: float, force: float) -> np.ndarray:
    seconds = held_s + voice.release_s
    count = round(seconds * RATE)
    number = np.arange(1, num_harmonics(hz) + 1)
    times = frame_times(seconds)[:, None]
    dull = voice.dull_hz * (0.6 + 0.8 * force)
    start = np.abs(np.sin(np.pi * number * voice.place)) * number**-voice.slope / (1 + (number * hz / dull) ** 2)
    decay = voice.decay * (hz / 220) ** 0.5 * (1 + voice.damping * (number - 1) * (hz / 220) ** 0.3)
    spectra = start * (0.8 * np.exp(-decay * times) + 0.2 * np.exp(-0.3 * decay * times))
    gain = envelope(count, held_s, 0.003, voice.release_s)
    tones = [read_tables(spectra, steady_cycles(hz * 2 ** (cents / 1200), count), seed=7) for cents in voice.strings]
    knock = _knock(voice.knock * float(np.abs(tones[0][:4410]).max()) * (0.5 + force), hz, count)
    return _spread([(tone + knock) * gain for tone in tones])


def _sustain(voice: _Sustained, hz: float, held_s: float, force: float) -> np.ndarray:
    seconds = held_s + voice.release_s
    count = round(seconds * RATE)
    number = np.arange(1, num_harmonics(hz) + 1)
    full = voice.spectrum(number, hz) * (number**-0.3) ** (1 - force)
    times = frame_times(seconds)[:, None]
    if voice.opening_s < 0:  # it closes: a synthesiser's filter
        open_share = 0.25 + 0.75 * np.exp(times / voice.opening_s)
    else:
        open_share = 1 - 0.7 * np.exp(-2 * times / max(voice.opening_s, 1e-3))
    spectra = full * open_share ** (0.9 * np.sqrt(number - 1))
    gain = envelope(count, held_s, min(voice.attack_s, held_s * 0.6), voice.release_s)
    tones = []
    for index, cents in enumerate(voice.voices):
        tuned = hz * 2 ** (cents / 1200)
        if voice.vibrato:
            cycles = vibrato_cycles(
                tuned, count, cents=voice.vibrato, rate_hz=5.1 + 0.23 * index, delay_s=0.15, phase=1.7 * index
            )
        else:
            cycles = steady_cycles(tuned, count)
        tones.append(read_tables(spectra, cycles + 0.37 * index, seed=11 + index) * gain)
    if voice.breath:
        level = voice.breath * float(np.abs(tones[0]).max())
        tones[0] += noise(seconds, hz, min(TOP_HZ, 6 * hz), seed=3)[:count] * gain * np.float32(level)
    return _spread(tones)


def _strike(voice: _Struck, hz: float, held_s: float, force: float) -> np.ndarray:
    count = round((held_s + voice.release_s) * RATE)
    seconds = np.arange(count, dtype=np.float32) / np.float32(RATE)
    sound = np.zeros(count, dtype=np.float32)
    for ratio, amplitude, decay in voice.partials:
        if ratio * hz > TOP_HZ:
            continue
        rate = decay * (hz / 440) ** 0.4
        heard = min(count, round(7.5 / rate * RATE))  # the rest is below -65 dB
        level = np.float32(amplitude * (1.0 if ratio == 1 else 0.4 + 0.9 * force))
        turns = (np.arange(heard) * (ratio * hz / RATE) % 1.0).astype(np.float32)
        sound[:heard] += level * np.exp(-np.float32(rate) * seconds[:heard]) * np.sin(np.float32(2 * np.pi) * turns)
    sound += _knock(voice.knock * (0.5 + force), hz, count)
    sound *= envelope(count, held_s, 0.002, voice.release_s)
    if not voice.tremolo:
        return sound
    wave = np.float32(voice.tremolo) * np.sin(np.float32(2 * np.pi * 4.6) * seconds)
    return np.stack([sound * (1 + wave), sound * (1 - wave)], axis=1)


def _knock(level: float, hz: float, count: int) -> np.ndarray:
    """Return the short noise of a finger, hammer or mallet."""
    burst = noise(0.03, min(300.0, hz), min(5000.0, 8 * hz), seed=5)
    burst *= np.float32(level) * np.exp(-np.linspace(0, 7, len(burst), dtype=np.float32))
    return np.pad(burst[:count], (0, max(0, count - len(burst))))


def _spread(tones: list[np.ndarray]) -> np.ndarray:
    """Return one tone as it is, several from left to right."""
    if len(tones) == 1:
        return tones[0]
    places = np.linspace(-0.7, 0.7, len(tones), dtype=np.float32)
    left = sum(tone * np.sqrt((1 - place) / 2) for tone, place in zip(tones, places, strict=True))
    right = sum(tone * np.sqrt((1 + place) / 2) for tone, place in zip(tones, places, strict=True))
    return np.stack([left, right], axis=1).astype(np.float32)
