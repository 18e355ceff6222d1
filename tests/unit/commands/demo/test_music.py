"""The demonstration's piece of music, against the real app on a real socket."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from rich.console import Console

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.client import Client
from serve_app.commands.demo.music import frame_of, music_job
from serve_app.commands.demo.receiver import CALLBACK_PATH, CallbackReceiver
from serve_app.jobs.record import MusicRequest
from serve_app.messages import COMPLETED, JobKind, Locale, MusicStage, stage_message
from serve_app.services import MusicFile
from tests.unit.api.memory_services import FILES, PIECE, MusicOnTable, memory_services
from tests.unit.client.loopback import serving


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with resources.as_file(resources.files("serve_app.demo_media") / "dialogue.mp4") as video:
        return frame_of(video, tmp_path_factory.mktemp("frame") / "frame.jpg")


@pytest.fixture
def running() -> Iterator[tuple[FastAPI, str]]:
    app = create_app(memory_services(), ApiSettings())
    with serving(app) as port:
        yield app, f"http://127.0.0.1:{port}"


def shown(
    running: tuple[FastAPI, str], picture: Path, folder: Path, left_out: int | None = None
) -> tuple[str, list[str]]:
    """Run the demonstration's job beside a runner; return what was printed, and the problems."""
    music = running[0].state.services.music
    assert isinstance(music, MusicOnTable)
    stop, output = threading.Event(), io.StringIO()

    def work() -> None:
        while not stop.wait(0.01):
            claim = music.jobs.store.claim("runner")
            if claim is None:
                continue
            music.jobs.store.release(claim)
            request = claim.job.request
            assert isinstance(request, MusicRequest)
            result = copy.deepcopy(music.run(request.job_id)) | {"duration": 30.0}
            for progress in [int(stage) for stage in MusicStage if stage != left_out]:
                payload = {
                    "job_id": request.job_id,
                    "status": "completed" if progress == COMPLETED else "processing",
                    "progress": progress,
                    "message": stage_message(JobKind.MUSIC, progress, Locale.KO),
                }
                httpx.post(
                    f"{request.callback_base}{CALLBACK_PATH}",
                    json=payload | ({"result": result} if progress == COMPLETED else {}),
                )

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with CallbackReceiver() as receiver, Client(running[1]) as client:
            problems = music_job(Console(file=output, width=200), client, receiver, picture, folder)
    finally:
        stop.set()
        thread.join()
    return output.getvalue(), problems


def test_the_frame_is_a_picture(picture: Path) -> None:
    with Image.open(picture) as frame:
        assert frame.format == "JPEG"
        assert frame.size == (640, 360)


def test_the_piece_is_shown_and_downloaded(running: tuple[FastAPI, str], picture: Path, tmp_path: Path) -> None:
    output, problems = shown(running, picture, tmp_path)
    assert problems == []
    assert (tmp_path / "music.mp3").read_bytes() == FILES[MusicFile.MP3]
    assert (tmp_path / "music.mid").read_bytes() == FILES[MusicFile.MIDI]
    assert '"message": "음악 생성이 시작되었습니다"' in output
    assert f"{running[1]}{PIECE['page_url']}" in output
    assert "A calm sea in blue light" in output
    assert "D Dorian, 84 bpm, piano, strings and double bass; seed 7" in output
    assert "by composer:1 in " in output


def test_a_missing_callback_is_a_problem(running: tuple[FastAPI, str], picture: Path, tmp_path: Path) -> None:
    _, problems = shown(running, picture, tmp_path, left_out=MusicStage.PLANNING)
    assert any("callbacks were" in problem for problem in problems)
