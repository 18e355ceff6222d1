"""What clients order in the burst, and the graph that they order from."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from PIL import Image

from loadtests.burst.clients import Submission
from loadtests.burst.poison import Poison, Way
from loadtests.images.load import ROOT
from loadtests.images.photographs import photograph
from serve_app.commands.demo.videos import demo_videos
from serve_app.demo_media.video import Card, write_video
from tests.integration.recordings import read_audio

VIDEO_PATH, MUSIC_PATH, PICTURE_PATH = "/api/upload-video/process-video", "/generate-music", "/classify-reusable"
_RATE_HZ = 16_000
_PIECE_S = 10.0


@dataclass(frozen=True, slots=True)
class Clip:
    """What honest jobs are made of.

    Attributes:
        name: in the tables.
        url: of a video; None: music from `picture`.
        picture: of a piece of music.
    """

    name: str
    url: str | None = None
    picture: bytes = b""


def make_clips(folder: Path, base_url: str, seconds: float) -> list[Clip]:
    """Write three cuts of the demonstration's dialogue into a served folder; return them, and a picture for music."""
    [dialogue] = [video for video in demo_videos(folder) if video.path.stem == "dialogue"]
    speech = read_audio(dialogue.path)
    clips = []
    for number in range(3):
        first = round((2 + number * 1.2 * seconds) * _RATE_HZ)
        path = folder / f"clip-{number}.mp4"
        write_video(path, speech[first : first + round(seconds * _RATE_HZ)], _RATE_HZ, [Card(0.0, f"Clip {number}")])
        clips.append(Clip(path.stem, f"{base_url}/{path.name}"))
    return [*clips, Clip("music", picture=photograph(7))]


def submission(clip: Clip, group: str, callback_base: str | None) -> Submission:
    """Return the order of a clip's job, under a new id."""
    job_id = str(uuid.uuid4())
    body: dict[str, Any]
    if clip.url is not None:
        wanted = {"job_id": job_id, "video_url": clip.url, "fastapi_base_url": callback_base, "language": "en"}
        return Submission(job_id, group, clip.name, VIDEO_PATH, {"json": wanted})
    data = {"job_id": job_id, "duration": str(_PIECE_S), "seed": "7", "fastapi_base_url": callback_base or ""}
    body = {"data": data, "files": {"file": ("picture.jpg", clip.picture)}}
    return Submission(job_id, group, clip.name, MUSIC_PATH, body)


def small_jpeg() -> bytes:
    """Return a picture of 160 × 120 pixels."""
    file = io.BytesIO()
    Image.open(io.BytesIO(photograph(3))).resize((160, 120)).save(file, "JPEG")
    return file.getvalue()


def picture_submission(name: str, group: str, data: bytes) -> Submission:
    """Return an upload to a picture route."""
    return Submission(str(uuid.uuid4()), group, name, PICTURE_PATH, {"files": {"file": (name, data)}}, is_job=False)


def poison_submission(poison: Poison, files_url: str) -> Submission:
    """Return the order that makes the service read a file; files that are uploaded are made here."""
    if poison.way is Way.PICTURE:
        assert poison.make is not None
        return picture_submission(poison.name, "poison", poison.make())
    job_id, url = str(uuid.uuid4()), f"{files_url}/{poison.name}"
    if poison.way is Way.VIDEO_JOB:
        body: dict[str, Any] = {"json": {"job_id": job_id, "video_url": url, "language": "en"}}
        return Submission(job_id, "poison", poison.name, VIDEO_PATH, body)
    if poison.way is Way.MUSIC_JOB:
        body = {"json": {"job_id": job_id, "image_url": url, "duration": _PIECE_S}}
    else:
        assert poison.make is not None
        data = {"job_id": job_id, "duration": str(_PIECE_S)}
        body = {"data": data, "files": {"file": (poison.name, poison.make())}}
    return Submission(job_id, "poison", poison.name, MUSIC_PATH, body)


def visitor_cookies(base_url: str) -> Mapping[str, str]:
    """Return the cookies of a new visitor."""
    with httpx.Client(base_url=base_url, trust_env=False, timeout=60.0) as client:
        # the list of pieces is made for whoever asks; ordering one makes the visitor known
        files = {"file": ("picture.jpg", photograph(7))}
        client.post(MUSIC_PATH, files=files, data={"duration": str(_PIECE_S), "seed": "7"}).raise_for_status()
        return dict(client.cookies)


def write_graph_config(path: Path, num_runners: int) -> Path:
    """Write configs/local.yaml with a fixed number of runners; what honest jobs need is always there."""
    config = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text(encoding="utf-8"))
    [application] = config["applications"]
    application["args"]["job_runner"] |= {"min_replicas": num_runners, "max_replicas": num_runners}
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path
