"""Vertex AI over a real local server, with google-auth's real token flow: answers, filters, tokens, retries."""

from __future__ import annotations

import asyncio
import base64
import io
import sys
import time
import wave
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from fastapi import Response
from fastapi.responses import JSONResponse

from serve_app.errors import ModelError, ModelLoadingError, MusicRefused, ProcessingError
from serve_app.models.music.encoding import from_audio
from serve_app.models.music.options import VertexOptions
from serve_app.models.music.vertex import Vertex
from serve_app.results import MusicPlan, RenderedMusic
from tests.unit.api.live import serving

from .servers import LOCATION, PROJECT, VertexServer, encoded_sound, google_error, write_service_account
from .sounds import PLAN, melody, planned

T = TypeVar("T")
LYRIA = f"v1/projects/{PROJECT}/locations/{LOCATION}/publishers/google/models/lyria-002:predict"


@pytest.fixture
def server() -> VertexServer:
    return VertexServer()


@pytest.fixture
def address(server: VertexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve, and let Google's libraries find a key file whose token server is this one."""
    with serving(server.app) as url:
        key_file = write_service_account(tmp_path / "key.json", url)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
        monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
        yield url


def calling(address: str, call: Callable[[Vertex], Awaitable[T]], **options: Any) -> T:
    async def run() -> T:
        engine = Vertex(
            VertexOptions(
                **{"endpoint_url": address, "project": PROJECT, "location": LOCATION, "timeout_s": 20.0, **options}
            ),
            first_wait_s=0.01,
        )
        try:
            return await call(engine)
        finally:
            await engine._server.close()

    return asyncio.run(run())


def render(address: str, plan: MusicPlan = PLAN, **options: Any) -> RenderedMusic:
    return calling(address, lambda engine: engine.render(plan), **options)


def test_a_piece_of_lyria(server: VertexServer, address: str) -> None:
    piece = render(address, planned(seed=(1 << 40) + 7))
    assert server.paths == [LYRIA]
    [body] = server.bodies
    [instance] = body["instances"]
    assert set(instance) == {"prompt", "negative_prompt", "seed"}
    assert (instance["prompt"], instance["seed"]) == (PLAN.prompt_en, 7)
    assert "sample_count" not in body["parameters"]  # excludes a seed
    audio, rate = from_audio(piece.audio)
    assert (len(audio) / rate, rate) == (10.0, 48_000)
    assert (piece.engine, piece.model_version) == ("vertex", "vertex:lyria-002")
    assert "lyria-002" in piece.license
    assert "SynthID" in piece.license


def wav(seconds: float) -> bytes:
    output = io.BytesIO()
    with wave.open(output, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes((melody(seconds, 48_000) * 32_767).astype(np.int16).tobytes())
    return output.getvalue()


@pytest.mark.parametrize("field", ["audioContent", "bytesBase64Encoded"])
def test_both_shapes_of_answers_and_sound_under_a_wrong_name(server: VertexServer, address: str, field: str) -> None:
    server.answer = {"predictions": [{field: base64.b64encode(wav(7.0)).decode(), "mimeType": "audio/mpeg"}]}
    audio, rate = from_audio(render(address).audio)
    assert (len(audio) / rate, rate) == (7.0, 48_000)


def test_a_shorter_piece_than_planned_has_a_note(address: str) -> None:
    assert render(address).notes == ()
    assert render(address, planned(duration_s=60.0)).notes == ("The engine vertex made 10 s; 60 s were asked for.",)


def test_an_endpoint_of_ones_own_gets_the_plan(server: VertexServer, address: str) -> None:
    piece = render(address, planned(key="D", mode="dorian"), endpoint_id="123", project="other")
    assert server.paths == [f"v1/projects/other/locations/{LOCATION}/endpoints/123:predict"]
    [instance] = server.bodies[0]["instances"]
    assert instance["seed"] == 7
    assert (instance["duration_s"], instance["tempo_bpm"]) == (10.0, 100)
    assert (instance["key"], instance["mode"], instance["metre"]) == ("D", "dorian", "4/4")
    assert piece.model_version == "vertex:endpoint-123"
    assert "not stated" in piece.license


def test_a_token_serves_several_pieces_and_a_withdrawn_one_is_replaced(server: VertexServer, address: str) -> None:
    async def twice(engine: Vertex) -> None:
        await engine.render(PLAN)
        await engine.render(PLAN)
        assert server.tokens == ["token-1"]
        server.withdrawn = {"token-1"}
        assert (await engine.render(PLAN)).audio
        assert server.tokens == ["token-1", "token-2"]

    calling(address, twice)
    assert len(server.paths) == 4


def test_credentials_that_stay_refused(server: VertexServer, address: str) -> None:
    server.withdrawn = {"token-1", "token-2", "token-3"}
    with pytest.raises(ModelLoadingError, match="refuses the credentials"):
        render(address)
    assert server.tokens == ["token-1", "token-2"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            google_error(400, "The prompt was blocked by safety filters.\x1b[2J"),
            "filter refused the piece: The prompt",
        ),
        (google_error(400, "Music generation failed: recitation check"), "recitation"),
        (JSONResponse({"predictions": []}), "returned no piece: its filter"),
        (JSONResponse({}), "returned no piece"),
        (JSONResponse({"predictions": [{"raiFilteredReason": "artist intent"}]}), "blocked it: artist intent"),
    ],
)
def test_filters_refuse_and_are_not_asked_again(
    server: VertexServer, address: str, answer: Response, sentence: str
) -> None:
    server.answer = answer
    with pytest.raises(MusicRefused, match=sentence) as error:
        render(address)
    assert "\x1b" not in error.value.detail
    assert len(server.paths) == 1


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        (google_error(400, "Invalid value at 'seed'"), ProcessingError, "answers 400: Invalid value"),
        (google_error(403, "Permission denied"), ModelLoadingError, "403.*role Vertex AI User"),
        (google_error(404, "Not found"), ModelLoadingError, "has no lyria-002 in us-central1"),
        (Response("<html>"), ProcessingError, "another form"),
        (JSONResponse(["x"]), ProcessingError, "another form"),
        (JSONResponse({"predictions": ["x"]}), ProcessingError, "another form"),
        (JSONResponse({"predictions": [{"audioContent": "no base64!"}]}), ProcessingError, "no sound in base64"),
        (JSONResponse({"predictions": [{"audioContent": "aGFsbG8="}]}), ProcessingError, "no FLAC, WAV, MP3 or Ogg"),
    ],
)
def test_answers_that_no_further_try_helps(
    server: VertexServer, address: str, answer: Response, error: type[Exception], sentence: str
) -> None:
    server.answer = answer
    with pytest.raises(error, match=sentence) as found:
        render(address)
    assert not isinstance(found.value, MusicRefused)
    assert len(server.paths) == 1


@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_a_server_that_echoes_the_token_does_not_show_it(server: VertexServer, address: str, status: int) -> None:
    server.failing.extend([google_error(status, "You sent Bearer token-1.")] * 5)
    with pytest.raises(ModelError, match=r"You sent Bearer \*\*\*\.") as caught:
        render(address)
    assert "token-1" not in str(caught.value)


def test_a_filter_that_echoes_the_token_does_not_show_it(server: VertexServer, address: str) -> None:
    server.answer = {"predictions": [], "raiFilteredReason": "token-1 is blocked"}
    with pytest.raises(MusicRefused, match=r"\*\*\* is blocked"):
        render(address)


def test_an_own_model_without_an_answer_has_failed_and_not_refused(server: VertexServer, address: str) -> None:
    server.answer = {"predictions": []}
    with pytest.raises(ProcessingError, match="no sound in base64") as error:
        render(address, endpoint_id="123")
    assert not isinstance(error.value, MusicRefused)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_failures_are_tried_again(server: VertexServer, address: str, status: int) -> None:
    server.failing.extend(google_error(status, "Resource exhausted") for _ in range(2))
    assert render(address).audio
    server.failing.extend(google_error(status, "Resource exhausted") for _ in range(9))
    with pytest.raises(ProcessingError, match=f"answers {status}.*Resource exhausted"):
        render(address)
    assert len(server.failing) == 4


def test_an_answer_that_never_comes(server: VertexServer, address: str) -> None:
    async def hang(path: str) -> None:
        await asyncio.sleep(1.0)

    server.app.router.routes.clear()
    server.app.post("/token")(server._token)
    server.app.post("/{path:path}")(hang)
    started = time.monotonic()
    with pytest.raises(ProcessingError, match=r"within 0\.5 s"):
        render(address, timeout_s=0.5)
    assert time.monotonic() - started < 5.0


def test_no_credentials(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(ModelLoadingError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        render(address)


def test_a_key_that_google_refuses(server: VertexServer, address: str) -> None:
    server.token_failure = JSONResponse({"error": "invalid_grant", "error_description": "Invalid JWT: secret"}, 400)
    with pytest.raises(ModelLoadingError, match=r"refuses the credentials.*RefreshError") as error:
        render(address)
    assert "secret" not in error.value.detail


def test_a_damaged_key_file(address: str, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"type": "service_account", "private_key": "x"}')
    with pytest.raises(ModelLoadingError, match=r"credentials"):
        render(address)


def test_without_google_auth(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("google.auth")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(ModelLoadingError, match=r"pip install 'serve_app\[gcs\]'"):
        render(address)


@pytest.mark.parametrize(
    ("location", "base"),
    [
        ("europe-west4", "https://europe-west4-aiplatform.googleapis.com"),
        ("global", "https://aiplatform.googleapis.com"),
    ],
)
def test_the_address_follows_the_location(location: str, base: str) -> None:
    assert Vertex(VertexOptions(location=location))._server._base_url == base


def test_an_address_that_is_none() -> None:
    with pytest.raises(ModelLoadingError, match=r"music\.vertex\.endpoint_url"):
        Vertex(VertexOptions(endpoint_url="aiplatform.googleapis.com"))


def test_the_sound_of_the_server_is_music() -> None:
    audio, _ = from_audio(base64.b64decode(encoded_sound(3.0)))
    assert audio.std() > 0.01
