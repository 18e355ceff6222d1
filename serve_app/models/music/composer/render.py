"""`render_plan`: from a plan to sound and MIDI."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from serve_app.models.music.composer.arrangement import compose
from serve_app.models.music.composer.midi import midi_bytes
from serve_app.models.music.composer.mixdown import Progress, ShouldStop, synthesise
from serve_app.models.music.composer.score import Score
from serve_app.models.music.composer.soundfont import play_soundfont
from serve_app.results import MusicPlan


def render_plan(
    plan: MusicPlan,
    *,
    soundfont: str | Path | None = None,
    on_progress: Progress | None = None,
    should_stop: ShouldStop = lambda: False,
) -> tuple[np.ndarray, bytes]:
    """Return the piece of a plan, (n, 2) float32 at 44.1 kHz, and the same as a MIDI file.

    Args:
        plan: of the piece.
        soundfont: plays it in place of the own synthesiser.
        on_progress: called now and then with the share that is done, 0 to 1.
        should_stop: asked again and again; True ends the call.

    Raises:
        ModelLoadingError: the SoundFont can't be used.
        ProcessingError: `should_stop` returned True.
    """
    score = compose(plan)
    return play(score, soundfont=soundfont, on_progress=on_progress, should_stop=should_stop), midi_bytes(score)


def play(
    score: Score,
    *,
    soundfont: str | Path | None = None,
    on_progress: Progress | None = None,
    should_stop: ShouldStop = lambda: False,
) -> np.ndarray:
    """Return the sound of a score, (n, 2) float32 at 44.1 kHz, exactly `duration_s` long; as `render_plan`."""
    if soundfont is None:
        audio = synthesise(score, on_progress=on_progress, should_stop=should_stop)
    else:
        audio = play_soundfont(score, Path(soundfont), on_progress=on_progress, should_stop=should_stop)
    if on_progress is not None:
        on_progress(1.0)
    return audio
