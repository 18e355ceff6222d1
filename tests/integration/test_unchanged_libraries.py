"""Clients at their current versions on the shared graph: OpenAI's, a browser, Node, Java."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import FileServer
from tests.integration.drawn_images import drawn_jpeg
from tests.integration.recordings import read_audio, write_audio
from tests.integration.test_transcribe import utterances, word_error_rate

PROGRAMS = Path(__file__).parent / "other_clients"
CHROMIUM, JAVA, NPM = (shutil.which(name) for name in ("chromium", "java", "npm"))
TIMEOUT_S = 240.0
KOREAN = utterances("ko")[1]
FORMATS = ("json", "text", "srt", "vtt", "verbose_json")


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "컵 사진.jpg"
    path.write_bytes(drawn_jpeg("beverage", "with_beverage", 1, (320, 240)))
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "회의 녹음.wav"
    return write_audio(path, read_audio(KOREAN.path)[None], 16_000, "pcm_s16le")


@pytest.fixture(scope="module")
def node() -> str:
    """Node as Playwright brings it along: newer than Debian's."""
    from playwright._impl._driver import compute_driver_executable

    return str(compute_driver_executable()[0])


def output(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_formats(answers: dict[str, Any]) -> None:
    """Check what OpenAI's client made of each `response_format`."""
    text = answers["text"].strip()
    assert word_error_rate(KOREAN.text, text) <= 0.3
    assert answers["json"]["text"] == answers["verbose_json"]["text"] == text
    assert answers["verbose_json"]["language"] == "korean"
    assert answers["srt"].startswith("1\n00:00:0")
    assert answers["vtt"].startswith("WEBVTT\n")
    assert all(text in answers[name] for name in ("srt", "vtt"))


def test_the_openai_client_in_python(graph: LocalGraph, recording: Path) -> None:
    """All formats side by side; the language in three spellings, of which its own servers know one."""

    async def ask() -> tuple[dict[str, Any], list[str], Any]:
        async with openai.AsyncOpenAI(base_url=f"{graph.base_url}/v1", api_key="any", max_retries=0) as client:
            create = client.audio.transcriptions.create
            asked = [
                create(file=recording, model="whisper-1", response_format=name, language=language, temperature=0.2)
                for name, language in zip(FORMATS, ("ko", "KO", "ko-KR", "Korean", "ko"), strict=True)
            ]
            answers = await asyncio.gather(*asked)
            stream = await create(file=recording, model="faster-whisper", stream=True, language="ko", prompt="회사에서")
            deltas = [event.delta async for event in stream if event.type == "transcript.text.delta"]
            with pytest.raises(openai.BadRequestError) as raised:
                await create(file=("a.wav", b"no sound"), model="whisper-1")
            return dict(zip(FORMATS, answers, strict=True)), deltas, raised.value

    answers, deltas, error = asyncio.run(ask())
    told = {name: answer if isinstance(answer, str) else answer.model_dump() for name, answer in answers.items()}
    check_formats(told)
    assert "".join(deltas) == told["json"]["text"]
    assert (error.status_code, error.code) == (400, "audio_extraction_error")


def test_fetch_and_form_data_of_node(graph: LocalGraph, node: str, picture: Path, recording: Path) -> None:
    told = json.loads(output(node, PROGRAMS / "node_fetch.mjs", graph.base_url, picture, recording))
    for answer in (told["beverage"], told["streamed"]):
        assert answer["status"] == 200, answer
        assert [result["filename"] for result in answer["results"]] == ["컵 새것.jpg", "둘째 컵.jpg"]
        assert [result["has_beverage"] for result in answer["results"]] == [True, True]
        assert [result["is_valid"] for result in answer["results"]] == [False, False]
    for name in ("speech", "nothing", "missing"):
        answer = told[name]
        assert (answer["status"], answer["success"], answer["language"]) == (200, True, "ko"), name
        assert answer["filename"] == "회의 녹음.wav"
    assert told["unnamed"]["status"] == 200
    assert (told["job"]["status"], told["job"]["detail"][0]["loc"]) == (422, ["body", "job_id"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser: Any, origin: str, picture: Path) -> Any:
    page = browser.new_page()
    page.goto(f"{origin}/page.html")
    page.locator("[name=file]").set_input_files([picture, picture])
    return page


def test_a_browsers_page_of_an_allowed_origin(graph: LocalGraph, browser: Any, page_origin: str, picture: Path) -> None:
    page = open_page(browser, page_origin, picture)
    answer = page.evaluate("pictures", graph.base_url)
    assert answer["http"] == 200
    assert [result["filename"] for result in answer["results"]] == [picture.name] * 2
    assert [(result["has_beverage"], result["is_valid"]) for result in answer["results"]] == [(True, False)] * 2
    answer = page.evaluate("byXhr", graph.base_url)
    assert answer["http"] == 200
    assert answer["progress"] > picture.stat().st_size
    assert "is_reusable" in answer
    job_id = str(uuid.uuid4())
    request = {"job_id": job_id, "video_url": "http://10.0.0.1/talk.mp4", "language": "ko", "client": "web 1.2"}
    answers = page.evaluate("([base, request]) => job(base, request)", [graph.base_url, request])
    assert answers["refused"]["http"] == 422
    assert answers["refused"]["detail"][0]["loc"] == ["body", "video_url"]
    assert answers["accepted"]["status"] == "processing"
    assert answers["accepted"]["request"] == "from-a-page"
    assert (answers["failed"]["job_id"], answers["failed"]["error_code"]) == (job_id, "DOWNLOAD_ERROR")
    assert (answers["head"], answers["removed"], answers["gone"]["http"]) == (200, 204, 404)
    page.close()


def test_a_browsers_page_of_another_origin(graph: LocalGraph, browser: Any, picture: Path) -> None:
    with FileServer(PROGRAMS) as other:
        page = open_page(browser, other.base_url, picture)
        with pytest.raises(Exception, match="Failed to fetch"):
            page.evaluate("pictures", graph.base_url)
        page.close()


@pytest.mark.slow
@pytest.mark.skipif(JAVA is None, reason="no Java: apt-get install openjdk-17-jdk-headless")
def test_javas_http_client(graph: LocalGraph, picture: Path, recording: Path) -> None:
    printed = output(str(JAVA), PROGRAMS / "JavaClient.java", graph.base_url, picture, recording)
    lines = dict(line.split("\t", 1) for line in printed.splitlines())
    for name in ("length", "chunks", "stream", "waits"):
        status, version, body = lines[name].split("\t")
        assert (status, version) == ("200", "HTTP_1_1"), name
        answer = json.loads(body)
        assert (answer["has_beverage"], answer["is_valid"]) == (True, False), name
    status, _, body = lines["speech"].split("\t")
    answer = json.loads(body)
    assert (status, answer["success"], answer["language"]) == ("200", True, "ko")
    assert answer["filename"] == "회의 녹음.wav"
    status, _, body = lines["job"].split("\t")
    assert (status, json.loads(body)["detail"][0]["loc"]) == ("422", ["body", "job_id"])
    assert lines["head"] == "200"


@pytest.mark.slow
@pytest.mark.skipif(NPM is None, reason="no npm: apt-get install npm")
def test_the_openai_client_of_npm(graph: LocalGraph, node: str, recording: Path, tmp_path: Path) -> None:
    """The newest version, fetched from the registry or from npm's cache."""
    command = [str(NPM), "install", "--prefer-offline", "--no-audit", "--no-fund", "--prefix", str(tmp_path)]
    fetched = subprocess.run([*command, "openai@latest"], capture_output=True, text=True, timeout=TIMEOUT_S)
    if fetched.returncode != 0:
        pytest.skip(f"npm could not fetch openai: {fetched.stderr.strip()[-300:]}")
    program = shutil.copy(PROGRAMS / "openai_npm.mjs", tmp_path)
    told = json.loads(output(node, program, f"{graph.base_url}/v1", recording))
    check_formats(told["formats"])
    assert {"whisper-1", "faster-whisper"} <= set(told["models"])
    assert told["retrieved"] == "whisper-1"
    assert [word["word"] for word in told["words"]["words"]] == told["words"]["text"].split()
    assert told["words"]["segments"]
    *deltas, done = told["deltas"]
    assert {delta["type"] for delta in deltas} == {"transcript.text.delta"}
    assert (done["type"], done["text"]) == ("transcript.text.done", told["formats"]["json"]["text"])
    assert told["named"]["text"] == done["text"]
    for name in ("no_model", "no_such"):
        failure = told[name]
        assert (failure["kind"], failure["status"], failure["code"]) == ("NotFoundError", 404, "model_not_found")
        assert "faster-whisper" in failure["message"]
    for name, param in (("language", "language"), ("broken", None)):
        failure = told[name]
        assert (failure["kind"], failure["status"], failure["param"]) == ("BadRequestError", 400, param), name
