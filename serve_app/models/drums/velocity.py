"""MIDI velocities from the loudness of strokes."""

from __future__ import annotations

import numpy as np

# General MIDI, "Response to Data Entry": a note's amplitude goes with the square of its velocity.
_DB_PER_DECADE = 40.0
# Loud strokes get this velocity; an accent may be 2.5 dB louder still.
_LOUD_VELOCITY, _LOUD_PERCENTILE = 110.0, 90.0


def velocities(levels_db: np.ndarray) -> np.ndarray:
    """Return the velocities of one drum's strokes in one file.

    A drum's loud strokes (their 90th percentile) get 110 whatever the recording's balance; from there on 12 dB are a
    halving. A louder stroke never gets a lower velocity, and one stroke alone gets 110.

    Args:
        levels_db: (n,) level of each stroke; what is not finite counts as loud.

    Returns:
        (n,) int, 1 to 127.
    """
    levels_db = np.asarray(levels_db, dtype=np.float64)
    finite = levels_db[np.isfinite(levels_db)]
    loud_db = np.percentile(finite, _LOUD_PERCENTILE) if len(finite) else 0.0
    below_db = np.nan_to_num(levels_db - loud_db, nan=0.0, posinf=0.0, neginf=0.0)
    exact = _LOUD_VELOCITY * 10.0 ** (np.clip(below_db, -200.0, 200.0) / _DB_PER_DECADE)
    return np.clip(np.round(exact), 1, 127).astype(int)
