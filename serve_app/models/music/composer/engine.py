"""`render_piece`: the embedded composer as an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from serve_app.models.gpu_memory import gpu_errors
from serve_app.models.music.composer.render import render_plan
from serve_app.models.music.composer.wavetable import RATE
from serve_app.models.music.pieces import piece_of
from serve_app.results import MusicPlan, RenderedMusic
from serve_app.sentences import Sentence

_LICENSE = "Composed by serve_app (Apache-2.0): no weights, no recordings, no conditions on the piece."
_SOUNDFONT_LICENSE = (
    "Composed by serve_app (Apache-2.0), played with the SoundFont {}: its licence holds for the recording."
)


def render_piece(
    plan: MusicPlan,
    soundfont: str | None,
    on_progress: Callable[[float], None],
    should_stop: Callable[[], bool],
) -> RenderedMusic:
    """Return the composer's piece; ProcessingError where it fails."""
    with gpu_errors(Sentence("composing the piece")):
        audio, midi = render_plan(plan, soundfont=soundfont, on_progress=on_progress, should_stop=should_stop)
    return piece_of(
        audio,
        RATE,
        plan,
        engine="composer",
        model_version=f"composer-{plan.version}",
        license=_LICENSE if soundfont is None else _SOUNDFONT_LICENSE.format(Path(soundfont).name),
        midi=midi,
    )
