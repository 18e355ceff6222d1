"""Pictures become music over real HTTP on the shared graph: files, ranges, visitors, bad input, kill -9."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pretty_midi
import pytest
from PIL import Image

from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import CallbackReceiver
from serve_app.jobs.store import JobStore
from serve_app.messages import JobKind, Locale, MusicStage, stage_message
from tests.integration.processes import kill, replicas, wait_until

TIMEOUT_S = 180.0  # the deployments start from zero replicas


def a_picture(hue: int = 40, side: int = 320, form: str = "JPEG", **save: Any) -> bytes:
    """Return a picture with a bright disc before a ground of one hue."""
    y, x = np.mgrid[:side, :side] / side
    disc = (np.hypot(x - 0.6, y - 0.4) < 0.2).astype(float)
    hsv = np.stack([np.full_like(x, hue % 256), 200 - 150 * disc, 60 + 120 * y + 60 * disc], -1)
    file = io.BytesIO()
    Image.fromarray(hsv.clip(0, 255).astype(np.uint8), "HSV").convert("RGB").save(file, form, **save)
    return file.getvalue()


@pytest.fixture
def visitor(graph: LocalGraph) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=graph.base_url, timeout=TIMEOUT_S) as client:
        yield client


def order(client: httpx.Client, picture: bytes | None = None, **fields: Any) -> str:
    answer = client.post("/generate-music", files={"file": ("a.jpg", picture or a_picture())}, data=fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["job_id"])


def wait(client: httpx.Client, job_id: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while True:
        job: dict[str, Any] = client.get(f"/jobs/{job_id}").raise_for_status().json()
        if job["status"] != "processing":
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.1)


@pytest.fixture(scope="module")
def made(graph: LocalGraph, receiver: CallbackReceiver) -> Iterator[tuple[httpx.Client, str, list[Any]]]:
    """A finished piece, its visitor, and its callbacks."""
    with httpx.Client(base_url=graph.base_url, timeout=TIMEOUT_S) as client:
        exif = Image.Exif()
        exif[0x010E] = "a secret place"
        picture = a_picture(exif=exif.tobytes(), comment=b"taken by somebody")
        assert b"a secret place" in picture
        job_id = order(client, picture, duration="10", seed="7", locale="en", fastapi_base_url=receiver.base_url)
        callbacks = receiver.wait_until_final(job_id, TIMEOUT_S)
        yield client, job_id, callbacks


def test_the_piece_and_its_callbacks(made: tuple[httpx.Client, str, list[Any]]) -> None:
    client, job_id, callbacks = made
    payloads = [callback.payload for callback in callbacks]
    sent = [(payload["progress"], payload["message"]) for payload in payloads]
    stages = [(int(stage), stage_message(JobKind.MUSIC, stage, Locale.EN)) for stage in MusicStage]
    assert set(stages) <= set(sent)
    assert sent == sorted(sent)
    result = payloads[-1]["result"]
    assert (result["engine_used"], result["fallback_reason"]) == ("composer", None)
    assert result["plan"]["seed"] == 7
    assert result["duration"] == pytest.approx(10.0, abs=0.25)
    assert -15.0 <= result["measurements"]["loudness_lufs"] <= -13.0
    assert result["caption"]["caption_en"].isascii()
    assert any("가" <= letter <= "힣" for letter in result["caption"]["caption_ko"])
    assert client.get(f"/jobs/{job_id}").json()["result"] == result


def test_its_files(made: tuple[httpx.Client, str, list[Any]]) -> None:
    client, job_id, _ = made
    files = {
        form: client.get(f"/music/{job_id}/download", params={"format": form}).raise_for_status()
        for form in ("mp3", "flac", "mid", "picture", "caption", "plan")
    }
    for form in ("mp3", "flac"):
        with av.open(io.BytesIO(files[form].content)) as container:
            [stream] = container.streams.audio
            samples = np.concatenate([frame.to_ndarray().mean(axis=0) for frame in container.decode(stream)], axis=None)
            assert abs(container.duration / 1e6 - 10.0) < 0.3
            assert np.abs(samples).max() > 0.05
    notes = pretty_midi.PrettyMIDI(io.BytesIO(files["mid"].content))
    assert sum(len(instrument.notes) for instrument in notes.instruments) > 20
    assert b"secret" not in files["picture"].content
    assert b"somebody" not in files["picture"].content
    assert json.loads(files["plan"].content)["seed"] == 7
    assert "attachment" in files["mp3"].headers["content-disposition"]


def test_a_player_seeks(made: tuple[httpx.Client, str, list[Any]]) -> None:
    client, job_id, _ = made
    url = f"/music/{job_id}/audio"
    whole = client.get(url)
    assert (whole.status_code, whole.headers["accept-ranges"]) == (200, "bytes")
    size = len(whole.content)
    part = client.get(url, headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.headers["content-range"]) == (206, f"bytes 1000-1999/{size}")
    assert part.content == whole.content[1000:2000]
    assert client.get(url, headers={"Range": "bytes=-10"}).content == whole.content[-10:]
    assert client.get(url, headers={"Range": f"bytes={size}-"}).status_code == 416
    head = client.head(url)
    assert (head.status_code, int(head.headers["content-length"]), head.content) == (200, size, b"")


def test_the_same_picture_and_seed_give_the_same_bytes(made: tuple[httpx.Client, str, list[Any]]) -> None:
    client, job_id, _ = made
    again = order(client, a_picture(), duration="10", seed="7")
    other = client.post(f"/music/{job_id}/versions").raise_for_status().json()["job_id"]
    assert wait(client, again)["status"] == wait(client, other)["status"] == "completed"
    midi = [client.get(f"/music/{each}/download", params={"format": "mid"}).content for each in (job_id, again, other)]
    assert midi[0] == midi[1] != midi[2]
    audio = [client.get(f"/music/{each}/audio").content for each in (job_id, again)]
    assert audio[0] == audio[1]
    pieces = [item["job_id"] for item in client.get("/music").json()["pieces"]]
    assert pieces == [other, again, job_id]


def test_bad_pictures(visitor: httpx.Client) -> None:
    def post(content: bytes, **fields: Any) -> httpx.Response:
        return visitor.post("/generate-music", files={"file": ("a.png", content)}, data=fields)

    assert post(b"%PDF-1.7 no picture").status_code == 422
    assert post(a_picture(form="PNG"), duration="4").status_code == 422
    assert post(a_picture(form="PNG"), duration="nan").status_code == 422
    broken = post(a_picture(form="PNG")[:2000])
    job = wait(visitor, broken.json()["job_id"]) if broken.status_code == 200 else {}
    assert broken.status_code == 422 or (job["status"], job["error_code"]) == ("failed", "PROCESSING_ERROR")
    refused = visitor.post("/generate-music", data={"image_url": "http://169.254.169.254/latest/a.jpg"})
    job = wait(visitor, refused.json()["job_id"])
    assert (job["status"], job["error_code"]) == ("failed", "DOWNLOAD_ERROR")
    assert job["error_message"].startswith("이미지를 다운로드할 수 없습니다")


def test_odd_pictures_become_music(visitor: httpx.Client) -> None:
    frames = [Image.new("P", (40, 40), color) for color in (1, 2)]
    animated = io.BytesIO()
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    clear = io.BytesIO()
    Image.new("RGBA", (30, 30), (0, 0, 0, 0)).save(clear, "PNG")
    dot = io.BytesIO()
    Image.new("RGB", (1, 1)).save(dot, "PNG")
    for content in (animated.getvalue(), clear.getvalue(), dot.getvalue()):
        job_id = order(visitor, content, duration="5")
        assert wait(visitor, job_id)["status"] == "completed"


@pytest.mark.slow
def test_twenty_visitors_at_once_see_their_own_alone(graph: LocalGraph) -> None:
    def visit(number: int) -> tuple[str, dict[str, str]]:
        with httpx.Client(base_url=graph.base_url, timeout=TIMEOUT_S, headers={"Sec-Fetch-Site": "same-origin"}) as own:
            job_id = order(own, a_picture(hue=12 * number), duration="5")
            assert wait(own, job_id, 300.0)["status"] == "completed"
            assert [item["job_id"] for item in own.get("/music").json()["pieces"]] == [job_id]
            return job_id, dict(own.cookies)

    with ThreadPoolExecutor(20) as pool:
        visits = list(pool.map(visit, range(20)))
    assert len({str(cookies) for _, cookies in visits}) == 20
    for number, (_, cookies) in enumerate(visits):
        stranger = visits[(number + 1) % 20][0]
        with httpx.Client(base_url=graph.base_url, timeout=TIMEOUT_S, cookies=cookies) as client:
            for path in ("", "/audio", "/picture", "/download?format=flac", "/page"):
                assert client.get(f"/music/{stranger}{path}").status_code == 404, path
            for path in ("", "/events", "/deliveries"):
                assert client.get(f"/jobs/{stranger}{path}").status_code == 404, path
            assert client.delete(f"/music/{stranger}").status_code == 404
            assert client.post(f"/jobs/{stranger}/cancel").status_code == 404
    with httpx.Client(base_url=graph.base_url, timeout=TIMEOUT_S) as nobody:
        assert nobody.get(f"/music/{visits[0][0]}").status_code == 404
        listed = {job["job_id"] for job in nobody.get("/jobs", params={"limit": 100}).json()["jobs"]}
        assert listed.isdisjoint(job_id for job_id, _ in visits)


def test_a_visitor_may_not_have_too_many_in_work(visitor: httpx.Client) -> None:
    order(visitor, duration="60")
    answers = [visitor.post("/generate-music", files={"file": ("a.jpg", a_picture(hue))}) for hue in range(6)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
    assert "음악 3개를 만들고 있습니다" in refused[0].json()["error"]["message"]
    for answer in answers:
        if answer.status_code == 200:
            assert wait(visitor, answer.json()["job_id"])["status"] == "completed"


def test_a_deleted_piece_is_gone(graph: LocalGraph, made: Any, visitor: httpx.Client) -> None:
    job_id = order(visitor, duration="5")
    wait(visitor, job_id)
    assert visitor.delete(f"/music/{job_id}").status_code == 204
    assert visitor.get(f"/music/{job_id}").status_code == 404
    published = Path(graph.environment["SERVE_APP_STATE_DIR"]) / "artifacts" / "published" / job_id
    assert not published.exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("step", ["", "ingest", "caption", "plan", "music/1", "master/1", "encode"])
def test_a_killed_runner_loses_nothing_and_does_nothing_again(
    graph: LocalGraph, visitor: httpx.Client, receiver: CallbackReceiver, step: str
) -> None:
    """`step`: the last one that is stored when the runner is killed."""
    store = JobStore(f"sqlite:///{graph.environment['SERVE_APP_STATE_DIR']}/jobs.sqlite3")
    job_id = uuid.uuid4().hex
    wait_until("a runner", lambda: replicas(graph, "JobRunner"), 120.0)
    order(visitor, duration="90", job_id=job_id, fastapi_base_url=receiver.base_url, seed="5")
    wait_until("the job in work", lambda: store.get(job_id).started_at, 60.0, 0.005)
    if step:
        wait_until(step, lambda: step in store.step_seconds(job_id), TIMEOUT_S, 0.002)
    for pid in replicas(graph, "JobRunner"):
        kill(pid)
    finished = store.step_seconds(job_id)
    callbacks = receiver.wait_until_final(job_id, TIMEOUT_S)
    assert callbacks[-1].payload["status"] == "completed"
    ids = [callback.webhook_id for callback in callbacks]
    progress = list(dict.fromkeys(callback.payload["progress"] for callback in callbacks))
    assert progress == sorted(progress)
    assert len(set(ids)) == len(progress)
    after = store.step_seconds(job_id)
    assert {name: after[name] for name in finished} == finished
    assert store.get(job_id).attempts == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("deployment", ["Captioner", "MusicGenerator"])
def test_a_killed_model_replica_is_waited_out(graph: LocalGraph, visitor: httpx.Client, deployment: str) -> None:
    wait(visitor, order(visitor, duration="5"))  # it has started
    job_id = order(visitor, duration="90")
    for pid in replicas(graph, deployment):
        kill(pid)
    job = wait(visitor, job_id)
    assert (job["status"], job["result"]["engine_used"]) == ("completed", "composer")
