"""Clients of the services replaced, as their documents wrote them: only host and port are changed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.launch.ports import free_ports
from tests.integration.drawn_images import drawn_jpeg
from tests.integration.recordings import read_audio, write_audio
from tests.integration.test_transcribe import utterances, word_error_rate

SNIPPETS = Path(__file__).parent / "old_clients"
TIMEOUT_S = 240.0
STEPS = [
    (10, "비디오 다운로드 완료"),
    (25, "음성 구간 감지 중..."),
    (40, "화자 식별 중..."),
    (60, "음성을 텍스트로 변환 중..."),
    (75, "감정 분석 중..."),
    (90, "결과 정리 중..."),
    (100, "분석 완료"),
]
KOREAN, ENGLISH = utterances("ko")[1], utterances("en")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, served: tuple[Path, str]) -> Path:
    """The folder in which the snippets run, with the files that they name."""
    folder = tmp_path_factory.mktemp("old-clients")
    picture = drawn_jpeg("container", "reusable", 1, (320, 240))
    for name in ("컵 사진.jpg", "cup.jpg"):
        (folder / name).write_bytes(picture)
    (folder / "drink.jpg").write_bytes(drawn_jpeg("beverage", "with_beverage", 1, (320, 240)))
    (folder / "memo.txt").write_text("this is no recording")
    write_audio(folder / "회의 녹음.wav", read_audio(KOREAN.path)[None], 16_000, "pcm_s16le")
    write_audio(served[0] / "talk.wav", read_audio(ENGLISH.path)[None], 16_000, "pcm_s16le")
    return folder


@dataclass(frozen=True)
class Snippets:
    """Starts a snippet on the shared graph."""

    folder: Path
    hosts: dict[str, str]

    def start(self, name: str) -> subprocess.Popen[str]:
        text = (SNIPPETS / name).read_text()
        for old, new in self.hosts.items():
            text = text.replace(old, new)
        path = self.folder / name
        path.write_text(text)
        command = ["bash" if path.suffix == ".sh" else sys.executable, name]
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True)

    def lines(self, name: str) -> list[str]:
        """Return what a snippet prints, without empty lines."""
        process = self.start(name)
        try:
            printed, _ = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
        assert process.returncode == 0, f"{name} failed:\n{printed}"
        return [line for line in printed.splitlines() if line.strip()]

    def told(self, name: str) -> dict[str, str]:
        """Return the lines `what: value` of a snippet; of several alike the last."""
        return dict(line.split(": ", 1) for line in self.lines(name) if ": " in line)


@pytest.fixture(scope="module")
def snippets(graph: LocalGraph, served: tuple[Path, str], folder: Path) -> Snippets:
    [port] = free_ports(1)
    hosts = {
        "localhost:8000": urlsplit(graph.base_url).netloc,
        "localhost:9100": urlsplit(served[1]).netloc,
        "localhost:9000": f"127.0.0.1:{port}",
        'host="localhost", port=9000': f'host="127.0.0.1", port={port}',
    }
    return Snippets(folder, hosts)


@pytest.fixture(scope="module")
def receiver_lines(snippets: Snippets) -> Iterator[Callable[[str], list[list[str]]]]:
    """The old receiver in a process of its own; return what it prints of a job, up to the job's end."""
    process = snippets.start("receiver.py")
    assert process.stdout is not None
    host, port = snippets.hosts["localhost:9000"].split(":")
    deadline_s = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, int(port)), 1.0).close()
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline_s, "the receiver did not start"
            time.sleep(0.05)
    seen: list[list[str]] = []

    def lines(job_id: str) -> list[list[str]]:
        while not any(line[0] == job_id and line[1] in ("completed", "failed") for line in seen):
            seen.append(process.stdout.readline().rstrip("\n").split("\t"))
            assert seen[-1] != [""], "the receiver ended"
        return [line[1:] for line in seen if line[0] == job_id]

    yield lines
    process.kill()
    process.wait()


def test_a_picture_by_requests(snippets: Snippets) -> None:
    told = snippets.told("classify_reusable.py")
    assert told["Reusable"] == "True"
    assert 50 < float(told["Confidence"].rstrip("%")) <= 100
    assert told["Class"] == "reusable"
    assert float(told["  disposable"]) + float(told["  reusable"]) == pytest.approx(1, abs=2e-4)
    assert "✅ Reusable container detected (confidence" in told
    assert told["Error 422"] not in ("", "None")
    assert told["Invalid"].startswith("['body', ")


def test_a_threshold_by_requests_in_query_and_form(snippets: Snippets) -> None:
    told = snippets.told("verify_beverage.py")
    assert told["has_beverage"] == "True"
    assert told["predicted_class"] == "with_beverage"
    assert told["message"] == "Beverage detected - Valid usage"
    assert told["probabilities"] == "['empty', 'with_beverage', 'unclear']"
    assert (told["query 0.0"], told["query 1.0"]) == ("True", "False")
    assert (told["form 0.0"], told["form 1.0"]) == ("True", "False")
    assert told["form empty"] == "True"


def test_pictures_by_curl(snippets: Snippets) -> None:
    *answers, head = snippets.lines("images.sh")
    container, by_query, by_form, with_slash, health = map(json.loads, answers)
    assert list(container) == ["is_reusable", "confidence", "predicted_class", "probabilities", "message"]
    assert container["is_reusable"] is True
    for beverage in (by_query, by_form):
        assert list(beverage)[:4] == ["has_beverage", "confidence", "predicted_class", "is_valid"]
        assert (beverage["has_beverage"], beverage["is_valid"]) == (True, False)
    assert with_slash == container
    assert health["status"] == "healthy"
    assert head.split()[1] == "200"


def test_an_upload_by_requests(snippets: Snippets) -> None:
    told = snippets.told("transcribe_upload.py")
    assert word_error_rate(KOREAN.text, told["text"]) <= 0.3
    assert (told["language"], told["backend"]) == ("ko", "faster-whisper")
    assert float(told["duration"]) > 1
    assert told["segment"] == "True True"
    for language in ("'ko-KR'", "'KO'", "'Korean'", "''", "None", "'None'"):
        assert told[language] == "True ko True", language
    assert told["others"] == "True"
    assert "faster-whisper" in told["error"], "a backend that is not there is told with those that are"
    assert told["error_code"] == "AUDIO_EXTRACTION_ERROR True"


def test_an_address_by_requests(snippets: Snippets) -> None:
    told = snippets.told("transcribe_json.py")
    assert told["success"] == "True None None"
    assert told["metadata"] == "filename duration total_segments unique_speakers processing_time"
    assert told["filename"] == "talk.wav"
    assert (told["language_requested"], told["language_detected"]) == ("en", "en")
    assert told["processing_mode"] == "targeted"
    assert (told["totals"], told["speakers"], told["words"]) == ("True", "True", "True True")
    assert told["failure"] == "400 False DOWNLOAD_ERROR True"


def test_uploads_and_addresses_by_curl(snippets: Snippets) -> None:
    uploaded, analysed, refused = map(json.loads, snippets.lines("transcribe.sh"))
    assert (uploaded["success"], uploaded["language"], uploaded["filename"]) == (True, "ko", "회의 녹음.wav")
    assert analysed["success"] is True
    metadata = analysed["metadata"]
    assert (metadata["language_requested"], metadata["processing_mode"]) == ("en", "targeted"), "the old default"
    assert refused["success"] is False
    assert "audio_path" in refused["error"]


def test_a_job_by_requests_and_its_receiver(
    snippets: Snippets, receiver_lines: Callable[[str], list[list[str]]]
) -> None:
    told = snippets.told("process_video.py")
    assert told["accepted"] == told["again"].removesuffix(" True") == "processing 비디오 처리가 시작되었습니다"
    assert told["estimated_time"] == "True"
    assert told["ended"] == "completed True True"
    assert told["real"] == "completed"
    assert "max_workers" in told["notes"], "128 were asked for"
    assert told["changed"] == "409 True"
    assert told["missing"] == "422 ['body', 'video_url'] missing"
    assert told["unknown"] == "404"
    received = receiver_lines(told["job_id"])
    steps = [(int(progress), message) for _, progress, message, *_ in received]
    assert [progress for progress, _ in steps] == sorted(progress for progress, _ in steps)
    assert [step for step in steps if step in STEPS] == STEPS
    assert {status for status, *_ in received[:-1]} == {"processing"}
    assert received[-1] == ["completed", "100", "분석 완료", told["text"]]


def test_jobs_by_curl_and_their_receiver(snippets: Snippets, receiver_lines: Callable[[str], list[list[str]]]) -> None:
    """Unknown and empty fields, a slash too many, no Content-Type, a language by name, workers out of bounds."""
    for answer in map(json.loads, snippets.lines("process_video.sh")):
        assert answer["status"] == "processing", answer
        [failed] = receiver_lines(answer["job_id"])
        assert failed[:2] == ["failed", "DOWNLOAD_ERROR"]
        assert failed[2].startswith("비디오 파일을 다운로드할 수 없습니다: 404")


def test_uploads_by_httpx(snippets: Snippets) -> None:
    told = snippets.told("httpx_async.py")
    assert told["container"] == "200 reusable"
    assert told["beverage"] == "200 False"
    assert word_error_rate(KOREAN.text, told["text"]) <= 0.3
    assert told["filename"] == "회의 녹음.wav"
    assert told["head"] == "200"


def test_uploads_by_aiohttp(snippets: Snippets) -> None:
    lines = snippets.lines("aiohttp_form.py")
    assert lines[0] == "beverage: 200 False"
    assert lines[1] == lines[3] == "filename: 회의 녹음.wav"
    assert lines[2] == lines[4]
    assert word_error_rate(KOREAN.text, lines[2].removeprefix("text: ")) <= 0.3
    assert lines[5] == "stream: 200 True"
