"""What a caller reads when a request fails: Korean where the operator chose Korean, English where English."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app import errors
from serve_app.messages import Stage
from serve_app.sentences import Locale, Sentence, translated
from serve_app.services import DeployedModel
from tests.unit.api.all_routes import all_routes
from tests.unit.api.memory_services import (
    REPLICA_MODEL,
    RESULT,
    JobsOnTable,
    MemoryAnalysis,
    MemoryDrums,
    MemoryImages,
    MemoryModels,
    MemorySpeech,
)

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
WAV = {"file": ("a.wav", b"RIFF", "audio/wav")}
JOB = {"job_id": "a", "video_url": "https://h/v.mp4"}

TAKE_BODIES = (
    "/api/upload-video/process-video",
    "/transcribe",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/classify-reusable",
    "/verify-beverage",
    "/transcribe-drums",
    "/generate-music",
)

_HANGUL = re.compile("[가-힣]")
_NAMES = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"|https?://\S+|[\w-]*[_/.=+][\w./=+-]*|\w+:(?=\s)")
_ENGLISH = re.compile(r"(?:\b[a-z]{2,}\b ){2}\b[a-z]{2,}\b")


def bodies() -> Iterator[dict[str, Any]]:
    """Yield what no route takes, or only some do."""
    yield {}
    yield {"content": b"{", "headers": JSON}
    yield {"content": b"[]", "headers": JSON}
    yield {"json": {}}
    yield {"json": {"unknown": 1}}
    yield {"json": {**JOB, "video_url": 7, "language": "xx", "max_workers": "many", "enable_gpu": "maybe"}}
    yield {"json": {**JOB, "max_workers": 0.5, "num_speakers": 0, "min_speakers": 9, "max_speakers": 1}}
    yield {"json": {**JOB, "num_speakers": 1, "min_speakers": 1, "video_url": ""}}
    yield {"json": {"job_id": "a b", "video_url": "v\n", "fastapi_base_url": "gopher://h"}}
    yield {"json": {"job_id": "", "video_url": "v" * 9000, "fastapi_base_url": "https://u:p@h/?q"}}
    yield {"json": {"image_url": "", "image_urls": []}}
    yield {"json": {"image_urls": ["https://h/a"] * 40}}
    yield {"json": {"image_url": ["a"], "image_urls": "a", "seed": -1, "duration": 1e9, "locale": "fr"}}
    yield {"json": {"audio_path": 5, "language": "xx"}}
    yield {"json": dict.fromkeys(map(str, range(400)), 1)}
    yield {"content": b"x" * 64, "headers": FORM}
    yield {"content": b"x" * 64, "headers": {"Content-Type": "multipart/form-data"}}
    yield {"content": b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--x--\r\n', "headers": FORM}
    yield {"content": b"--x\r\nContent-Disposition: form-data\r\n\r\ntext\r\n--x--\r\n", "headers": FORM}
    yield {"content": b"a=b", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    yield {"content": b"text", "headers": {"Content-Type": "text/plain"}}
    yield {"content": b"x" * 3000, "headers": JSON}
    yield {"files": {"file": ("a.wav", b"", "audio/wav")}}
    yield {"files": {"other": ("a.wav", b"x", "audio/wav")}}
    yield {"files": [("file", WAV["file"])] * 40}
    yield {"files": {"file": ("a.wav", b"x" * 40_000, "audio/wav")}}
    yield {"files": WAV, "data": {"unknown": "1", "language": "xx", "model": "none", "backend": "none"}}
    yield {"files": WAV, "data": {"model": "whisper-1", "response_format": "xml", "temperature": "hot", "stream": "2"}}
    yield {"files": WAV, "data": {"model": "whisper-1", "timestamp_granularities[]": "word"}}
    yield {"files": WAV, "data": {"model": "whisper-1", "include[]": "logprobs"}}
    yield {"files": WAV, "data": {"num_speakers": "2", "prompt": "\x00", "diarize": "perhaps"}}
    yield {"files": WAV, "data": {"bpm": "0", "grid_kick": "x", "threshold_snare": "2", "confidence_threshold": "9"}}
    yield {"files": WAV, "data": {"language": ["ko", "en"]}}
    yield {"files": WAV, "data": {"seed": "-1", "duration": "long", "prompt": "p" * 5000, "job_id": "page"}}


def queries() -> Iterator[str]:
    yield "?limit=0&status=gone&cursor=x&confidence_threshold=9&format=doc&locale=fr"
    yield f"?limit=x&cursor={'9' * 600}&confidence_threshold=x"
    yield "?cursor=abc"


def sentences(answer: Any) -> Iterator[str]:
    """Yield the sentences of an answer that failed, by the names that hold them in all forms of failures."""
    body = answer.json()
    found = [body.get("error"), body.get("detail"), *(item.get("error") for item in body.get("results", ()))]
    for each in found:
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            yield each["message"]
        for item in each if isinstance(each, list) else ():
            yield item["msg"]


def foreign(sentence: str, locale: Locale) -> bool:
    """Return whether a sentence is not in a language, apart from names and values."""
    if locale is Locale.EN:
        return bool(_HANGUL.search(sentence))
    return not _HANGUL.search(sentence) or bool(_ENGLISH.search(_NAMES.sub("…", sentence)))


def walked(client: TestClient, every: int) -> Iterator[tuple[str, Any]]:
    """Yield the answer to each bad request, and a name for it; of the bodies, to each `every`-th."""
    routes = {
        (route.path, method) for route in all_routes(client.app) for method in route.methods or () if method != "HEAD"
    }
    for path, method in sorted(routes):
        url = re.sub(r"{\w+}", "none", path)
        if method == "HEAD":
            continue  # has no body
        for number, body in enumerate(islice(bodies(), 0, None, every) if path in TAKE_BODIES else [{}]):
            yield f"{method} {path} body {number}", client.request(method, url, **body)
        for query in queries():
            yield f"{method} {path}{query}", client.request(method, url + query)
        yield f"PATCH {path}", client.patch(url)
    yield "unknown", client.get("/none")
    yield "unknown of OpenAI", client.get("/v1/none")


@pytest.mark.parametrize("locale", list(Locale))
def test_every_failure_is_in_the_operators_language(client_with: Callable[..., TestClient], locale: Locale) -> None:
    limits = {"max_body_bytes": 2000, "max_upload_bytes": 30_000, "max_image_bytes": 20_000}
    failed, wrong = 0, {}
    with client_with(**limits) as client:
        for name, answer in walked(client, every=1 if locale is Locale.KO else 5):
            if answer.status_code < 400:
                continue
            failed += 1
            told = list(sentences(answer))
            assert told, name
            wrong |= {sentence: name for sentence in told if foreign(sentence, locale)}
    assert failed > 100
    assert wrong == {}


@pytest.mark.parametrize("locale", list(Locale))
@pytest.mark.parametrize(
    "headers", [{}, {"X-API-Key": "unknown"}, {"Origin": "https://other"}, {"Host": "other.example"}]
)
def test_who_may_call_is_told_in_the_operators_language(
    client_with: Callable[..., TestClient], locale: Locale, headers: dict[str, str]
) -> None:
    with client_with(keys_on=True, hosts=()) as client:
        answer = client.post("/api/upload-video/process-video", json=JOB, headers=headers)
    assert answer.status_code in (401, 403, 421)
    assert [sentence for sentence in sentences(answer) if foreign(sentence, locale)] == []


@pytest.mark.parametrize("locale", list(Locale))
def test_notes_of_answers_are_in_the_operators_language(
    client: TestClient, analysis: MemoryAnalysis, speech: MemorySpeech, drums: MemoryDrums, locale: Locale
) -> None:
    note = Sentence("The file is cut off or damaged after {duration:.1f} s", duration=2.0)
    analysis.result = {**RESULT, "metadata": {**RESULT["metadata"], "notes": [note]}}
    speech.transcript = replace(speech.transcript, notes=(note,))
    drums.transcript = replace(drums.transcript, notes=(note,))
    openai = {"model": "whisper-1"}
    bodies = [
        client.post("/transcribe", json={"video_url": "https://h/v.mp4"}).json()["metadata"],
        client.post("/transcribe", files=WAV).json(),
        client.post("/transcribe", files=WAV, data={"diarize": "true"}).json()["metadata"],
        *(
            client.post("/v1/audio/transcriptions", files=WAV, data={**openai, "response_format": form}).json()
            for form in ("verbose_json", "diarized_json")
        ),
        client.post("/transcribe-drums", files=WAV).json(),
    ]
    assert [body["notes"] for body in bodies] == [[translated(note, locale)]] * len(bodies)
    assert translated(note, Locale.KO) != translated(note, Locale.EN)


@pytest.mark.parametrize("locale", list(Locale))
@pytest.mark.parametrize(
    "kind",
    [
        errors.DownloadError,
        errors.AudioExtractionError,
        errors.LanguageUnsupported,
        errors.Unavailable,
        errors.Overloaded,
    ],
)
def test_failures_of_the_work_are_told_in_the_operators_language(
    client: TestClient, analysis: MemoryAnalysis, locale: Locale, kind: type[errors.ServeAppError]
) -> None:
    reason = Sentence("The disk failed: {reason}", reason="a note on /srv/models/secret.bin")
    analysis.fail_with = kind(reason)
    told = list(sentences(client.post("/transcribe", json={"video_url": "https://h/v.mp4"})))
    assert all(translated(reason, locale).partition(":")[0] in sentence for sentence in told)
    if kind in (errors.DownloadError, errors.AudioExtractionError, errors.LanguageUnsupported):
        assert "/srv" not in told[0]  # the translation has no more places than the text


@pytest.mark.parametrize("locale", list(Locale))
@pytest.mark.parametrize("kind", [errors.ImageUnreadable, errors.DownloadError, errors.AddressRefused])
@pytest.mark.parametrize("path", ["/classify-reusable", "/verify-beverage", "/embed-image"])
def test_failures_of_pictures_are_told_in_the_operators_language(
    client: TestClient, images: MemoryImages, locale: Locale, kind: type[errors.MediaError], path: str
) -> None:
    reason = Sentence("The disk failed: {reason}", reason="a note on /srv/models/secret.bin")
    images.failures["https://h/bad"] = kind(reason)
    sent = [{"image_url": "https://h/bad"}, {"image_urls": ["https://h/good", "https://h/bad"]}]
    for told in (list(sentences(client.post(path, json=body))) for body in sent):
        assert told
        assert all(translated(reason, locale).partition(":")[0] in sentence for sentence in told)
        assert "/srv" not in str(told)


@pytest.mark.parametrize("locale", list(Locale))
def test_why_a_callback_failed_is_told_in_the_operators_language(
    client: TestClient, jobs: JobsOnTable, locale: Locale
) -> None:
    assert client.post("/api/upload-video/process-video", json={**JOB, "fastapi_base_url": "https://h"}).is_success
    jobs.run_stage("a", Stage.DOWNLOADED)
    [due] = jobs.store.claim_deliveries("courier", 10)
    reason = Sentence("no answer within {limit:g} s", limit=15.0)
    jobs.store.record_failure(due, error=reason)
    [delivery] = client.get("/jobs/a/deliveries").json()["deliveries"]
    assert delivery["last_error"] == translated(reason, locale)
    assert translated(reason, Locale.KO) == "15초 안에 응답이 없었습니다"


@pytest.mark.parametrize("locale", list(Locale))
def test_what_a_replica_tells_is_in_the_operators_language(
    client: TestClient, models: MemoryModels, locale: Locale
) -> None:
    reason = Sentence("No job has the id {job_id}", job_id="x")
    [speed, *_] = REPLICA_MODEL.speeds
    replica = replace(REPLICA_MODEL, notes=(reason,), failure=reason, speeds=(replace(speed, failure=reason),))
    models.deployed = {"container": DeployedModel("container", "ContainerClassifier", "HEALTHY", (replica,))}
    told = translated(reason, locale)
    for answer in (client.get("/models"), client.post("/models/container/reload")):
        [model] = answer.json()["models"]
        [shown] = model["replicas"]
        assert (shown["notes"], shown["failure"], shown["speeds"][0]["failure"]) == ([told], told, told)


@pytest.mark.parametrize("asked", list(Locale))
def test_a_page_tells_a_failure_in_the_visitors_language(client: TestClient, asked: Locale) -> None:
    browser = {"Accept": "text/html", "Accept-Language": asked}
    page = client.get("/music/none", headers=browser)
    assert page.status_code == 404
    assert ("다음 ID의 작업이 없습니다" in page.text) is (asked is Locale.KO)
    wrong = client.get("/music/page?limit=0&cursor=" + "9" * 600, headers=browser)
    assert ("512자" in wrong.text) is (asked is Locale.KO)
