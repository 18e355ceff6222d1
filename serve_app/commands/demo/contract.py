"""Checks of callbacks and results against the contract, as strict as a receiver's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from serve_app.analysis.result import AnalysisResult
from serve_app.messages import COMPLETED, JobKind, Locale, MusicStage, Stage, stage_message
from serve_app.results import MusicPiece

_TOLERANCE_S = 1e-6
_DURATION_TOLERANCE_S = 0.25  # of a piece of music
_MUSIC_FILES = ("picture.jpg", "caption.json", "plan.json", "music.mp3", "music.flac")  # of every engine


class _Callback(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    job_id: str
    status: Literal["processing", "completed", "failed", "cancelled"]
    progress: int | None = None
    message: str | None = None
    result: dict[str, Any] | None = None
    error_message: str | None = None
    error_code: str | None = None


_RESULT = TypeAdapter(AnalysisResult)
_PIECE = TypeAdapter(MusicPiece)


def callback_problems(
    payloads: Sequence[dict[str, Any]], job_id: str, locale: Locale = Locale.KO, kind: JobKind = JobKind.VIDEO
) -> list[str]:
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
    sent = [(payload.get("status"), payload.get("progress"), payload.get("message")) for payload in payloads]
    wanted = [
        ("completed" if progress == COMPLETED else "processing", progress, stage_message(kind, progress, locale))
        for progress in _progress(kind, [progress for _, progress, _ in sent])
    ]
    if sent != wanted:
        problems.append(f"the callbacks were {sent}, not {wanted}")
    result = payloads[-1].get("result") if payloads else None
    return problems + (result_problems(result) if kind is JobKind.VIDEO else music_result_problems(result))


def _progress(kind: JobKind, sent: Sequence[Any]) -> list[int]:
    """Return the progress of a job's callbacks, in order: each stage's, and of music what was sent while composing."""
    if kind is JobKind.VIDEO:
        return [int(stage) for stage in Stage]
    between = range(MusicStage.COMPOSING + 1, MusicStage.MASTERING)
    return sorted({int(stage) for stage in MusicStage} | {value for value in sent if value in between})


def music_result_problems(result: Any) -> list[str]:
    """Return what is wrong with a music job's result; empty if nothing is."""
    try:
        piece = _PIECE.validate_json(json.dumps(result), strict=True)
    except ValidationError as error:
        return [f"result.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    problems: list[str] = []
    if abs(piece.duration - piece.plan.duration_s) > _DURATION_TOLERANCE_S:
        problems.append(f"the piece lasts {piece.duration} s instead of {piece.plan.duration_s} s")
    problems += [f"{name} is missing" for name in _MUSIC_FILES if not piece.files.get(name)]
    if not piece.caption.caption_ko or not piece.caption.caption_en:
        problems.append("a caption is empty")
    return problems


def result_problems(result: Any) -> list[str]:
    """Return what is wrong with a result object; empty if nothing is."""
    try:
        checked = _RESULT.validate_python(result, strict=True)
    except ValidationError as error:
        return [f"result.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    problems: list[str] = []
    last_s = 0.0
    for number, segment in enumerate(checked["segments"]):
        where, start_s, end_s = f"segment {number}", segment["start_time"], segment["end_time"]
        if not 0 <= start_s <= end_s <= checked["duration"] + _TOLERANCE_S:
            problems.append(f"{where}: [{start_s}, {end_s}] is not inside the file")
        last_in_segment_s = start_s
        for word in segment["words"]:
            if not last_in_segment_s - _TOLERANCE_S <= word["start"] <= word["end"] <= end_s + _TOLERANCE_S:
                problems.append(f"{where}: {word['word']!r} [{word['start']}, {word['end']}] is not in order inside it")
            last_in_segment_s = word["start"]
        if start_s < last_s:
            problems.append(f"{where}: starts before its predecessor")
        last_s = start_s
    in_segments = [word["word"] for segment in checked["segments"] for word in segment["words"]]
    if in_segments != [word["word"] for word in checked["word_segments"]]:
        problems.append("segments and word_segments hold different words")
    used = {segment["speaker"]["speaker_id"] for segment in checked["segments"]}
    used |= {word["speaker_id"] for word in checked["word_segments"]}
    if not used <= set(checked["speakers"]):
        problems.append(f"speakers {sorted(used - set(checked['speakers']))} are used but not listed")
    if checked["metadata"]["total_segments"] != len(checked["segments"]):
        problems.append("metadata.total_segments is not the number of segments")
    if checked["metadata"]["unique_speakers"] != len(checked["speakers"]):
        problems.append("metadata.unique_speakers is not the number of speakers")
    return problems
