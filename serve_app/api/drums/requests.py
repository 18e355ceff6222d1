"""Requests of drum transcription."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from serve_app.api.http.uploads import FILE_FIELD, UploadForm, form_content
from serve_app.jobs.record import AudioTrack
from serve_app.results import MAX_BPM, MAX_GRID_DIVISION, MIN_BPM, Drum
from serve_app.services import DrumOptions

Grid = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_GRID_DIVISION,
        description="into how many parts the grid divides a whole note: 16: sixteenths, 12: triplets of eighths;"
        " default: 16",
    ),
]
Threshold = Annotated[
    float,
    Field(gt=0, lt=1, allow_inf_nan=False, description="the least activation that is a hit; default: the model's own"),
]


class DrumForm(UploadForm, frozen=True):
    """Form of `POST /transcribe-drums`."""

    bpm: float | None = Field(
        default=None, ge=MIN_BPM, le=MAX_BPM, allow_inf_nan=False, description="the tempo; absent: detected"
    )
    grid_kick: Grid | None = None
    grid_snare: Grid | None = None
    grid_hihat: Grid | None = None
    threshold_kick: Threshold | None = None
    threshold_snare: Threshold | None = None
    threshold_hihat: Threshold | None = None
    audio_track: AudioTrack | None = None
    plot: bool = Field(default=False, description="also answer a picture of activations and hits; with JSON only")

    def options(self) -> DrumOptions:
        return DrumOptions(self.bpm, self._given("grid"), self._given("threshold"), self.plot, self.audio_track)

    def _given(self, what: str) -> dict[Drum, Any]:
        values = {drum: getattr(self, f"{what}_{drum}") for drum in Drum}
        return {drum: value for drum, value in values.items() if value is not None}


def drum_form_content(max_files: int) -> dict[str, Any]:
    """Return OpenAPI's description of the form, with one recording or several."""
    content = form_content(DrumForm)
    properties = content["multipart/form-data"]["schema"]["properties"]
    recording = {**properties[FILE_FIELD], "description": "WAV, or audio or video in any common container"}
    properties[FILE_FIELD] = {
        "type": "array",
        "items": recording,
        "minItems": 1,
        "maxItems": max_files,
        "description": "one recording, or several: a part of this name for each",
    }
    return content
