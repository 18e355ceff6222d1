"""Whether a job has the result that the same clip had before the burst."""

from __future__ import annotations

import json
from typing import Any

_SECONDS = 0.002  # results are rounded to milliseconds
# `stored` names files by the job's number and fence
_PASSING = ("processing_time", "stage_seconds", "notes", "created_at", "completed_at", "stored")


def comparable(result: Any, job_id: str) -> Any:
    """Return a result without its measured times and places, and with `JOB` for the job's id."""
    return _without(json.loads(json.dumps(result).replace(job_id, "JOB")))


def differences(found: Any, wanted: Any, where: str = "result") -> list[str]:
    """Return where two values differ; numbers may differ by their rounding."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        told = [f"{where}.{key} is only in one" for key in sorted(found.keys() ^ wanted.keys())]
        for key in sorted(found.keys() & wanted.keys()):
            told += differences(found[key], wanted[key], f"{where}.{key}")
        return told
    if isinstance(found, list) and isinstance(wanted, list):
        if len(found) != len(wanted):
            return [f"{where} has {len(found)} items, not {len(wanted)}"]
        return [
            each
            for number, (left, right) in enumerate(zip(found, wanted, strict=True))
            for each in differences(left, right, f"{where}[{number}]")
        ]
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (found, wanted))
    is_same = abs(found - wanted) <= _SECONDS if numbers else found == wanted
    return [] if is_same else [f"{where} is {found!r}, not {wanted!r}"]


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(each) for key, each in value.items() if key not in _PASSING}
    return [_without(each) for each in value] if isinstance(value, list) else value
