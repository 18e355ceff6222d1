"""Answers of `POST /transcribe`: the transcription of an upload, or the analysis of a file."""

from __future__ import annotations

import time
from typing import Annotated, Any

from pydantic import BaseModel, Field

from serve_app.analysis.result import AnalysisResult, ResultSegment, ResultSpeakerTotals, ResultTurn, Unchecked
from serve_app.api.http.answers import timestamp
from serve_app.results import Segment, Transcript
from serve_app.sentences import Locale, translated
from serve_app.services import Transcription


class WordView(BaseModel):
    """A word, as in a job's result."""

    word: str
    start: float
    end: float
    confidence: float | None = Field(description="0 to 1; null where unknown")
    timing: str = Field(description="`aligned`: found in the audio; `interpolated`: between words that were")


class SegmentView(BaseModel):
    """A run of words without a long pause."""

    id: int
    start: float = Field(description="seconds from the start of the file")
    end: float
    text: str
    avg_logprob: float | None = Field(description="null from other recognisers than Whisper")
    no_speech_prob: float | None
    words: list[WordView]


class UploadView(BaseModel):
    """Answer of `POST /transcribe` to an upload, also for a failure."""

    text: str
    language: str | None = Field(description="two-letter code of the language spoken")
    duration: float = Field(description="seconds")
    backend: str | None = Field(description="the backend that transcribed it")
    segments: list[SegmentView]
    success: bool
    filename: str | None = None
    language_requested: str | None = None
    model_version: str | None = Field(default=None, description="the model that transcribed, after any fall-back")
    processing_time: float = Field(default=0.0, description="seconds")
    stage_seconds: dict[str, float] = Field(
        default_factory=dict, description="`backend_start`: a replica had to be started first"
    )
    notes: list[str] = Field(default_factory=list, description="what was degraded, retried or assumed")
    error: str | None = None
    error_code: str | None = None


class TranscribeView(BaseModel):
    """Answer of `POST /transcribe` to a JSON object or a form with `diarize=true`, also for a failure."""

    success: bool
    segments: Annotated[list[ResultSegment], Unchecked()] = []
    speakers: Annotated[dict[str, ResultSpeakerTotals], Unchecked()] = {}
    metadata: dict[str, Any] = Field(default={}, description="as in a job's result, with the file's name and duration")
    processing_time: float = Field(default=0.0, description="seconds")
    error: str | None = None
    error_code: str | None = None
    speaker_turns: Annotated[list[ResultTurn], Unchecked()] = Field(
        default=[], description="who spoke when, overlaps included"
    )


# The contract's order of an analysis's metadata.
_COUNTS = ("total_segments", "unique_speakers", "processing_time")
_LANGUAGE = ("language_requested", "language_detected", "processing_mode")


def full_text(transcript: Transcript) -> str:
    """Return the whole text on one line."""
    return " ".join(text for segment in transcript.segments if (text := segment.text.strip()))


def view_upload(
    transcription: Transcription, *, filename: str, language_requested: str, took_s: float, locale: Locale
) -> UploadView:
    transcript = transcription.transcript
    return UploadView(
        text=full_text(transcript),
        language=transcript.language,
        duration=_ms(transcription.duration_s),
        backend=transcription.backend,
        segments=[_segment(number, segment) for number, segment in enumerate(transcript.segments)],
        success=True,
        filename=filename,
        language_requested=language_requested,
        model_version=transcript.model_version,
        processing_time=_ms(took_s),
        stage_seconds={stage: _ms(seconds) for stage, seconds in transcription.stage_seconds.items()},
        notes=[translated(note, locale) for note in transcript.notes],
    )


def view_analysis(result: AnalysisResult, filename: str, locale: Locale) -> TranscribeView:
    facts: dict[str, Any] = {**result["metadata"]}
    facts["notes"] = [translated(note, locale) for note in facts.get("notes", ())]
    metadata = {"filename": filename, "duration": result["duration"]}
    metadata |= {name: facts[name] for name in (*_COUNTS, *_LANGUAGE)} | {"processed_at": timestamp(time.time())}
    return TranscribeView(
        success=True,
        segments=result["segments"],
        speakers=result["speakers"],
        metadata=metadata | {name: value for name, value in facts.items() if name not in metadata},
        processing_time=facts["processing_time"],
        speaker_turns=result.get("speaker_turns", []),
    )


def failed_upload(message: str, code: str) -> dict[str, Any]:
    nothing: dict[str, Any] = {"text": "", "language": None, "duration": 0.0, "backend": None, "segments": []}
    return UploadView(**nothing, success=False, error=message, error_code=code).model_dump()


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
