"""A transcription of an upload, as `POST /transcribe` answers it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from serve_app.results import Segment, Transcript
from serve_app.services import Transcription


class WordView(BaseModel):
    """A word, as in a job's result."""

    word: str
    start: float
    end: float
    confidence: float | None = Field(description="0 to 1; null where unknown")
    timing: str = Field(description="`aligned`: heard there; `interpolated`: between words that were")


class SegmentView(BaseModel):
    """A run of words without a long pause, in Whisper's form: `start` and `end` like its words'."""

    id: int
    start: float = Field(description="seconds from the start of the file")
    end: float
    text: str
    avg_logprob: float | None = Field(description="null from recognisers that are no Whisper")
    no_speech_prob: float | None
    words: list[WordView]


class UploadView(BaseModel):
    """Answer of `POST /transcribe` to an upload, also for a failure."""

    text: str
    language: str | None = Field(description="two-letter code of what was heard")
    duration: float = Field(description="seconds")
    backend: str | None = Field(description="that heard it")
    segments: list[SegmentView]
    success: bool
    filename: str | None = None
    language_requested: str | None = None
    model_version: str | None = Field(default=None, description="the model that really spoke, after any fall-back")
    processing_time: float = Field(default=0.0, description="seconds")
    stage_seconds: dict[str, float] = Field(
        default_factory=dict, description="`backend_start`: a replica had to be started first"
    )
    notes: list[str] = Field(default_factory=list, description="what was degraded, retried or assumed")
    error: str | None = None
    error_code: str | None = None


def full_text(transcript: Transcript) -> str:
    """Return all that was said on one line, as a job's `text`."""
    return " ".join(text for segment in transcript.segments if (text := segment.text.strip()))


def view_upload(heard: Transcription, *, filename: str, language_requested: str, took_s: float) -> UploadView:
    """Describe a transcription."""
    transcript = heard.transcript
    return UploadView(
        text=full_text(transcript),
        language=transcript.language,
        duration=_ms(heard.duration_s),
        backend=heard.backend,
        segments=[_segment(number, segment) for number, segment in enumerate(transcript.segments)],
        success=True,
        filename=filename,
        language_requested=language_requested,
        model_version=transcript.model_version,
        processing_time=_ms(took_s),
        stage_seconds={stage: _ms(seconds) for stage, seconds in heard.stage_seconds.items()},
        notes=list(transcript.notes),
    )


def failed_upload(message: str, code: str) -> dict[str, Any]:
    """Return the answer to an upload that failed."""
    view = UploadView(
        text="", language=None, duration=0.0, backend=None, segments=[], success=False, error=message, error_code=code
    )
    return view.model_dump()


def _segment(number: int, segment: Segment) -> SegmentView:
    return SegmentView(
        id=number,
        start=_ms(segment.start_s),
        end=_ms(segment.end_s),
        text=segment.text.strip(),
        avg_logprob=_rounded(segment.avg_logprob),
        no_speech_prob=_rounded(segment.no_speech_prob),
        words=[
            WordView(
                word=word.word.strip(),
                start=_ms(word.start_s),
                end=_ms(word.end_s),
                confidence=_rounded(word.confidence),
                timing=word.timing.value,
            )
            for word in segment.words
        ],
    )


def _ms(seconds: float) -> float:
    return round(seconds, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
