"""ACE-Step's protocol over a real local server: what the plan becomes, each error, restarts, places of files."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from fastapi import Response
from fastapi.responses import JSONResponse, RedirectResponse

from serve_app.errors import ModelError, ModelLoadingError, ProcessingError
from serve_app.models.music import acestep
from serve_app.models.music.acestep import AceStep
from serve_app.models.music.encoding import from_audio
from serve_app.models.music.options import AceStepOptions
from serve_app.results import MusicPlan, RenderedMusic
from tests.unit.api.live import serving

from .servers import AceStepServer, wrapped
from .sounds import PLAN, planned

T = TypeVar("T")


@pytest.fixture
def server() -> AceStepServer:
    made = AceStepServer()
    made.runs(0.25, 0.75)
    return made


@pytest.fixture
def address(server: AceStepServer) -> Iterator[str]:
    with serving(server.app) as url:
        yield url


def calling(address: str, call: Callable[[AceStep], Awaitable[T]], key: str | None = None, **options: Any) -> T:
    async def run() -> T:
        engine = AceStep(
            AceStepOptions(**{"base_url": address, "poll_s": 0.01, "timeout_s": 20.0, **options}),
            key,
            first_wait_s=0.01,
        )
        try:
            return await call(engine)
        finally:
            await engine._server.close()

    return asyncio.run(run())


def render(
    address: str, plan: MusicPlan = PLAN, task: str | None = None, key: str | None = None, **options: Any
) -> tuple[RenderedMusic, list[float]]:
    shares: list[float] = []
    piece = calling(address, lambda engine: engine.render(plan, task, shares.append), key, **options)
    return piece, shares


def test_a_piece_from_release_to_file(server: AceStepServer, address: str) -> None:
    task = calling(address, lambda engine: engine.start(PLAN))
    assert task == "task-1"
    piece, shares = render(address, task=task)
    assert len(server.released) == 1
    assert set(server.asked) == {"task-1"}
    assert shares == [0.25, 0.75]
    assert server.fetched == ["path=%2Ftmp%2Fout.flac"]
    audio, rate = from_audio(piece.audio)
    assert (len(audio) / rate, rate) == (10.0, 48_000)
    assert (piece.engine, piece.model_version, piece.midi) == ("acestep", "acestep:acestep-v15-turbo", None)
    assert "ACE-Step" in piece.license


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, {"bpm": 100, "key_scale": "C Major", "time_signature": "4", "audio_duration": 10.0, "seed": 7}),
        ({"key": "F#", "mode": "dorian", "metre": "6/8"}, {"key_scale": "F# Minor", "time_signature": "6"}),
        ({"mode": "mixolydian", "metre": "3/4"}, {"key_scale": "C Major", "time_signature": "3"}),
        ({"mode": "phrygian"}, {"key_scale": "C Minor"}),
        ({"duration_s": 6.0}, {"audio_duration": 10.0}),  # the least that the server makes
        ({"seed": -1}, {"seed": (1 << 31) - 1}),
        ({}, {"use_random_seed": False, "batch_size": 1, "thinking": False, "audio_format": "flac"}),
        ({}, {"prompt": PLAN.prompt_en, "inference_steps": 12, "model": "turbo"}),
    ],
)
def test_what_the_plan_becomes(
    server: AceStepServer, address: str, fields: dict[str, Any], sent: dict[str, Any]
) -> None:
    calling(address, lambda engine: engine.start(planned(**fields)), inference_steps=12, model="turbo")
    assert server.released[0] | sent == server.released[0]


def test_a_task_that_the_server_forgot_is_begun_once_more_with_the_same_seed(
    server: AceStepServer, address: str
) -> None:
    piece, _ = render(address, planned(seed=42), task="task-of-yesterday")
    assert piece.audio
    assert [each["seed"] for each in server.released] == [42]
    assert server.asked[:2] == ["task-of-yesterday", "task-1"]


def test_a_server_that_forgets_everything(server: AceStepServer, address: str) -> None:
    server.known = type("Forgetful", (set,), {"add": lambda self, task: None})()
    with pytest.raises(ProcessingError, match="lost the task"):
        render(address, task="task-of-yesterday")
    assert len(server.released) == 1


def test_a_task_that_fails(server: AceStepServer, address: str) -> None:
    server.states = deque([(2, [{"file": "", "status": 2, "error": "out of\x1b[31m memory\n" + "x" * 900}])])
    with pytest.raises(ProcessingError, match=r"failed to make the piece: out of \[31m memory x") as error:
        render(address)
    assert len(error.value.detail) < 300
    server.states = deque([(2, "Traceback: not JSON")])
    with pytest.raises(ProcessingError, match="Traceback: not JSON"):
        render(address)


def test_a_task_that_never_ends(server: AceStepServer, address: str) -> None:
    server.states = deque([(0, [{"file": "", "status": 0}])])
    started = time.monotonic()
    with pytest.raises(ProcessingError, match=r"did not end within 0\.4 s; raise music\.acestep\.timeout_s"):
        render(address, timeout_s=0.4)
    assert time.monotonic() - started < 5.0


def test_a_cancelled_caller_ends_the_polling(server: AceStepServer, address: str) -> None:
    server.states = deque([(0, [{"file": "", "status": 0}])])

    async def cancel(engine: AceStep) -> None:
        call = asyncio.create_task(engine.render(PLAN, None, lambda share: None))
        while len(server.asked) < 3:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        asked = len(server.asked)
        await asyncio.sleep(0.15)
        assert len(server.asked) <= asked + 1  # one may have been under way

    calling(address, cancel)


def test_the_key(server: AceStepServer, address: str) -> None:
    server.key = "secret"
    assert render(address, key=" secret\n")[0].audio
    for key in (None, "wrong"):
        with pytest.raises(
            ModelLoadingError, match=r"refuses the key \(401\); correct SERVE_APP_MUSIC_API_KEY"
        ) as error:
            render(address, key=key)
        assert "wrong" not in error.value.detail


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_failures_are_tried_again(server: AceStepServer, address: str, status: int) -> None:
    server.failing.extend(JSONResponse({"detail": "busy"}, status) for _ in range(4))
    assert render(address)[0].audio
    assert len(server.released) == 1


def test_a_server_that_stays_busy(server: AceStepServer, address: str) -> None:
    server.failing.extend(JSONResponse({"detail": "Server busy: queue is full"}, 429) for _ in range(9))
    with pytest.raises(ProcessingError, match="answers 429: Server busy: queue is full"):
        render(address)
    assert len(server.failing) == 4


def test_the_server_says_how_long_to_wait(server: AceStepServer, address: str) -> None:
    server.failing.append(JSONResponse({}, 503, headers={"retry-after": "0.3"}))
    started = time.monotonic()
    render(address)
    assert time.monotonic() - started >= 0.3
    server.failing.append(JSONResponse({}, 503, headers={"retry-after": "3600"}))
    with pytest.raises(ProcessingError, match="answers 503"):
        render(address)


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        (JSONResponse({"detail": "no such field"}, 400), ProcessingError, "answers 400: no such field"),
        (JSONResponse({"detail": "Not Found"}, 404), ModelLoadingError, r"404: Not Found; correct music\.acestep"),
        (RedirectResponse("http://169.254.169.254/latest"), ModelLoadingError, "answers 307"),
        (Response("<html>a login page</html>"), ProcessingError, "another form than its API"),
        (JSONResponse(["data"]), ProcessingError, "another form than its API"),
        (Response("[" * 100_000), ProcessingError, "another form than its API"),
        (JSONResponse({"data": None, "code": 500, "error": "no GPU"}), ProcessingError, "refuses the request: no GPU"),
        (JSONResponse(wrapped({"task_id": "../../x y"})), ProcessingError, "without a task id"),
        (JSONResponse(wrapped({"task_id": 7})), ProcessingError, "without a task id"),
        (JSONResponse(wrapped(None)), ProcessingError, "without a task id"),
        (Response(b"x" * (2 << 20)), ProcessingError, "more than 1048576 bytes"),
    ],
)
def test_answers_that_no_further_try_helps(
    server: AceStepServer, address: str, answer: Response, error: type[Exception], sentence: str
) -> None:
    server.failing.append(answer)
    with pytest.raises(error, match=sentence):
        render(address)


@pytest.mark.parametrize(
    "answer",
    [
        *(JSONResponse({"detail": "you sent Bearer s3cret/key"}, status) for status in (400, 404, 429, 503)),
        JSONResponse({"data": None, "error": {"headers": ["Bearer s3cret/key"]}}),
        JSONResponse({"data": None, "error": "s3cret/key is wrong"}),
    ],
)
def test_a_server_that_echoes_the_key_does_not_show_it(server: AceStepServer, address: str, answer: Response) -> None:
    server.failing.extend([answer] * 5)
    with pytest.raises(ModelError, match=r"\*\*\*") as caught:
        render(address, key="s3cret/key")
    assert "s3cret" not in str(caught.value)


def test_states_that_echo_the_key_do_not_show_it(server: AceStepServer, address: str) -> None:
    server.states = deque([(2, [{"error": "s3cret/key"}])])
    with pytest.raises(ProcessingError, match=r"failed to make the piece: \*\*\*"):
        render(address, key="s3cret/key")
    server.states = deque([(1, [{"file": server.place, "dit_model": "turbo s3cret/key"}])])
    assert render(address, key="s3cret/key")[0].model_version == "acestep:turbo ***"


@pytest.mark.parametrize("answer", [wrapped("x"), wrapped(["x"]), wrapped({"a": 1})])
def test_states_in_another_form(server: AceStepServer, address: str, answer: Any) -> None:
    task = calling(address, lambda engine: engine.start(PLAN))
    server.failing.append(JSONResponse(answer))
    with pytest.raises(ProcessingError, match="another form"):
        render(address, task=task)


@pytest.mark.parametrize(
    "place",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://elsewhere.example/v1/audio?path=x",
        "//elsewhere.example/v1/audio",
        "/\\elsewhere.example/v1/audio",
        "v1/audio?path=x",
        "file:///etc/passwd",
        "/v1/audio/../../admin",
        "/v1/audio?path=..%2F..%2Fetc%2Fpasswd",
        "/v1/audio?path=%252e%252e%252fetc",
        "/v1/%252e%252e/admin",
        "/v1/audio?path=a\r\nHost: evil",
        "/v1/audio?path=한",
        "http://[",
        "",
        None,
        7,
    ],
)
def test_files_are_fetched_from_the_configured_server_only(server: AceStepServer, address: str, place: Any) -> None:
    server.place = place
    server.runs()
    with pytest.raises(ProcessingError, match="not on its own server; it was not fetched"):
        render(address)
    assert server.fetched == []


def test_a_server_behind_a_path(server: AceStepServer) -> None:
    from fastapi import FastAPI

    outer = FastAPI()
    outer.mount("/ace", server.app)
    with serving(outer) as url:
        assert render(f"{url}/ace/")[0].audio
    assert server.fetched


def test_a_file_that_is_no_sound_or_too_large(
    server: AceStepServer, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = server.audio
    server.audio = b"<html>gone</html>"
    with pytest.raises(ProcessingError, match="no FLAC, WAV, MP3 or Ogg"):
        render(address)
    server.runs()
    server.audio = good
    monkeypatch.setattr(acestep, "MAX_BYTES", 10_000)
    with pytest.raises(ProcessingError, match="more than 10000 bytes"):
        render(address)


def test_no_server() -> None:
    with pytest.raises(ProcessingError, match=r"can't be reached \(ConnectError\)"):
        render("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"base_url": None}, None),
        ({"base_url": "localhost:8001"}, None),
        ({"base_url": "http://u:p@host"}, None),
        ({"base_url": "http://host"}, "a\nb"),
    ],
)
def test_options_that_can_not_work(options: dict[str, Any], key: str | None) -> None:
    with pytest.raises(ModelLoadingError, match=r"music\.acestep\.base_url|SERVE_APP_MUSIC_API_KEY"):
        AceStep(AceStepOptions(**options), key)


@pytest.mark.parametrize("place", ["/" + "a" * 70_000, "/v1/audio?path=" + "b" * 70_000])
def test_a_place_that_is_no_address(server: AceStepServer, address: str, place: str) -> None:
    server.place = place
    server.runs()
    with pytest.raises(ProcessingError, match="malformed or too long"):
        render(address)


def test_the_task_is_json_that_the_documented_server_reads(server: AceStepServer, address: str) -> None:
    calling(address, lambda engine: engine.start(PLAN))
    [task] = server.released
    documented = {
        "prompt": str,
        "lyrics": str,
        "audio_duration": float,
        "bpm": int,
        "key_scale": str,
        "time_signature": str,
        "inference_steps": int,
        "batch_size": int,
        "use_random_seed": bool,
        "seed": int,
        "audio_format": str,
        "thinking": bool,
    }
    assert {name: type(value) for name, value in task.items()} == documented
    assert json.dumps(task)
