"""`piece_of`: an engine's sound as `RenderedMusic`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve_app.models.music.encoding import to_flac
from serve_app.results import MusicPlan, RenderedMusic

_SHORT_S = 0.5


def piece_of(
    audio: NDArray[np.float32],
    rate: int,
    plan: MusicPlan,
    *,
    engine: str,
    model_version: str,
    license: str,
    midi: bytes | None = None,
) -> RenderedMusic:
    """Return the piece, with a note where it is shorter than its plan.

    Args:
        audio: (n,) or (n, 1 or 2).

    Raises:
        ProcessingError: the sound is empty or not numbers.
    """
    duration_s = len(audio) / rate
    is_short = duration_s < plan.duration_s - _SHORT_S
    note = f"The engine {engine} made {duration_s:.0f} s; {plan.duration_s:.0f} s were asked for."
    return RenderedMusic(
        audio=to_flac(audio, rate),
        midi=midi,
        engine=engine,
        model_version=model_version,
        license=license,
        notes=(note,) if is_short else (),
    )
