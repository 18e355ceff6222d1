"""The demonstration's piece of music: a frame of its dialogue, from submission to the files."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

import av
from pydantic import TypeAdapter
from rich.console import Console

from serve_app.client import Client, MusicFormat
from serve_app.commands.demo.callbacks import show_callbacks
from serve_app.commands.demo.contract import callback_problems
from serve_app.commands.demo.receiver import CallbackReceiver
from serve_app.commands.terminal import echo
from serve_app.messages import JobKind, Locale
from serve_app.models.music.plan_words import plan_sentence
from serve_app.results import MusicPiece

_SEED = 7
_FORMATS: tuple[MusicFormat, ...] = ("mp3", "mid")
_PIECE = TypeAdapter(MusicPiece)


def frame_of(video: Path, picture: Path) -> Path:
    """Write a video's first frame as a JPEG and return its path."""
    with av.open(str(video)) as container:
        next(container.decode(video=0)).to_image().save(picture)
    return picture


def music_job(console: Console, client: Client, receiver: CallbackReceiver, picture: Path, folder: Path) -> list[str]:
    """Have a piece made of a picture, show it and download it to the folder; return its problems."""
    job_id = str(uuid.uuid4())
    console.rule("A piece of music, from a frame of the dialogue")
    started_s = time.monotonic()
    accepted = client.generate_music(picture, seed=_SEED, job_id=job_id, callback_base=receiver.base_url)
    echo(console, f"POST /generate-music → {json.dumps(accepted, ensure_ascii=False)}")
    try:
        payloads = show_callbacks(console, receiver, job_id, started_s)
    except TimeoutError as error:
        return [str(error)]
    taken_s = time.monotonic() - started_s
    problems = [f"music: {problem}" for problem in callback_problems(payloads, job_id, kind=JobKind.MUSIC)]
    if problems:
        return problems
    piece = _PIECE.validate_python(payloads[-1]["result"])
    paths = {form: folder / f"music.{form}" for form in _FORMATS if f"music.{form}" in piece.files}
    for form, path in paths.items():
        client.download_music(job_id, form, path)
        if path.stat().st_size != piece.files[path.name]:
            problems.append(f"music: {path.name} has {path.stat().st_size} bytes, not {piece.files[path.name]}")
    echo(
        console,
        piece.caption.caption_ko,
        piece.caption.caption_en,
        f"{plan_sentence(piece.plan, Locale.EN)}; seed {piece.plan.seed}",
        f"{piece.duration:.1f} s of music by {piece.engine_version} in {taken_s:.1f} s: "
        + ", ".join(map(str, paths.values())),
        f"Its page, while this graph runs: {client.base_url}{piece.page_url}",
    )
    return problems
