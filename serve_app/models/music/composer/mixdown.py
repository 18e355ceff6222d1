"""`synthesise`: the sound of a score: notes, places, room and bus. Memory: three floats a sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft
import scipy.signal

from serve_app.errors import ProcessingError
from serve_app.models.music.composer.drum_sounds import drum_sound, pan_of
from serve_app.models.music.composer.score import Part, PlayedNote, Score
from serve_app.models.music.composer.voices import sound_of
from serve_app.models.music.composer.wavetable import RATE
from serve_app.models.music.instruments import Role
from serve_app.sentences import Sentence

Progress = Callable[[float], None]
ShouldStop = Callable[[], bool]

# By role: gain, place (-1 left, 1 right), share that the room gets.
_MIX = {
    Role.LEAD: (1.0, 0.05, 0.28),
    Role.CHORDS: (0.42, -0.3, 0.3),
    Role.PAD: (0.2, 0.0, 0.4),
    Role.BASS: (0.95, 0.0, 0.04),
    Role.DRUMS: (0.6, 0.0, 0.1),
}
_LENGTHS_PER_S = 20  # lengths of notes are rounded up to this grid, so that equal notes are made once
_CACHE_BYTES = 24 << 20
_BLOCK = 1 << 17  # samples that room and bus take at once
_LOWEST_HZ = 28.0  # below it, the bus cuts
_PEAK = 0.84
_DRIVE = 1.1  # of the saturation: the loudest peak before it
_END_FADE_S = 0.4


def synthesise(
    score: Score, *, on_progress: Progress | None = None, should_stop: ShouldStop = lambda: False
) -> np.ndarray:
    """Return the piece, (n, 2) float32 at 44.1 kHz, exactly `duration_s` long; the same score gives the same bytes.

    Args:
        score: a composed piece.
        on_progress: called now and then with the share that is done, 0 to 1.
        should_stop: asked before each note; True ends the call.

    Raises:
        ProcessingError: `should_stop` returned True.
    """
    num_samples = round(score.duration_s * RATE)
    dry, room = np.zeros((num_samples, 2), dtype=np.float32), np.zeros(num_samples, dtype=np.float32)
    total, done = sum(len(part.played) for part in score.parts), 0
    for part in score.parts:
        cache = _Sounds(part)
        gain, place, share = _MIX[part.role]
        for note in part.played:
            end_if(should_stop)
            start = round(note.start_s * RATE)
            sound = cache.get(note)[: max(0, num_samples - start)]
            where = place + (pan_of(note.pitch) if part.role is Role.DRUMS else 0.0)
            loud = gain * (note.velocity / 96) ** 1.5
            sound = sound * (np.sqrt(np.array([1 - where, 1 + where], dtype=np.float32)) * np.float32(loud))
            dry[start : start + len(sound)] += sound
            room[start : start + len(sound)] += sound.sum(axis=1) * np.float32(share / 2)
            done += 1
            if on_progress is not None and done % 64 == 0:
                on_progress(0.8 * done / total)
    seconds = 2.1 - 0.5 * min(1.0, max(0.0, (score.quarter_bpm - 70) / 60))
    add_room(dry, room, seconds)
    del room
    if on_progress is not None:
        on_progress(0.95)
    return finish_mix(dry)


def end_if(should_stop: ShouldStop) -> None:
    """Raise ProcessingError if the caller no longer waits."""
    if should_stop():
        raise ProcessingError(Sentence("The music was not made to the end: its caller stopped waiting."))


class _Sounds:
    """Sounds of a part's notes, made once for each pitch, length and force, as long as memory allows."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._kept: dict[tuple[int, int, int], np.ndarray] = {}
        self._bytes = 0

    def get(self, note: PlayedNote) -> np.ndarray:
        """Return the note's sound, (n, 2) float32, to be read only."""
        if self._part.role is Role.DRUMS:
            return drum_sound(note.pitch, note.velocity % 2)
        length = int(np.ceil((note.end_s - note.start_s) * _LENGTHS_PER_S))
        layer = 0 if note.velocity < 62 else 1 if note.velocity < 84 else 2
        key = (note.pitch, length, layer)
        if key not in self._kept:
            sound = sound_of(self._part.instrument, note.pitch, length / _LENGTHS_PER_S, (0.25, 0.55, 0.9)[layer])
            if self._bytes + sound.nbytes > _CACHE_BYTES:
                self._kept.clear()
                self._bytes = 0
            self._kept[key] = sound
            self._bytes += sound.nbytes
        return self._kept[key]


def add_room(dry: np.ndarray, room: np.ndarray, seconds: float) -> None:
    """Add the reverberation of `room`, (n,), to `dry`, (n, 2), in place."""
    response = _room_response(seconds)
    size = scipy.fft.next_fast_len(_BLOCK + len(response) - 1, real=True)
    spectra = np.fft.rfft(response.T, size)
    for start in range(0, len(room), _BLOCK):
        block = np.fft.rfft(room[start : start + _BLOCK], size)
        length = min(_BLOCK + len(response) - 1, len(dry) - start)
        dry[start : start + length] += np.fft.irfft(block * spectra, size)[:, :length].T


def finish_mix(mix: np.ndarray) -> np.ndarray:
    """Return the mix, in place: no rumble, no offset, slightly saturated, its peak at -1.5 dBFS, faded at the end."""
    sections = scipy.signal.butter(2, _LOWEST_HZ, "highpass", fs=RATE, output="sos")
    state = np.zeros((len(sections), 2, 2))
    for start in range(0, len(mix), _BLOCK):
        mix[start : start + _BLOCK], state = scipy.signal.sosfilt(
            sections, mix[start : start + _BLOCK], axis=0, zi=state
        )
    peak = float(max(mix.max(), -mix.min()))
    if peak > 0:
        mix *= np.float32(_DRIVE / peak)
        np.tanh(mix, out=mix)
        mix *= np.float32(_PEAK / np.tanh(_DRIVE))
    fade = min(len(mix), round(_END_FADE_S * RATE))
    mix[len(mix) - fade :] *= (0.5 + 0.5 * np.cos(np.linspace(0, np.pi, fade, dtype=np.float32)))[:, None]
    return mix


def _room_response(seconds: float) -> np.ndarray:
    """Return the impulse response of a room, (n, 2) float64: noise that decays, high frequencies sooner; energy 1."""
    count = round(seconds * RATE)
    at = np.arange(count) / RATE
    random = np.random.default_rng(1)
    response = np.zeros((count, 2))
    for low, high, share in ((180, 900, 1.0), (900, 3000, 0.75), (3000, 9000, 0.4)):
        band = scipy.signal.butter(2, (low, high), "bandpass", fs=RATE, output="sos")
        hiss = scipy.signal.sosfilt(band, random.standard_normal((count, 2)), axis=0)
        response += hiss * np.exp(-6.9 * at / (seconds * share))[:, None] * (0.6 + 0.4 * share)
    early = round(0.014 * RATE)
    response[:early] = 0
    response *= np.minimum(1.0, (at - at[early]).clip(0) / 0.02)[:, None]
    return response / np.sqrt((response**2).sum(axis=0))
