"""Answers about drums: JSON, or the MIDI file itself."""

from __future__ import annotations

import base64
from pathlib import PurePosixPath

from pydantic import BaseModel, Field

from serve_app.api.http.answers import attachment
from serve_app.api.http.failures import FileFailureView
from serve_app.results import Drum
from serve_app.sentences import Locale, translated
from serve_app.services import DrumTranscription

MIDI_TYPES = ("audio/midi", "audio/x-midi", "audio/mid")


class DrumHitView(BaseModel):
    """One stroke."""

    time: float = Field(description="seconds from the start of the file, as played")
    quantized_time: float = Field(description="where the grid puts it")
    drum: Drum
    velocity: int = Field(description="of MIDI, 1 to 127; follows loudness")
    confidence: float = Field(description="the network's activation, 0 to 1")


class TempoChangeView(BaseModel):
    """The tempo from a time on; a beat falls on that time."""

    time: float
    bpm: float


class DrumView(BaseModel):
    """A recording's drums."""

    filename: str
    bpm: float = Field(description="quarter notes a minute: detected, or the form's")
    bpm_alternative: float | None = Field(
        default=None, description="half or twice `bpm`, where the strokes fit that nearly as well; null where not"
    )
    duration: float = Field(description="seconds")
    hits: list[DrumHitView] = Field(description="in order of time")
    tempo_map: list[TempoChangeView] = Field(description="one entry where the tempo is steady")
    midi: str = Field(description="the General MIDI file (channel 10), base64")
    log: str = Field(description="the hits as text")
    picture: str | None = Field(description="PNG of activations and hits, base64; null unless `plot` asked for it")
    model_version: str
    processing_time: float = Field(description="seconds")
    notes: list[str] = Field(description="what was repaired, degraded or assumed")


class DrumBatchView(BaseModel):
    """Answer to several recordings: one of each, in the order in which they were sent."""

    results: list[DrumView | FileFailureView]


def view_drums(transcription: DrumTranscription, filename: str, locale: Locale) -> DrumView:
    """Describe a transcription; a long one takes a while."""
    transcript = transcription.transcript
    return DrumView(
        filename=filename,
        bpm=round(transcript.bpm, 3),
        bpm_alternative=None if transcript.bpm_alternative is None else round(transcript.bpm_alternative, 3),
        duration=round(transcript.duration_s, 3),
        hits=[
            DrumHitView(
                time=round(hit.time_s, 4),
                quantized_time=round(hit.quantized_s, 4),
                drum=hit.drum,
                velocity=hit.velocity,
                confidence=round(hit.confidence, 4),
            )
            for hit in transcript.hits
        ],
        tempo_map=[
            TempoChangeView(time=round(change.start_s, 4), bpm=round(change.bpm, 3)) for change in transcript.tempo_map
        ],
        midi=base64.b64encode(transcription.midi).decode(),
        log=transcription.text_log,
        picture=None if transcription.picture is None else base64.b64encode(transcription.picture).decode(),
        model_version=transcript.model_version,
        processing_time=round(transcription.took_s, 3),
        notes=[translated(note, locale) for note in transcript.notes],
    )


def midi_disposition(filename: str) -> str:
    """Return the Content-Disposition of an upload's MIDI file, which is named after it (RFC 6266)."""
    name = f"{PurePosixPath(filename).stem.lstrip('.') or 'drums'}.mid"
    return attachment(name)
