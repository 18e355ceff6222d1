"""Clients of the burst: each submits one job under one id, again and again until it is taken."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

_TRY_S = 30.0
_LONGEST_PAUSE_S = 10.0
_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A try that was not accepted.

    Attributes:
        at_s: when it began, seconds of `time.monotonic`.
        took_s: until its answer.
        status: of the answer; 0: there was none.
        text: code and sentence, or the failure.
    """

    at_s: float
    took_s: float
    status: int
    text: str


@dataclass(slots=True)
class Submission:
    """One job, or one picture, from its first try on.

    Attributes:
        job_id: chosen by the client; the same at every try.
        group: honest, silent receiver, dripping server, poison.
        what: clip or file.
        path: of the route.
        body: keyword arguments of `httpx.Client.post`.
        is_job: False: the answer is all.
        submitted_s, accepted_s: of `time.monotonic`.
        refusals: in order.
        answer: to the try that was accepted.
        view: of the job at last.
    """

    job_id: str
    group: str
    what: str
    path: str
    body: Mapping[str, Any]
    is_job: bool = True
    submitted_s: float | None = None
    accepted_s: float | None = None
    refusals: list[Refusal] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=dict)
    view: dict[str, Any] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether there is nothing more to wait for."""
        if self.accepted_s is None:
            return bool(self.refusals) and 400 <= self.refusals[-1].status < 429
        return not self.is_job or self.view.get("status") in ("completed", "failed", "cancelled")

    @property
    def end(self) -> str:
        """`completed`, an error's code, `HTTP` and a status, or the state it is still in."""
        if self.accepted_s is None:
            return f"HTTP {self.refusals[-1].status}" if self.refusals else "not submitted"
        if not self.is_job:
            return "completed"
        return str(self.view.get("error_code") or self.view.get("status") or "unknown")


class Clients:
    """Submits in threads.

    Args:
        base_url: of the service.
        cookies: of the one visitor who orders all music.
    """

    def __init__(self, base_url: str, cookies: Mapping[str, str]) -> None:
        self._base_url = base_url
        self._cookies = dict(cookies)
        self._stop = threading.Event()

    def submit(self, submission: Submission) -> threading.Thread:
        """Begin in a thread, which ends when the job is taken or refused for good."""
        thread = threading.Thread(target=self._submit, args=(submission,), daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End all tries."""
        self._stop.set()

    def look_at(self, submission: Submission) -> bool:
        """Ask how its job is; return whether it has ended."""
        if submission.accepted_s is not None and not submission.is_final:
            with contextlib.suppress(httpx.HTTPError, ValueError), self._client() as client:
                answer = client.get(f"/jobs/{submission.job_id}")
                if answer.is_success:
                    submission.view = answer.json()
        return submission.is_final

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._base_url, cookies=self._cookies, timeout=_TRY_S, trust_env=False)

    def _submit(self, submission: Submission) -> None:
        submission.submitted_s = time.monotonic()
        while not self._stop.is_set():
            began_s = time.monotonic()
            pause_s = _PAUSE_S
            try:
                with self._client() as client:
                    answer = client.post(submission.path, **submission.body)
            except httpx.HTTPError as error:
                refusal = Refusal(began_s, time.monotonic() - began_s, 0, repr(error))
            else:
                if answer.is_success:
                    with contextlib.suppress(ValueError):
                        submission.answer = answer.json()
                    submission.accepted_s = time.monotonic()
                    return
                refusal = Refusal(began_s, time.monotonic() - began_s, answer.status_code, answer.text[:300])
                with contextlib.suppress(KeyError, ValueError):
                    pause_s = min(float(answer.headers["retry-after"]), _LONGEST_PAUSE_S)
            submission.refusals.append(refusal)
            if submission.is_final:
                return
            self._stop.wait(max(pause_s, 0.2))
