"""Pieces of music through the client, against the real app on a real socket."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from serve_app import errors
from serve_app.client import Client, MusicFormat
from serve_app.jobs.record import MusicRequest
from serve_app.messages import Locale
from serve_app.services import MusicFile
from tests.unit.api.memory_services import FILES, MusicOnTable
from tests.unit.client.loopback import serving


@pytest.fixture
def music(running: tuple[FastAPI, str], client: Client) -> MusicOnTable:
    service = running[0].state.services.music
    assert isinstance(service, MusicOnTable)
    return service


@pytest.fixture
def other(running: tuple[FastAPI, str]) -> Iterator[Client]:
    with Client(running[1]) as other:
        yield other


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "바다 1.png"
    Image.new("RGB", (8, 6), (30, 60, 200)).save(path)
    return path


def request_of(music: MusicOnTable, job_id: str) -> MusicRequest:
    request = music.jobs.store.get(job_id).request
    assert isinstance(request, MusicRequest)
    return request


def test_a_piece_from_picture_to_file(client: Client, music: MusicOnTable, picture: Path, tmp_path: Path) -> None:
    accepted = client.generate_music(picture)
    job_id = accepted["job_id"]
    assert accepted["status"] == "processing"
    assert client.music(job_id)["status"] in ("queued", "processing")
    with pytest.raises(errors.JobConflict):
        client.download_music(job_id, "mp3", tmp_path / "early.mp3")
    made = music.run(job_id)
    events = list(client.events(job_id))
    assert events[-1].payload["result"]["plan"] == made["plan"]
    assert client.wait(job_id)["result"]["plan"] == made["plan"]
    piece = client.music(job_id)
    assert (piece["status"], piece["caption"]["caption_en"]) == ("completed", "A calm sea in blue light")
    forms: dict[MusicFormat, MusicFile] = {
        "mp3": MusicFile.MP3,
        "flac": MusicFile.FLAC,
        "mid": MusicFile.MIDI,
        "picture": MusicFile.PICTURE,
        "caption": MusicFile.CAPTION,
        "plan": MusicFile.PLAN,
    }
    for form, file in forms.items():
        client.download_music(job_id, form, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == FILES[file]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["file", picture.name])


def test_options(client: Client, music: MusicOnTable, picture: Path) -> None:
    client.generate_music(
        picture,
        prompt="sad, no drums",
        duration=12.5,
        seed=0,
        locale="en",
        job_id="sea-1",
        callback_base="https://backend.example",
    )
    request = request_of(music, "sea-1")
    assert (request.prompt, request.duration_s, request.seed) == ("sad, no drums", 12.5, 0)
    assert (request.locale, request.callback_base) == (Locale.EN, "https://backend.example")
    assert request.upload_sha256 is not None


def test_address(client: Client, music: MusicOnTable) -> None:
    job_id = client.generate_music("https://host.example/sea.jpg", duration=5, seed=3)["job_id"]
    request = request_of(music, job_id)
    assert (request.image_url, request.upload_sha256) == ("https://host.example/sea.jpg", None)
    assert (request.duration_s, request.seed) == (5.0, 3)


def test_an_open_file_is_sent_too(client: Client, music: MusicOnTable, picture: Path) -> None:
    job_id = client.generate_music(io.BytesIO(picture.read_bytes()))["job_id"]
    assert request_of(music, job_id).upload_sha256 is not None


def test_a_submission_may_be_repeated(client: Client, music: MusicOnTable, picture: Path) -> None:
    first = client.generate_music(picture, job_id="sea-1", seed=1)
    assert client.generate_music(picture, job_id="sea-1", seed=1) == first
    assert len(music.jobs.jobs) == 1
    with pytest.raises(errors.JobConflict):
        client.generate_music(picture, job_id="sea-1", seed=2)


def test_clients_do_not_see_each_others_pieces(
    client: Client, other: Client, music: MusicOnTable, picture: Path, tmp_path: Path
) -> None:
    pieces = {}
    for each in (client, other):
        each.generate_music(picture)  # its answer brings the cookie
        pieces[each] = each.generate_music(picture)["job_id"]
        music.run(pieces[each])
    for each, stranger in ((client, other), (other, client)):
        assert each.music(pieces[each])["status"] == "completed"
        calls: list[Any] = [
            lambda: stranger.music(pieces[each]),  # noqa: B023 (called within the loop)
            lambda: stranger.download_music(pieces[each], "mp3", tmp_path / "a.mp3"),  # noqa: B023
            lambda: stranger.another_version(pieces[each]),  # noqa: B023
            lambda: stranger.delete_music(pieces[each]),  # noqa: B023
            lambda: list(stranger.events(pieces[each])),  # noqa: B023
        ]
        for call in calls:
            with pytest.raises(errors.JobNotFound):
                call()
    assert not (tmp_path / "a.mp3").exists()


def test_another_version_and_removal(client: Client, music: MusicOnTable, picture: Path) -> None:
    job_id = client.generate_music(picture, seed=7, duration=9)["job_id"]
    music.run(job_id)
    other_id = client.another_version(job_id)["job_id"]
    request = request_of(music, other_id)
    assert other_id != job_id
    assert (request.version_of, request.duration_s) == (job_id, 9.0)
    assert request.seed not in (7, None)
    client.delete_music(job_id)
    with pytest.raises(errors.JobNotFound):
        client.music(job_id)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"duration": 4}, "body.duration"), ({"seed": -1}, "body.seed"), ({"locale": "fr"}, "body.locale")],
)
def test_refusals(client: Client, music: MusicOnTable, picture: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        client.generate_music(picture, **options)
    assert told in caught.value.detail


def test_what_is_no_picture(client: Client, music: MusicOnTable, tmp_path: Path) -> None:
    with pytest.raises(errors.ImageUnreadable):
        client.generate_music(io.BytesIO(b"no picture"))
    with pytest.raises(FileNotFoundError):
        client.generate_music(tmp_path / "gone.png")
    assert music.jobs.jobs == {}


def test_a_file_that_the_piece_lacks_leaves_the_old_one(
    client: Client, music: MusicOnTable, picture: Path, tmp_path: Path
) -> None:
    job_id = client.generate_music(picture)["job_id"]
    music.run(job_id, {file: content for file, content in FILES.items() if file is not MusicFile.MIDI})
    path = tmp_path / "a.mid"
    path.write_bytes(b"old")
    with pytest.raises(errors.MusicFileMissing):
        client.download_music(job_id, "mid", path)
    assert path.read_bytes() == b"old"
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["a.mid", picture.name])


def test_a_download_goes_on_to_the_store_without_our_credentials(tmp_path: Path) -> None:
    seen: list[Request] = []

    async def stored(request: Request) -> Response:
        seen.append(request)
        return Response(b"sound", media_type="audio/mpeg")

    with serving(Starlette(routes=[Route("/bucket/a.mp3", stored)])) as store_port:
        link = f"http://127.0.0.1:{store_port}/bucket/a.mp3?X-Amz-Signature=1"

        async def download(request: Request) -> Response:
            return RedirectResponse(link, 302)

        service = Starlette(routes=[Route("/music/sea-1/download", download)])
        with (
            serving(service) as port,
            Client(f"http://127.0.0.1:{port}", headers={"Authorization": "Bearer x"}) as client,
        ):
            client.download_music("sea-1", "mp3", tmp_path / "a.mp3")
    assert (tmp_path / "a.mp3").read_bytes() == b"sound"
    assert str(seen[0].url) == link
    assert "authorization" not in seen[0].headers
