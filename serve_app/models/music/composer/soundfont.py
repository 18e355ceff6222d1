"""`play_soundfont`: a score through a SoundFont of the operator, by FluidSynth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from serve_app.errors import ModelLoadingError
from serve_app.models.music.composer.midi import to_midi
from serve_app.models.music.composer.mixdown import Progress, ShouldStop, add_room, end_if, finish_mix
from serve_app.models.music.composer.score import Score
from serve_app.models.music.composer.wavetable import RATE
from serve_app.models.music.instruments import Role
from serve_app.sentences import Sentence

_PLACES = {Role.LEAD: 0.05, Role.CHORDS: -0.3, Role.PAD: 0.25}
_GAINS = {Role.LEAD: 1.0, Role.CHORDS: 0.6, Role.PAD: 0.5, Role.BASS: 0.8, Role.DRUMS: 0.7}
_ROOM = 0.12


def play_soundfont(
    score: Score,
    soundfont: Path,
    *,
    on_progress: Progress | None = None,
    should_stop: ShouldStop = lambda: False,
) -> np.ndarray:
    """Return the piece, (n, 2) float32 at 44.1 kHz, exactly `duration_s` long.

    pretty_midi has FluidSynth play one instrument after the other, in mono; they are placed and mixed here.

    Raises:
        ModelLoadingError: the file is missing or no SoundFont, or FluidSynth is not installed.
        ProcessingError: `should_stop` returned True.
    """
    synthesizer, bank = _open(soundfont)
    num_samples = round(score.duration_s * RATE)
    mix, room = np.zeros((num_samples, 2), dtype=np.float32), np.zeros(num_samples, dtype=np.float32)
    try:
        for number, (part, instrument) in enumerate(zip(score.parts, to_midi(score).instruments, strict=True)):
            end_if(should_stop)
            sound = instrument.fluidsynth(synthesizer=synthesizer, sfid=bank)[: len(mix)].astype(np.float32)
            sound *= np.float32(_GAINS[part.role] / 2**15)
            place = _PLACES.get(part.role, 0.0)
            placed = sound[:, None] * np.sqrt(np.array([1 - place, 1 + place], dtype=np.float32))
            mix[: len(placed)] += placed
            if part.role is not Role.BASS:
                room[: len(sound)] += sound * np.float32(_ROOM)
            if on_progress is not None:
                on_progress(0.9 * (number + 1) / len(score.parts))
    finally:
        synthesizer.delete()
    add_room(mix, room, 1.6)
    return finish_mix(mix)


def _open(soundfont: Path) -> tuple[Any, int]:
    """Return a synthesiser and the number of its loaded SoundFont."""
    try:
        with soundfont.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise ModelLoadingError(
            Sentence(
                "The SoundFont {soundfont} can't be read: {reason}. Check its path.",
                soundfont=soundfont,
                reason=error.strerror,
            )
        ) from error
    if head[:4] != b"RIFF" or head[8:12] != b"sfbk":
        raise ModelLoadingError(
            Sentence("{soundfont} is no SoundFont: give a file in the format .sf2 or .sf3.", soundfont=soundfont)
        )
    try:
        import fluidsynth
    except ImportError as error:
        raise ModelLoadingError(
            Sentence(
                "A SoundFont needs FluidSynth ({reason}): install pyfluidsynth and the system's libfluidsynth, or "
                "leave `soundfont` out.",
                reason=str(error),
            )
        ) from error
    synthesizer = fluidsynth.Synth(samplerate=float(RATE))
    bank = synthesizer.sfload(str(soundfont))
    if bank < 0:
        synthesizer.delete()
        raise ModelLoadingError(
            Sentence("FluidSynth can't load the SoundFont {soundfont}: the file is broken.", soundfont=soundfont)
        )
    return synthesizer, bank
