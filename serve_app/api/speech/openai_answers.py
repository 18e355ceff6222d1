"""Answers for OpenAI's clients (API reference, Audio: the transcription objects and stream events)."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, Field

from serve_app.analysis.result import AnalysisResult
from serve_app.api.speech.answers import full_text
from serve_app.api.speech.openai_requests import TRANSCRIPTION_ALIASES
from serve_app.languages import language_name
from serve_app.results import Segment, SpeechTask
from serve_app.sentences import Locale, translated
from serve_app.services import SpeechBackend, Transcription


class ModelView(BaseModel):
    """A name that a request can give as `model`."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="seconds since the epoch: when the service was started")
    owned_by: str = "serve_app"
    healthy: bool = Field(description="takes requests now")
    model: str | None = Field(description="the model that it loads first; null for the default order")


class ModelListView(BaseModel):
    """Every name that a request can give as `model`."""

    object: Literal["list"] = "list"
    data: list[ModelView]


def view_models(backends: list[SpeechBackend]) -> list[ModelView]:
    """Describe backends, and the names of the first healthy one; nothing where none is deployed."""
    models = [
        ModelView(id=known.name, created=int(known.created_at), healthy=known.healthy, model=known.model)
        for known in backends
    ]
    if not models:
        return []
    any_healthy = any(model.healthy for model in models)
    created = min(model.created for model in models)
    aliases = [ModelView(id=alias, created=created, healthy=any_healthy, model=None) for alias in TRANSCRIPTION_ALIASES]
    return [*aliases, *models]


def brief_json(transcription: Transcription) -> str:
    """Return response format `json`."""
    return _json({"text": full_text(transcription.transcript), "usage": _usage(transcription.duration_s)})


def verbose_json(
    transcription: Transcription,
    granularities: frozenset[str],
    locale: Locale,
    task: SpeechTask = SpeechTask.TRANSCRIBE,
) -> str:
    """Return response format `verbose_json`, with the lists that were asked for.

    Beside OpenAI's fields it has `language_code` (of the recording, also where `language` is that of a translation),
    `backend`, `model_version`, `stage_seconds` and `notes`. `tokens` and `seek` mean nothing where recordings are cut
    at silences: they are empty and 0.
    """
    transcript = transcription.transcript
    content: dict[str, Any] = {
        "task": task,
        "language": language_name("en" if task is SpeechTask.TRANSLATE else transcript.language),
        "duration": round(transcription.duration_s, 3),
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
        "usage": _usage(transcription.duration_s),
        "language_code": transcript.language,
        "backend": transcription.backend,
        "model_version": transcript.model_version,
        "stage_seconds": {stage: round(seconds, 3) for stage, seconds in transcription.stage_seconds.items()},
        "notes": [translated(note, locale) for note in transcript.notes],
    }
    return _json(content)


def diarized_json(result: AnalysisResult, locale: Locale) -> str:
    """Return response format `diarized_json` of an analysis.

    Beside OpenAI's fields it has `language_code`, `model_version`, `diarization_model_version`, `stage_seconds` and
    `notes`.
    """
    facts: dict[str, Any] = {**result["metadata"]}
    facts["notes"] = [translated(note, locale) for note in facts.get("notes", ())]
    shown = ("model_version", "diarization_model_version", "stage_seconds", "notes")
    return _json(
        {
            "task": SpeechTask.TRANSCRIBE,
            "duration": result["duration"],
            "text": result["text"],
            "segments": _diarized_segments(result),
            "usage": _usage(result["duration"]),
            "language_code": result["language"],
            **{name: facts[name] for name in shown if name in facts},
        }
    )


def diarized_events(result: AnalysisResult) -> Iterator[dict[str, Any]]:
    """Yield the events of an analysis: each segment's text, then the segment with its speaker; then the end."""
    for number, segment in enumerate(_diarized_segments(result)):
        yield {**delta_event(segment["text"], is_first=not number), "segment_id": segment["id"]}
        yield segment
    yield done_event(result["text"])


def delta_event(text: str, *, is_first: bool) -> dict[str, Any]:
    """Return the event of a segment's text; the concatenation of all deltas is the whole text."""
    return {"type": "transcript.text.delta", "delta": ("" if is_first else " ") + text}


def segment_event(number: int, start_s: float, end_s: float, text: str, speaker: str = "") -> dict[str, Any]:
    """Return the event of a segment; a speaker without a name: speakers were not asked for."""
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{number}",
        "start": round(start_s, 3),
        "end": round(end_s, 3),
        "speaker": speaker,
        "text": text.strip(),
    }


def done_event(text: str) -> dict[str, Any]:
    """Return the last event."""
    return {"type": "transcript.text.done", "text": text}


def _diarized_segments(result: AnalysisResult) -> list[dict[str, Any]]:
    found = result["segments"]
    speakers = list(dict.fromkeys(segment["speaker"]["speaker_id"] for segment in found))
    labels = {speaker_id: _label(number) for number, speaker_id in enumerate(speakers)}
    return [
        segment_event(number, part["start_time"], part["end_time"], part["text"], labels[part["speaker"]["speaker_id"]])
        for number, part in enumerate(found)
    ]


def _label(number: int) -> str:
    """Return A, B, …, Z, AA, AB, …"""
    rest, letter = divmod(number, 26)
    return (_label(rest - 1) if rest else "") + chr(ord("A") + letter)


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
    """Return a text's compression ratio; above 2.4 the text repeats itself (Radford et al. 2022, section 4.5)."""
    raw = text.encode()
    return round(len(raw) / len(zlib.compress(raw)), 4)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _usage(duration_s: float) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(duration_s)}


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
