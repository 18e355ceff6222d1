"""The wrapper: which captioner answers, and what is said of those that do not."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_app.deployments.captioner import Captioner
from serve_app.errors import (
    CaptionRefused,
    GpuMemoryError,
    ImageTooLarge,
    ImageUnreadable,
    ModelLoadingError,
    ProcessingError,
)
from serve_app.models.captions import local
from serve_app.models.captions.options import CaptionerOptions, ChatOptions
from serve_app.models.options import ModelEnvironment
from serve_app.results import Caption
from tests.unit.models.captions.chat_server import GOOD, Answer, ChatServer, fails, says
from tests.unit.models.captions.drawn import plain, prepared
from tests.unit.models.captions.tiny_models import save_blip
from tests.unit.models.images.pictures import encoded

PROJECT = Path(__file__).parents[3]
KEY = "sk-secret-0123456789"
PICTURE = prepared(plain("teal"))
GIVEN = (PICTURE.jpeg, PICTURE.features)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer().running() as running:
        yield running


@pytest.fixture(scope="session")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blip(tmp_path_factory.mktemp("captioner") / "tiny-blip")


def make(*captioners: str, url: str | None = None, max_pixels: int = 1_000_000, key: str = KEY, **options: Any) -> Any:
    chat = ChatOptions(base_url=url or "http://127.0.0.1:9", model="m", timeout_s=5.0)
    given = {"captioners": captioners or ("features",), "chat": chat, "max_new_tokens": 8, **options}
    environment = ModelEnvironment(models_dir=Path("/nonexistent"), caption_api_key=key)
    return Captioner.func_or_class(CaptionerOptions(**given), environment, max_pixels)


def test_the_default_prepares_and_describes_without_any_model() -> None:
    replica = make()

    async def work() -> tuple[Any, Caption, Any]:
        picture = await replica.prepare(encoded(plain("teal"), "PNG"))
        return picture, await replica.caption(picture.jpeg, picture.features), await replica.describe()

    picture, caption, model = asyncio.run(work())
    assert picture == PICTURE
    assert (caption.captioner, caption.model_version, caption.fallback_reason) == ("features", "features-1", None)
    assert (model.spec, model.model_version, model.engine, model.device) == (
        "features",
        "features-1",
        "features",
        "cpu",
    )
    assert (model.notes, model.failure, model.warm) == ((), None, True)
    replica.check_health()


def test_a_bad_picture_has_its_error() -> None:
    replica = make(max_pixels=2000)
    with pytest.raises(ImageUnreadable):
        asyncio.run(replica.prepare(b"no picture"))
    with pytest.raises(ImageTooLarge):
        asyncio.run(replica.prepare(encoded(plain("red", (60, 40)), "PNG")))


def test_pictures_are_decoded_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_app.models import caged_pictures

    threads = []
    prepare = caged_pictures.prepare_caged

    def noted(data: bytes, **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        return prepare(data, **options)

    monkeypatch.setattr(caged_pictures, "prepare_caged", noted)
    asyncio.run(make().prepare(encoded(plain("red"), "PNG")))
    assert threads[0].startswith("picture-decoder")


def test_the_key_of_the_environment_reaches_the_endpoint_alone(server: ChatServer) -> None:
    replica = make("chat", "features", url=server.url)
    caption = asyncio.run(replica.caption(*GIVEN))
    assert (caption.captioner, caption.caption_en, caption.fallback_reason) == ("chat", "A quiet sea.", None)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(ModelEnvironment(models_dir=Path("x"), caption_api_key=KEY))
    assert KEY not in repr(asyncio.run(replica.describe()))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (fails(401, "invalid_api_key"), "answers 401"),
        (says(None, refusal="I can't describe this."), "will not describe the picture"),
        (fails(429, "insufficient_quota"), "quota is used up"),
        (Answer(body=b"<html>"), "no chat completion"),
    ],
)
def test_the_next_captioner_answers_and_says_why(server: ChatServer, answer: Answer, reason: str) -> None:
    server.script = [answer]
    caption = asyncio.run(make("chat", "features", url=server.url).caption(*GIVEN))
    assert caption.captioner == "features"
    assert caption.fallback_reason is not None
    assert caption.fallback_reason.startswith("chat failed: ")
    assert reason in caption.fallback_reason


@pytest.mark.parametrize(
    ("answer", "requests", "told"),
    [
        (fails(401, "invalid_api_key"), 1, "answers 401"),
        (fails(429, "insufficient_quota"), 1, "quota is used up"),
        (fails(503, "down", headers={"retry-after": "0"}), 5, "answers 503"),
        (Answer(after_s=0.4), 1, r"no caption within 0\.2 s"),
    ],
)
def test_an_endpoint_that_failed_is_passed_over_for_a_minute(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, answer: Answer, requests: int, told: str
) -> None:
    now = [1000.0]
    monkeypatch.setattr("serve_app.deployments.captioner.monotonic", lambda: now[0])
    server.script = [answer]
    deadline_s = 0.2 if answer.after_s else 10.0

    async def work() -> None:
        replica = make("chat", "features", chat=ChatOptions(base_url=server.url, model="m", deadline_s=deadline_s))
        for at_s, rest_s in ((1000.0, 60), (1000.0, 60), (1059.0, 1)):
            now[0] = at_s
            caption = await replica.caption(*GIVEN)
            assert caption.captioner == "features"
            assert re.search(rf"^chat failed: .*{told}.*; it is asked again in {rest_s} s$", caption.fallback_reason)
        assert len(server.requests) == requests
        now[0] = 1060.0
        server.script = [GOOD]
        for _ in range(2):
            assert (await replica.caption(*GIVEN)).captioner == "chat"
        assert len(server.requests) == requests + 2

    asyncio.run(work())


def test_an_endpoint_that_can_not_be_reached_is_passed_over() -> None:
    # a port that nobody listens on
    options = ChatOptions(base_url="http://127.0.0.1:9/v1", model="m", deadline_s=0.3)

    async def work() -> None:
        replica = make("chat", "features", chat=options)
        for _ in range(2):
            reason = (await replica.caption(*GIVEN)).fallback_reason
            assert re.search(r"^chat failed: .*; it is asked again in (60|59) s$", reason)

    asyncio.run(work())


@pytest.mark.parametrize("answer", [says(None, refusal="I can't describe this."), fails(400, "invalid_image")])
def test_a_failure_of_one_picture_does_not_pause_the_endpoint(server: ChatServer, answer: Answer) -> None:
    server.script = [answer, GOOD]

    async def work() -> None:
        replica = make("chat", "features", url=server.url)
        assert [(await replica.caption(*GIVEN)).captioner for _ in range(2)] == ["features", "chat"]

    asyncio.run(work())


def test_an_endpoint_without_a_successor_is_asked_each_time(server: ChatServer) -> None:
    server.script = [fails(401), GOOD]

    async def work() -> None:
        replica = make("chat", url=server.url)
        with pytest.raises(ProcessingError, match="answers 401"):
            await replica.caption(*GIVEN)
        assert (await replica.caption(*GIVEN)).captioner == "chat"

    asyncio.run(work())


def test_the_order_of_the_configuration_counts(server: ChatServer) -> None:
    assert asyncio.run(make("features", "chat", url=server.url).caption(*GIVEN)).captioner == "features"
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "kind"), [(says("I'm sorry, I can't help with that."), CaptionRefused), (fails(401), ProcessingError)]
)
def test_the_last_failure_is_raised_where_none_answers(server: ChatServer, answer: Answer, kind: type) -> None:
    server.script = [answer]
    with pytest.raises(kind):
        asyncio.run(make("chat", url=server.url).caption(*GIVEN))


def test_a_model_that_can_not_be_loaded_is_passed_over() -> None:
    replica = make("transformers", "chat", "features", model_id="./nothing", key="no key")
    caption = asyncio.run(replica.caption(*GIVEN))
    assert caption.captioner == "features"
    assert caption.fallback_reason is not None
    # a visitor is not told the folders of this machine
    failed = "failed: its model could not be loaded"
    assert caption.fallback_reason == f"transformers {failed}; chat {failed}"
    model = asyncio.run(replica.describe())
    assert [note.partition(":")[0] for note in model.notes] == ["transformers", "chat"]
    assert (model.model_version, model.engine, model.failure) == ("features-1", "features", None)
    assert model.spec == "transformers > chat > features"
    replica.check_health()


def test_without_any_captioner_every_call_says_why_and_then_serve_learns_it(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = make("transformers", model_id="./nothing")
    for _ in range(2):
        with pytest.raises(ModelLoadingError, match="no file or folder"):
            asyncio.run(replica.caption(*GIVEN))
    assert asyncio.run(replica.prepare(encoded(plain("teal"), "PNG"))) == PICTURE
    model = asyncio.run(replica.describe())
    assert (model.warm, model.model_version) == (False, None)
    assert "no file or folder" in (model.failure or "")
    replica.check_health()
    monkeypatch.setattr(replica._model, "_started_at", replica._model._started_at - 31)
    with pytest.raises(RuntimeError, match="no file or folder"):
        replica.check_health()


# A local model


def test_a_local_model_captions_waiting_pictures_together(blip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    captions = local.LocalCaptioner.captions

    def noted(self: local.LocalCaptioner, pictures: Any) -> Any:
        batches.append(len(pictures))
        return captions(self, pictures)

    monkeypatch.setattr(local.LocalCaptioner, "captions", noted)
    replica = make("transformers", "features", model_id=str(blip), batch_size=3, batch_wait_s=0.2)

    async def work() -> list[Caption]:
        return await asyncio.gather(*(replica.caption(*GIVEN) for _ in range(6)))

    found = asyncio.run(work())
    assert {(caption.captioner, caption.fallback_reason) for caption in found} == {("transformers", None)}
    assert batches == [3, 3]
    model = asyncio.run(replica.describe())
    assert model.model_version == "transformers:tiny-blip:float32, features-1"


@pytest.mark.parametrize("error", [GpuMemoryError("no room"), ProcessingError("broken")])
def test_a_local_model_that_fails_is_passed_over(blip: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(self: Any, pictures: Any) -> None:
        raise error

    monkeypatch.setattr(local.LocalCaptioner, "captions", fail)
    caption = asyncio.run(make("transformers", "features", model_id=str(blip)).caption(*GIVEN))
    assert (caption.captioner, caption.fallback_reason) == ("features", f"transformers failed: {error}")
    with pytest.raises(type(error)):
        asyncio.run(make("transformers", model_id=str(blip)).caption(*GIVEN))


def test_options_reach_the_local_model(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def record(model_id: str, **options: Any) -> None:
        given.update(options, model_id=model_id)
        raise ModelLoadingError("enough")

    monkeypatch.setattr(local, "LocalCaptioner", record)
    make("transformers", "features", model_id="org/m", revision="abc", device="cuda:1", num_threads=3)
    assert given == {
        "model_id": "org/m@abc",
        "device": "cuda:1",
        "num_threads": 3,
        "max_new_tokens": 8,
        "cache_dir": Path("/nonexistent"),
        "hf_token": None,
    }


def test_the_default_loads_no_model_library() -> None:
    code = """
import asyncio, json, sys
from pathlib import Path
from serve_app.deployments.captioner import Captioner
from serve_app.models.captions.options import CaptionerOptions
from serve_app.models.options import ModelEnvironment
replica = Captioner.func_or_class(CaptionerOptions(), ModelEnvironment(models_dir=Path("x")), 1_000_000)
picture = asyncio.run(replica.prepare(Path(sys.argv[1]).read_bytes()))
asyncio.run(replica.caption(picture.jpeg, picture.features))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    sample = PROJECT / "tests" / "data" / "images" / "turned.heic"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(sample)],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    loaded = set(json.loads(ran.stdout.splitlines()[-1]))
    assert {"ray", "numpy", "PIL"} <= loaded
    assert loaded & {"torch", "transformers", "scipy", "tenacity"} == set()
