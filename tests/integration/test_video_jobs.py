"""Video jobs over real HTTP on the shared graph, good and bad input."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from serve_app.client import Client
from serve_app.commands.demo.contract import callback_problems, result_problems
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import CALLBACK_PATH, CallbackReceiver
from serve_app.commands.demo.videos import DemoVideo
from serve_app.scoring import score_result
from tests.integration.recordings import Clip, read_audio, write_audio, write_silent_video

JOB_TIMEOUT_S = 240.0
SUBMIT = "/api/upload-video/process-video"


def body(job_id: str, url: str, receiver: CallbackReceiver | None = None, **more: object) -> dict[str, object]:
    base = {"fastapi_base_url": receiver.base_url} if receiver else {}
    return {"job_id": job_id, "video_url": url, **base, **more}


def test_a_dialogue_is_transcribed_with_its_speakers(
    client: Client, receiver: CallbackReceiver, served: tuple[Path, str], videos: dict[str, DemoVideo], job_id: str
) -> None:
    answer = httpx.post(
        client.base_url + SUBMIT,
        json=body(
            job_id, f"{served[1]}/dialogue.mp4", receiver, enable_gpu=True, emotion_detection=True, language="en"
        ),
    )
    assert answer.status_code == 200
    accepted = answer.json()
    assert accepted["job_id"] == job_id
    assert accepted["status"] == "processing"
    assert accepted["message"] == "비디오 처리가 시작되었습니다"
    assert accepted["status_url"] == f"/jobs/{job_id}"
    assert isinstance(accepted["estimated_time"], int)

    callbacks = receiver.wait_until_final(job_id, JOB_TIMEOUT_S)

    payloads = [callback.payload for callback in callbacks]
    assert callback_problems(payloads, job_id) == []
    assert {callback.path for callback in callbacks} == {CALLBACK_PATH}
    assert len({callback.webhook_id for callback in callbacks}) == 7
    assert [callback.headers["webhook-sequence"] for callback in callbacks] == [str(n) for n in range(1, 8)]
    assert "비디오" in callbacks[0].body.decode(), "Korean text must not be escaped"
    result = payloads[-1]["result"]
    assert result["language"] == "en"
    assert result["metadata"]["processing_mode"] == "targeted"
    assert result["metadata"]["model_version"].startswith("pocketsphinx")
    assert any("감정 분석" in note for note in result["metadata"]["notes"])
    assert {"fetch", "decode", "detect_speech", "diarize", "transcribe"} <= set(result["metadata"]["stage_seconds"])
    scores = score_result(result, videos["dialogue"].truth)
    assert scores.word_error_rate <= 0.10
    assert scores.word_speaker_error_rate <= 0.03
    assert scores.median_word_start_error_s <= 0.1

    status = client.get(job_id)
    assert status["status"] == "completed"
    assert status["progress"] == 100
    assert status["result"] == result
    assert status["processing_time"] > 0
    assert status["completed_at"].endswith("Z")
    deliveries = client.deliveries(job_id)
    assert [delivery["status"] for delivery in deliveries] == ["delivered"] * 7


def test_the_real_call_has_two_speakers_when_told_two(
    client: Client, receiver: CallbackReceiver, served: tuple[Path, str], videos: dict[str, DemoVideo], job_id: str
) -> None:
    client.submit(f"{served[1]}/call.mp4", job_id=job_id, fastapi_base_url=receiver.base_url, num_speakers=2)
    payloads = [callback.payload for callback in receiver.wait_until_final(job_id, JOB_TIMEOUT_S)]
    assert callback_problems(payloads, job_id) == []
    result = payloads[-1]["result"]
    assert {turn["speaker_id"] for turn in result["speaker_turns"]} == {"SPEAKER_00", "SPEAKER_01"}
    assert result["metadata"]["processing_mode"] == "auto-detect"
    pitches = [word["acoustic_features"]["pitch_hz"] for segment in result["segments"] for word in segment["words"]]
    voiced = [pitch for pitch in pitches if pitch is not None]
    assert len(voiced) > len(pitches) / 2
    assert all(50 < pitch < 600 for pitch in voiced)


def test_events_stream_resumes_after_the_last_event_id(client: Client, short_clip: Clip, job_id: str) -> None:
    client.submit(short_clip.url, job_id=job_id)
    first = next(iter(client.events(job_id)))
    assert first.payload["progress"] == 10
    with httpx.stream(
        "GET", f"{client.base_url}/jobs/{job_id}/events", headers={"last-event-id": "1"}, timeout=JOB_TIMEOUT_S
    ) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line.startswith("data:")]
    progresses = [json.loads(line.removeprefix("data:"))["progress"] for line in lines]
    assert progresses == [25, 40, 60, 75, 90, 100]


def test_twenty_submissions_of_one_id_make_one_job(
    client: Client, receiver: CallbackReceiver, short_clip: Clip, job_id: str
) -> None:
    request = body(job_id, short_clip.url, receiver, language="en")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: httpx.post(client.base_url + SUBMIT, json=request, timeout=60), range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 20}
    assert {answer.json()["job_id"] for answer in answers} == {job_id}
    payloads = [callback.payload for callback in receiver.wait_until_final(job_id, JOB_TIMEOUT_S)]
    assert callback_problems(payloads, job_id) == []
    # the same id with another body is another request
    other = httpx.post(client.base_url + SUBMIT, json={**request, "language": "auto"})
    assert other.status_code == 409
    assert client.get(job_id)["status"] == "completed"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"language": "fr"}, ["language", "auto", "ko", "en", "ja", "zh"]),
        ({"job_id": "../../etc/passwd"}, ["job_id"]),
        ({"video_url": None}, ["video_url"]),
        ({"min_speakers": 3, "max_speakers": 2}, ["min_speakers", "max_speakers"]),
        ({"fastapi_base_url": "http://169.254.169.254"}, ["fastapi_base_url"]),
        ({"fastapi_base_url": "http://[::ffff:10.0.0.1]/"}, ["fastapi_base_url"]),
    ],
)
def test_a_bad_request_is_a_422_that_names_the_field(
    client: Client, job_id: str, change: dict[str, object], names: list[str]
) -> None:
    request = {**body(job_id, "https://example.com/video.mp4"), **change}
    answer = httpx.post(client.base_url + SUBMIT, json={k: v for k, v in request.items() if v is not None})
    assert answer.status_code == 422
    assert all(name in answer.text for name in names), answer.text
    assert httpx.get(f"{client.base_url}/jobs/{job_id}").status_code == 404


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/video.mp4",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/video.mp4",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://100.64.0.1/",
        "http://2130706434/",
        "ftp://example.com/video.mp4",
        "file:///etc/passwd",
        "/etc/passwd",
    ],
)
def test_a_refused_address_fails_the_job_with_download_error(
    client: Client, receiver: CallbackReceiver, job_id: str, url: str
) -> None:
    accepted = httpx.post(client.base_url + SUBMIT, json=body(job_id, url, receiver))
    assert accepted.status_code == 200, accepted.text
    [failed] = [callback.payload for callback in receiver.wait_until_final(job_id, 30.0)]
    assert failed["status"] == "failed"
    assert failed["error_code"] == "DOWNLOAD_ERROR"
    assert failed["error_message"].startswith("비디오 파일을 다운로드할 수 없습니다: ")
    assert set(failed) == {"job_id", "status", "error_code", "error_message"}


def test_bad_files_fail_with_their_code(
    client: Client, receiver: CallbackReceiver, served: tuple[Path, str], videos: dict[str, DemoVideo]
) -> None:
    folder, url = served
    (folder / "page.html").write_text("<!doctype html><html><body>sign in</body></html>")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    write_silent_video(folder / "mute.mp4")
    wanted = {
        "missing.mp4": ("DOWNLOAD_ERROR", "비디오 파일을 다운로드할 수 없습니다: 404 "),
        "page.html": ("DOWNLOAD_ERROR", "HTML"),
        "empty.mp4": ("AUDIO_EXTRACTION_ERROR", "오디오 추출 실패"),
        "noise.mp4": ("AUDIO_EXTRACTION_ERROR", "오디오 추출 실패"),
        "mute.mp4": ("AUDIO_EXTRACTION_ERROR", "오디오 추출 실패"),
    }
    ids = {name: str(uuid.uuid4()) for name in wanted}
    for name, job_id in ids.items():
        client.submit(f"{url}/{name}", job_id=job_id, fastapi_base_url=receiver.base_url)
    for name, (code, text) in wanted.items():
        last = receiver.wait_until_final(ids[name], 60.0)[-1].payload
        assert (last["status"], last["error_code"]) == ("failed", code), (name, last)
        assert text in last["error_message"], (name, last)
        status = client.get(ids[name])
        assert (status["status"], status["error_code"]) == ("failed", code)


def test_silence_narrow_band_surround_and_a_cut_off_file_complete(
    client: Client, receiver: CallbackReceiver, served: tuple[Path, str], videos: dict[str, DemoVideo]
) -> None:
    folder, url = served
    speech = read_audio(videos["dialogue"].path)[: 12 * 16000]
    narrow = read_audio(videos["dialogue"].path, 8000)[: 12 * 8000]
    write_audio(folder / "silence.wav", np.zeros((1, 4 * 16000)), 16000, "pcm_s16le")
    write_audio(folder / "narrow.wav", narrow[None], 8000, "pcm_s16le")
    surround = np.zeros((6, len(speech)), np.float32)
    surround[2] = speech  # the centre channel alone speaks
    write_audio(folder / "surround.m4a", surround, 16000, "aac", "5.1")
    whole = videos["dialogue"].path.read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    ids = {name: str(uuid.uuid4()) for name in ("silence.wav", "narrow.wav", "surround.m4a", "half.mp4")}
    for name, job_id in ids.items():
        client.submit(f"{url}/{name}", job_id=job_id, fastapi_base_url=receiver.base_url, language="en")
    results = {}
    for name, job_id in ids.items():
        payloads = [callback.payload for callback in receiver.wait_until_final(job_id, JOB_TIMEOUT_S)]
        assert callback_problems(payloads, job_id) == [], name
        results[name] = payloads[-1]["result"]
    silent = results["silence.wav"]
    assert (silent["segments"], silent["word_segments"], silent["speakers"], silent["text"]) == ([], [], {}, "")
    assert silent["duration"] == pytest.approx(4.0, abs=0.05)
    for name in ("narrow.wav", "surround.m4a", "half.mp4"):
        assert len(results[name]["word_segments"]) >= 10, name
    assert any("도중에 끊겼습니다" in note for note in results["half.mp4"]["metadata"]["notes"])


def test_a_language_that_nobody_here_speaks_is_a_clear_error(
    client: Client, receiver: CallbackReceiver, served: tuple[Path, str], videos: dict[str, DemoVideo], job_id: str
) -> None:
    client.submit(f"{served[1]}/dialogue.mp4", job_id=job_id, fastapi_base_url=receiver.base_url, language="ja")
    last = receiver.wait_until_final(job_id, 60.0)[-1].payload
    assert (last["status"], last["error_code"]) == ("failed", "PROCESSING_ERROR")
    assert "faster-whisper" in last["error_message"]


def test_a_dead_callback_neither_fails_nor_delays_the_job(client: Client, short_clip: Clip, job_id: str) -> None:
    with socket.socket() as closed:  # bound, never listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        client.submit(short_clip.url, job_id=job_id, fastapi_base_url=dead, language="en")
        done = client.wait(job_id, timeout_s=JOB_TIMEOUT_S)
        assert done["status"] == "completed"
        deliveries = client.deliveries(job_id)
    assert deliveries[0]["attempts"] >= 1
    assert {delivery["status"] for delivery in deliveries} == {"pending"}
    assert deliveries[0]["last_error"]


def test_a_lost_answer_is_sent_again_with_the_same_id_and_in_order(
    client: Client, short_clip: Clip, job_id: str
) -> None:
    dropped: set[str] = set()
    lock = threading.Lock()

    def answer(received) -> int:
        with lock:
            if received.webhook_id not in dropped:
                dropped.add(received.webhook_id)
                raise ConnectionError("the receiver stored it, and its answer was lost")
        return 200

    with CallbackReceiver(answer) as receiver:
        client.submit(short_clip.url, job_id=job_id, fastapi_base_url=receiver.base_url, language="en")
        found = receiver.wait_for(job_id, lambda found: len(found) >= 14, JOB_TIMEOUT_S)
    seen = list(dict.fromkeys(callback.webhook_id for callback in found))
    firsts = [next(callback for callback in found if callback.webhook_id == each).payload for each in seen]
    assert callback_problems(firsts, job_id) == []
    assert set(Counter(callback.webhook_id for callback in found).values()) == {2}


def test_cancel_ends_a_running_job(
    client: Client, receiver: CallbackReceiver, served: tuple[Path, str], videos: dict[str, DemoVideo], job_id: str
) -> None:
    client.submit(f"{served[1]}/dialogue.mp4", job_id=job_id, fastapi_base_url=receiver.base_url, language="en")
    receiver.wait_for(job_id, lambda found: len(found) >= 1, 60.0)
    refused = httpx.delete(f"{client.base_url}/jobs/{job_id}")
    assert refused.status_code == 409, "an active job is not deleted under its runner"
    client.cancel(job_id)
    last = receiver.wait_until_final(job_id, 30.0)[-1].payload
    assert last["status"] == "cancelled"
    assert client.wait(job_id, timeout_s=10.0)["status"] == "cancelled"
    client.delete(job_id)
    assert httpx.get(f"{client.base_url}/jobs/{job_id}").status_code == 404


def test_the_synchronous_route_answers_the_same(client: Client, short_clip: Clip) -> None:
    request = {"audio_path": str(short_clip.path), "video_url": "https://ignored.example/", "language": "en"}
    answer = httpx.post(f"{client.base_url}/transcribe", json=request, timeout=JOB_TIMEOUT_S)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["success"] is True
    assert told["error"] is None
    assert told["error_code"] is None
    assert told["metadata"]["filename"] == short_clip.path.name
    assert told["metadata"]["language_requested"] == "en"
    assert told["metadata"]["total_segments"] == len(told["segments"]) > 0
    words = [word for segment in told["segments"] for word in segment["words"]]
    assert len(words) >= 4


def test_the_synchronous_route_fails_with_code_and_status(client: Client, media_root: Path) -> None:
    outside = httpx.post(f"{client.base_url}/transcribe", json={"video_path": "/etc/passwd"}, timeout=60)
    assert outside.status_code == 400
    assert (outside.json()["success"], outside.json()["error_code"]) == (False, "DOWNLOAD_ERROR")
    (media_root / "text.mp4").write_text("this is no video")
    broken = httpx.post(f"{client.base_url}/transcribe", json={"video_path": str(media_root / "text.mp4")}, timeout=60)
    assert broken.status_code == 422
    assert broken.json()["error_code"] == "AUDIO_EXTRACTION_ERROR"


def test_health_names_every_deployment(graph: LocalGraph) -> None:
    ready = httpx.get(f"{graph.base_url}/health/ready")
    assert ready.status_code == 200
    for name in ("Ingress", "JobRunner", "AudioAnalyzer", "SpeechRecognizer", "Diarizer"):
        assert name in ready.text
    health = httpx.get(f"{graph.base_url}/health").json()
    assert health["status"] == "healthy"
    assert abs(time.time() - _posix(health["timestamp"])) < 30
    assert httpx.get(f"{graph.base_url}/docs").status_code == 200
    assert httpx.get(f"{graph.base_url}/redoc").status_code == 200


def test_ended_jobs_are_listed_by_status(client: Client, job_id: str) -> None:
    client.submit("http://10.0.0.1/refused.mp4", job_id=job_id)
    assert client.wait(job_id, timeout_s=JOB_TIMEOUT_S)["status"] == "failed"
    page = client.page(status="failed", limit=5)
    assert page["jobs"][0]["job_id"] == job_id, "newest first"
    assert {job["status"] for job in page["jobs"]} == {"failed"}
    assert all("result" not in job for job in page["jobs"])


def _posix(timestamp: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(timestamp).timestamp()


def test_a_result_with_a_wrong_word_is_noticed() -> None:
    """The checker that the tests above rely on does fail."""
    assert result_problems({"segments": []}) != []
