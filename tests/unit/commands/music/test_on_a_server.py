"""`serve-app music --url`: uploads, jobs and downloads, against the real app on a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.jobs.record import MusicRequest
from serve_app.messages import Locale, MusicStage
from serve_app.services import MusicFile
from tests.unit.api.memory_services import FILES, PIECE, MusicOnTable, memory_services
from tests.unit.client.loopback import serving
from tests.unit.commands.music.test_music import draw, run

WITHOUT_MIDI: dict[MusicFile, bytes] = {file: content for file, content in FILES.items() if file is not MusicFile.MIDI}


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FastAPI, str]]:
    app = create_app(memory_services(), ApiSettings())
    with serving(app) as port:
        yield app, f"http://127.0.0.1:{port}"


@pytest.fixture
def music(running: tuple[FastAPI, str]) -> MusicOnTable:
    running[0].state.services = memory_services()
    service = running[0].state.services.music
    assert isinstance(service, MusicOnTable)
    return service


@contextmanager
def runner(music: MusicOnTable, end: Callable[[MusicRequest], object]) -> Iterator[list[MusicRequest]]:
    """Take jobs as they come, and end each by `end`; yields what was asked for."""
    stop, asked = threading.Event(), list[MusicRequest]()

    def work() -> None:
        while not stop.wait(0.01):
            claim = music.jobs.store.claim("runner")
            if claim is not None:
                music.jobs.store.release(claim)
                assert isinstance(claim.job.request, MusicRequest)
                asked.append(claim.job.request)
                music.jobs.run_stage(claim.job.job_id, MusicStage.COMPOSING)
                end(claim.job.request)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield asked
    finally:
        stop.set()
        thread.join()


def test_what_the_server_made_is_written(
    running: tuple[FastAPI, str], music: MusicOnTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, out = [draw(tmp_path / "a.png"), draw(tmp_path / "밤.png", (0, 0, 40))], tmp_path / "out"
    options = ("--seed", 7, "--duration", 9, "--prompt", "sad", "--locale", "en")
    with runner(music, lambda request: music.run(request.job_id)) as asked:
        assert run(*pictures, "--out", out, "--url", running[1], *options) == 0
    assert [(each.seed, each.duration_s, each.prompt, each.locale) for each in asked] == [
        (7, 9.0, "sad", Locale.EN)
    ] * 2
    for stem in ("a", "밤"):
        assert (out / f"{stem}.mp3").read_bytes() == FILES[MusicFile.MP3]
        assert (out / f"{stem}.flac").read_bytes() == FILES[MusicFile.FLAC]
        assert (out / f"{stem}.mid").read_bytes() == FILES[MusicFile.MIDI]
        facts = json.loads((out / f"{stem}.json").read_text("utf-8"))
        assert facts == {name: PIECE[name] for name in facts}
        assert {"caption", "plan", "engine_used", "measurements"} <= facts.keys()
    assert len(list(out.iterdir())) == 8
    told = capsys.readouterr().err
    assert "A calm sea in blue light" in told
    assert "D Dorian, 84 bpm, piano, strings and double bass; seed 7, 30.0 s, by composer:1 (only the first" in told
    assert "2 made, 0 failed" in told


def test_the_seed_is_the_pictures(running: tuple[FastAPI, str], music: MusicOnTable, tmp_path: Path) -> None:
    one, same, other = draw(tmp_path / "1.png"), draw(tmp_path / "2.png"), draw(tmp_path / "3.png", (0, 0, 40))
    with runner(music, lambda request: music.run(request.job_id)) as asked:
        assert run(one, same, other, "--out", tmp_path / "out", "--url", running[1]) == 0
    seeds = [each.seed for each in asked]
    assert seeds[0] == seeds[1] != seeds[2]
    assert None not in seeds


def test_an_engine_without_notes_leaves_no_midi(
    running: tuple[FastAPI, str], music: MusicOnTable, tmp_path: Path
) -> None:
    (tmp_path / "a.mid").write_bytes(b"of an earlier piece")
    with runner(music, lambda request: music.run(request.job_id, WITHOUT_MIDI, engine_used="musicgen")):
        assert run(draw(tmp_path / "a.png"), "--out", tmp_path, "--url", running[1]) == 0
    assert {path.name for path in tmp_path.glob("a.*")} == {"a.png", "a.mp3", "a.flac", "a.json"}


def test_failures(
    running: tuple[FastAPI, str], music: MusicOnTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    pictures = [draw(tmp_path / "good.png"), draw(tmp_path / "poor.png", (0, 0, 40))]

    failure = "처리 중 오류가 발생했습니다: no engine made a piece"

    def end(request: MusicRequest) -> None:
        if len(asked) == 1:
            music.run(request.job_id)
        else:
            music.jobs.run_fail(request.job_id, "PROCESSING_ERROR", failure)

    with runner(music, end) as asked:
        assert run(bad, *pictures, "--out", tmp_path / "out", "--url", running[1]) == 1
    told = capsys.readouterr().err
    assert "bad.png: 알려진 형식" in told
    assert f"poor.png: {failure}" in told
    assert "1 made, 2 failed" in told
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"good"}
