"""Checks of callbacks and results against the contract, as strict as a receiver's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from serve_app.analysis.result import AnalysisResult
from serve_app.messages import JobKind, Locale, Stage, stage_message

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


_RESULT = TypeAdapter(AnalysisResult)


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
    sent = [(payload.get("status"), payload.get("progress"), payload.get("message")) for payload in payloads]
    wanted = [
        (
            "completed" if stage is Stage.COMPLETED else "processing",
            int(stage),
            stage_message(JobKind.VIDEO, stage, locale),
        )
        for stage in Stage
    ]
    if sent != wanted:
        problems.append(f"the callbacks were {sent}, not {wanted}")
    problems += result_problems(payloads[-1].get("result") if payloads else None)
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
