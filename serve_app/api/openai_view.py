"""Transcriptions as OpenAI's clients read them (API reference, Audio: the transcription objects and stream events)."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any, Literal

from pydantic import BaseModel, Field

from serve_app.api.languages import language_name
from serve_app.api.speech_forms import DEFAULT_MODEL
from serve_app.api.transcription_view import full_text
from serve_app.results import Segment
from serve_app.services import SpeechBackend, Transcription


class ModelView(BaseModel):
    """Something to name as `model`."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="seconds since the epoch: when the service was started")
    owned_by: str = "serve_app"
    healthy: bool = Field(description="takes requests now")
    model: str | None = Field(description="what it was told to load; null for the default order")


class ModelListView(BaseModel):
    """Everything to name as `model`."""

    object: Literal["list"] = "list"
    data: list[ModelView]


def view_models(backends: list[SpeechBackend]) -> list[ModelView]:
    """Describe backends, and the name that stands for the first healthy one; nothing where none is deployed."""
    models = [
        ModelView(id=known.name, created=int(known.created_at), healthy=known.healthy, model=known.model)
        for known in backends
    ]
    if not models:
        return []
    any_healthy = any(model.healthy for model in models)
    created = min(model.created for model in models)
    return [ModelView(id=DEFAULT_MODEL, created=created, healthy=any_healthy, model=None), *models]


def brief_json(heard: Transcription) -> str:
    """Return response format `json`."""
    return _json({"text": full_text(heard.transcript), "usage": _usage(heard)})


def verbose_json(heard: Transcription, granularities: frozenset[str]) -> str:
    """Return response format `verbose_json`, with the lists that were asked for.

    Beside OpenAI's fields it has `language_code`, `backend`, `model_version`, `stage_seconds` and `notes`. `tokens` and
    `seek` mean nothing where recordings are cut at silences: they are empty and 0.
    """
    transcript = heard.transcript
    content: dict[str, Any] = {
        "task": "transcribe",
        "language": language_name(transcript.language),
        "duration": round(heard.duration_s, 3),
        "text": full_text(transcript),
    }
    if "word" in granularities:
        content["words"] = [
            {"word": word.word.strip(), "start": round(word.start_s, 3), "end": round(word.end_s, 3)}
            for segment in transcript.segments
            for word in segment.words
        ]
    if "segment" in granularities or not granularities:
        content["segments"] = [_segment(number, segment) for number, segment in enumerate(transcript.segments)]
    content |= {
        "usage": _usage(heard),
        "language_code": transcript.language,
        "backend": heard.backend,
        "model_version": transcript.model_version,
        "stage_seconds": {stage: round(seconds, 3) for stage, seconds in heard.stage_seconds.items()},
        "notes": list(transcript.notes),
    }
    return _json(content)


def delta_event(segment: Segment, *, first: bool) -> dict[str, Any]:
    """Return the event of a segment's text; all deltas one after the other are the whole text."""
    return {"type": "transcript.text.delta", "delta": ("" if first else " ") + segment.text.strip()}


def segment_event(number: int, segment: Segment) -> dict[str, Any]:
    """Return the event of a segment's times; nobody is told apart here, so its speaker has no name."""
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{number}",
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "speaker": "",
        "text": segment.text.strip(),
    }


def done_event(heard: Transcription) -> dict[str, Any]:
    """Return the last event."""
    return {"type": "transcript.text.done", "text": full_text(heard.transcript)}


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    text = segment.text.strip()
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": _finite(segment.avg_logprob),
        "compression_ratio": _compression_ratio(text),
        "no_speech_prob": _finite(segment.no_speech_prob),
    }


def _compression_ratio(text: str) -> float:
    """Return how well a text compresses: beyond 2.4 it repeats itself (Radford et al. 2022, section 4.5)."""
    raw = text.encode()
    return round(len(raw) / len(zlib.compress(raw)), 4)


def _finite(value: float | None) -> float | None:
    """Return a figure that JSON can hold; null where it is unknown."""
    return None if value is None or not math.isfinite(value) else value


def _usage(heard: Transcription) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(heard.duration_s)}


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
