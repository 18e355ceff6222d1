"""`show_callbacks`: a job's callbacks, printed as they arrive."""

from __future__ import annotations

import json
import time
from typing import Any

from rich.console import Console

from serve_app.commands.demo.receiver import CallbackReceiver
from serve_app.commands.terminal import echo

_JOB_TIMEOUT_S = 600.0


def show_callbacks(console: Console, receiver: CallbackReceiver, job_id: str, started_s: float) -> list[dict[str, Any]]:
    """Print a job's callbacks, with the seconds since `started_s` (monotonic), and return them; TimeoutError."""
    payloads = []
    for received in receiver.arriving(job_id, _JOB_TIMEOUT_S):
        payload = received.payload
        shown = {name: value for name, value in payload.items() if name not in ("result", "job_id")}
        echo(console, f"{time.monotonic() - started_s:6.1f} s  callback {json.dumps(shown, ensure_ascii=False)}")
        payloads.append(payload)
    return payloads
