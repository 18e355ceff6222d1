"""Checks of callbacks and results against the contract, as a strict receiver would make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from serve_app.messages import Locale, Stage, stage_message

_TOLERANCE_S = 1e-6


class _Callback(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    job_id: str
    status: Literal["processing", "completed", "failed", "cancelled"]
    progress: int | None = None
    message: str | None = None
    result: dict[str, Any] | None = None
    error_message: str | None = None
    error_code: str | None = None


class _Part(BaseModel):
    """Part of a result: fields may be added, never renamed."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Speaker(_Part):
    speaker_id: str


class _Features(_Part):
    volume_db: float
    pitch_hz: float | None
    spectral_centroid: float | None


class _SegmentWord(_Part):
    word: str
    start: float
    end: float
    acoustic_features: _Features


class _Segment(_Part):
    start_time: float
    end_time: float
    text: str
    speaker: _Speaker
    words: list[_SegmentWord]


class _Word(_Part):
    word: str
    start_time: float
    end_time: float
    speaker_id: str
    confidence: float | None


class _SpeakerTotal(_Part):
    total_duration: float
    segment_count: int


class _Metadata(_Part):
    model_version: str
    processing_time: float
    unique_speakers: int
    total_segments: int
    language_requested: str
    language_detected: str
    processing_mode: Literal["auto-detect", "targeted"]


class _Result(_Part):
    segments: list[_Segment]
    word_segments: list[_Word]
    speakers: dict[str, _SpeakerTotal]
    text: str
    language: str
    duration: float
    metadata: _Metadata


def callback_problems(payloads: Sequence[dict[str, Any]], job_id: str, locale: Locale = Locale.KO) -> list[str]:
    """Return what is wrong with the callbacks of a job that should have completed; empty if nothing is."""
    problems: list[str] = []
    for number, payload in enumerate(payloads):
        try:
            _Callback.model_validate(payload)
        except ValidationError as error:
            problems += [f"callback {number}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        problems += [
            f"callback {number}: {name} is null instead of absent" for name in payload if payload[name] is None
        ]
        if payload.get("job_id") != job_id:
            problems.append(f"callback {number}: job_id is {payload.get('job_id')!r}")
    told = [(payload.get("status"), payload.get("progress"), payload.get("message")) for payload in payloads]
    wanted = [
        ("completed" if stage is Stage.COMPLETED else "processing", int(stage), stage_message(stage, locale))
        for stage in Stage
    ]
    if told != wanted:
        problems.append(f"the callbacks were {told}, not {wanted}")
    problems += result_problems(payloads[-1].get("result") if payloads else None)
    return problems


def result_problems(result: Any) -> list[str]:
    """Return what is wrong with a result object; empty if nothing is."""
    try:
        checked = _Result.model_validate(result)
    except ValidationError as error:
        return [f"result.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    problems: list[str] = []
    last_s = 0.0
    for number, segment in enumerate(checked.segments):
        where = f"segment {number}"
        if not 0 <= segment.start_time <= segment.end_time <= checked.duration + _TOLERANCE_S:
            problems.append(f"{where}: [{segment.start_time}, {segment.end_time}] is not inside the file")
        last_in_segment_s = segment.start_time
        for word in segment.words:
            if not last_in_segment_s - _TOLERANCE_S <= word.start <= word.end <= segment.end_time + _TOLERANCE_S:
                problems.append(f"{where}: {word.word!r} [{word.start}, {word.end}] is not in order inside it")
            last_in_segment_s = word.start
        if segment.start_time < last_s:
            problems.append(f"{where}: starts before its predecessor")
        last_s = segment.start_time
    in_segments = [word.word for segment in checked.segments for word in segment.words]
    if in_segments != [word.word for word in checked.word_segments]:
        problems.append("segments and word_segments hold different words")
    used = {segment.speaker.speaker_id for segment in checked.segments} | {w.speaker_id for w in checked.word_segments}
    if not used <= set(checked.speakers):
        problems.append(f"speakers {sorted(used - set(checked.speakers))} are used but not listed")
    if checked.metadata.total_segments != len(checked.segments):
        problems.append("metadata.total_segments is not the number of segments")
    if checked.metadata.unique_speakers != len(checked.speakers):
        problems.append("metadata.unique_speakers is not the number of speakers")
    return problems
