"""A service that transcribes a file by its own bytes: `POST /transcribe` over real HTTP, without models."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Form, UploadFile
from fastapi.responses import JSONResponse, Response

Answer = Callable[[str, bytes], Response | None]


class StandIn:
    """Remembers each upload, and answers with the file's own bytes as its text, unless `answer` says otherwise.

    Attributes:
        sent: how often each file came.
        fields: what the last upload said beside its file.
        open: cleared, uploads wait, as for a slow model.
        answer: returns a response for (name, content), or None for the usual one; may count, and change its mind.
        most_at_once: uploads that were in work together.
    """

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.fields: dict[str, Any] = {}
        self.open = threading.Event()
        self.open.set()
        self.answer: Answer = lambda name, content: None
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self.app = FastAPI()
        self.app.get("/health")(self._health)
        self.app.post("/transcribe")(self._transcribe)

    def _health(self) -> dict[str, str]:
        return {"status": "healthy"}

    def _transcribe(
        self,
        file: UploadFile,
        language: str = Form("auto"),
        backend: str | None = Form(None),
        audio_track: int | None = Form(None),
    ) -> Response:
        name = file.filename or ""
        content = file.file.read()
        with self._lock:
            self.sent[name] += 1
            self.fields = {"language": language, "backend": backend}
            if audio_track is not None:
                self.fields["audio_track"] = audio_track
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self.open.wait(60)
            return self.answer(name, content) or transcribed(content.decode("utf-8", "replace"), language)
        finally:
            with self._lock:
                self._at_once -= 1


def transcribed(text: str, language: str = "en") -> Response:
    answer = {"success": True, "text": text, "language": language, "duration": 2.0, "backend": "faster-whisper"}
    return JSONResponse({**answer, "segments": []})


def refused(status: int, code: str, sentence: str, **headers: str) -> Response:
    """Return a failure in the form of `POST /transcribe`."""
    body = {"success": False, "error": sentence, "error_code": code}
    return JSONResponse(body, status, headers={name.replace("_", "-"): value for name, value in headers.items()})
