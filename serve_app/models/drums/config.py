"""`InferenceConfig`: a caller's options of a drum transcript.

    config = InferenceConfig()
    config.grid_division["hihat"] = 8
    config.thresholds["hihat"] = 0.15

Keys are names of `Drum`. Both dicts may be changed; their values are checked when they are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from serve_app.errors import InvalidRequest
from serve_app.results import MAX_BPM, MAX_GRID_DIVISION, MIN_BPM, Drum
from serve_app.sentences import Sentence

_DEFAULT_DIVISION = 16


@dataclass(slots=True)
class InferenceConfig:
    """Grid and thresholds of each drum.

    Attributes:
        grid_division: parts of a whole note on the grid: 16 is sixteenths, 12 eighth-note triplets; None or 0 leaves a
            drum's strokes where they were played.
        thresholds: least probability of a stroke, between 0 and 1: lower finds more and errs more; None: the one that
            was tuned when the network was trained.
        quantized_midi: whether the MIDI file has the quantised times; otherwise the played ones.
    """

    grid_division: dict[str, int | None] = field(
        default_factory=lambda: dict.fromkeys(map(str, Drum), _DEFAULT_DIVISION)
    )
    thresholds: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(map(str, Drum)))
    quantized_midi: bool = True

    def division_of(self, drum: Drum) -> int | None:
        """Return a drum's checked grid division; None where its strokes stay as played. InvalidRequest."""
        _check_names("grid_division", self.grid_division)
        value = self.grid_division.get(drum, _DEFAULT_DIVISION)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= value <= MAX_GRID_DIVISION:
            raise InvalidRequest(
                Sentence(
                    "grid_division[{value}] must be a whole number from 1 to {max_grid_division} (16: sixteenths), or "
                    "None for no grid, not {value2}",
                    value=repr(drum.value),
                    max_grid_division=MAX_GRID_DIVISION,
                    value2=repr(value),
                )
            )
        return int(value) or None

    def threshold_of(self, drum: Drum, tuned: Mapping[str, float]) -> float:
        """Return a drum's checked threshold; `tuned` are the checkpoint's. InvalidRequest."""
        _check_names("thresholds", self.thresholds)
        value = self.thresholds.get(drum)
        if value is None:
            return tuned[drum]
        if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 < value < 1.0:
            raise InvalidRequest(
                Sentence(
                    "thresholds[{value}] must lie between 0 and 1, not {value2}",
                    value=repr(drum.value),
                    value2=repr(value),
                )
            )
        return float(value)

    def check(self) -> None:
        """Raise InvalidRequest where a value is wrong."""
        for drum in Drum:
            self.division_of(drum)
            self.threshold_of(drum, dict.fromkeys(Drum, 0.5))


def checked_bpm(bpm: Any) -> float | None:
    """Return a caller's tempo, checked; None for None. InvalidRequest."""
    if bpm is None:
        return None
    is_number = isinstance(bpm, Real) and not isinstance(bpm, bool) and math.isfinite(bpm)
    if not is_number or not MIN_BPM <= bpm <= MAX_BPM:
        raise InvalidRequest(
            Sentence(
                "bpm must be a number from {min_bpm:.0f} to {max_bpm:.0f}, not {bpm}",
                min_bpm=MIN_BPM,
                max_bpm=MAX_BPM,
                bpm=repr(bpm),
            )
        )
    return float(bpm)


def _check_names(field_name: str, values: Mapping[str, Any]) -> None:
    if unknown := [name for name in values if name not in set(Drum)]:
        raise InvalidRequest(
            Sentence(
                "{field_name} has no drum {unknown}; the drums are {drum}",
                field_name=field_name,
                unknown=repr(unknown[0]),
                drum=", ".join(map(str, Drum)),
            )
        )
