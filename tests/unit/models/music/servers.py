"""Real local servers that speak the protocols of ACE-Step 1.5 and of Vertex AI, with their errors."""

from __future__ import annotations

import base64
import json
from collections import deque
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from serve_app.models.music.encoding import to_flac

from .sounds import melody

PROJECT, LOCATION = "a-project", "us-central1"


def wrapped(data: Any) -> dict[str, Any]:
    return {"data": data, "code": 200, "error": None, "timestamp": 1, "extra": None}


class AceStepServer:
    """ACE-Step: `states` are a task's answers in turn, the last one for ever; `failing` comes before every answer."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.key: str | None = None
        self.audio = to_flac(melody(10.0, 48_000), 48_000)
        self.place = "/v1/audio?path=%2Ftmp%2Fout.flac"
        self.states: deque[tuple[int, list[dict[str, Any]] | str]] = deque()
        self.known: set[str] = set()
        self.failing: deque[Response] = deque()
        self.released: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.fetched: list[str] = []
        self.app.post("/release_task")(self._release)
        self.app.post("/query_result")(self._query)
        self.app.get("/v1/audio")(self._audio)

    def runs(self, *shares: float) -> None:
        """Let tasks run through some shares and then succeed."""
        self.states = deque([(0, [{"file": "", "status": 0, "progress": share}]) for share in shares])
        self.states.append((1, [{"file": self.place, "status": 1, "dit_model": "acestep-v15-turbo"}]))

    def _refusal(self, request: Request) -> Response | None:
        if self.failing:
            return self.failing.popleft()
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"detail": "Missing or invalid API key"}, 401)
        return None

    async def _release(self, request: Request) -> Any:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        self.released.append(await request.json())
        task = f"task-{len(self.released)}"
        self.known.add(task)
        return wrapped({"task_id": task, "status": "queued", "queue_position": 1})

    async def _query(self, request: Request) -> Any:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        [task] = (await request.json())["task_id_list"]
        self.asked.append(task)
        if task not in self.known:  # as api/http/query_result_route.py: unknown tasks look queued, without a result
            return wrapped([{"task_id": task, "status": 0, "result": "[]"}])
        status, result = self.states.popleft() if len(self.states) > 1 else self.states[0]
        encoded = result if isinstance(result, str) else json.dumps(result)
        return wrapped([{"task_id": task, "status": status, "result": encoded}])

    async def _audio(self, request: Request) -> Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        self.fetched.append(str(request.url.query))
        return Response(self.audio, media_type="audio/mpeg")  # servers name it wrongly


class VertexServer:
    """Vertex AI's prediction service and Google's token server, with tokens that can be withdrawn."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.tokens: list[str] = []
        self.token_failure: Response | None = None
        self.withdrawn: set[str] = set()
        self.failing: deque[Response] = deque()
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.answer: Any = {"predictions": [{"audioContent": encoded_sound(), "mimeType": "audio/wav"}]}
        self.app.post("/token")(self._token)
        self.app.post("/{path:path}")(self._predict)

    async def _token(self, request: Request) -> Any:
        if self.token_failure is not None:
            return self.token_failure
        form = await request.form()
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        claims = json.loads(base64.urlsafe_b64decode(str(form["assertion"]).split(".")[1] + "=="))
        assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
        self.tokens.append(f"token-{len(self.tokens) + 1}")
        return {"access_token": self.tokens[-1], "token_type": "Bearer", "expires_in": 3600}

    async def _predict(self, path: str, request: Request) -> Any:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.paths.append(path)
        self.bodies.append(await request.json())
        if token not in self.tokens or token in self.withdrawn:
            return JSONResponse({"error": {"code": 401, "message": "Request had invalid credentials."}}, 401)
        if self.failing:
            return self.failing.popleft()
        return self.answer if isinstance(self.answer, Response) else JSONResponse(self.answer)


def encoded_sound(seconds: float = 10.0) -> str:
    return base64.b64encode(to_flac(melody(seconds, 48_000), 48_000)).decode()


def google_error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": status, "message": message, "status": "X"}}, status)


def write_service_account(path: Path, address: str) -> Path:
    """Write a service account's key file whose token server is our own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "private_key_id": "1",
                "private_key": pem.decode(),
                "client_email": f"tests@{PROJECT}.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": f"{address}/token",
            }
        )
    )
    return path
