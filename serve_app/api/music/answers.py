"""Answers about pieces of music. A field that does not apply to a piece is absent, as in answers about jobs."""

from __future__ import annotations

import re
from typing import Annotated, Any, cast

from pydantic import BaseModel, Field

from serve_app.analysis.result import Unchecked
from serve_app.api.music.requests import DownloadFormat
from serve_app.api.video.answers import JobView, SubmittedView, job_fields, view_submitted
from serve_app.jobs.record import Job
from serve_app.messages import Locale
from serve_app.results import Caption, MusicPlan
from serve_app.services import SubmittedJob

_MAX_NAME_CHARS = 60
# of a MusicPiece; its addresses are left out, which the service knows without the prefix that a proxy may add
_SHOWN = (
    "caption",
    "plan",
    "engine_used",
    "engine_version",
    "fallback_reason",
    "license",
    "duration",
    "measurements",
    "files",
    "stage_seconds",
    "notes",
)


class MusicSubmittedView(SubmittedView):
    """Answer to a submitted piece."""

    page_url: str = Field(description="a page that shows the progress, then the piece")


class MusicUrls(BaseModel):
    """Addresses of a piece and its files."""

    page: str
    picture: str
    audio: str = Field(description="MP3, for players: answers ranges")
    download: dict[DownloadFormat, str] = Field(description="by format; of the files that this piece has")


class PieceView(JobView):
    """A piece of music: its job, and once that has completed, all about it."""

    page_url: str
    caption: Annotated[Caption, Unchecked()] | None = None
    plan: Annotated[MusicPlan, Unchecked()] | None = None
    engine_used: str | None = None
    engine_version: str | None = None
    fallback_reason: str | None = Field(default=None, description="why an engine or a seed before this was given up")
    license: str | None = Field(default=None, description="of what made the music, and of the music, in a sentence")
    duration: float | None = Field(default=None, description="seconds")
    seed: int | None = Field(default=None, description="of every random choice")
    measurements: dict[str, float] | None = Field(default=None, description="of the mastered piece")
    urls: MusicUrls | None = None
    files: dict[str, int] | None = Field(default=None, description="bytes by file name")
    stage_seconds: dict[str, float] | None = Field(default=None, description="by stage")
    notes: list[str] | None = Field(default=None, description="what was repaired, degraded or assumed")


class PiecePageView(BaseModel):
    """Some of a visitor's pieces, newest first, without what is known only once they are ready."""

    pieces: list[PieceView]
    next_cursor: str | None = Field(description="`cursor` of the following page; null at the end")


def result_of(job: Job) -> dict[str, Any] | None:
    """Return a music job's result, a `results.MusicPiece` as JSON; None where there is none yet, or it was left out."""
    return cast(dict[str, Any] | None, job.result)


def music_url(root_path: str, *parts: str) -> str:
    """Return an address of this API under `/music`."""
    return "/".join((root_path.rstrip("/"), "music", *parts))


def page_url(root_path: str, job_id: str) -> str:
    """Return the address of a piece's page."""
    return music_url(root_path, job_id, "page")


def urls_of(job: Job, root_path: str) -> MusicUrls:
    """Return the addresses of a completed piece and of the files that it has."""
    files = (result_of(job) or {}).get("files", {})
    download = music_url(root_path, job.job_id, "download")
    return MusicUrls(
        page=page_url(root_path, job.job_id),
        picture=music_url(root_path, job.job_id, "picture"),
        audio=music_url(root_path, job.job_id, "audio"),
        download={form: f"{download}?format={form}" for form in DownloadFormat if form.file in files},
    )


def view_music_submitted(submitted: SubmittedJob, locale: Locale, root_path: str) -> MusicSubmittedView:
    """Describe a piece to the client that submitted it."""
    view = view_submitted(submitted, locale, root_path)
    return MusicSubmittedView(**view.model_dump(), page_url=page_url(root_path, view.job_id))


def view_piece(
    job: Job, root_path: str, queue_position: int | None = None, remaining_s: float | None = None
) -> PieceView:
    """Describe a piece."""
    known = job_fields(job, queue_position, remaining_s)
    known.pop("result", None)
    result = result_of(job)
    known["page_url"] = page_url(root_path, job.job_id)
    if result is not None:
        known |= {name: result[name] for name in _SHOWN if name in result}
        known["seed"] = result["plan"]["seed"]
        known["urls"] = urls_of(job, root_path)
    return PieceView(**known)


def download_name(job: Job, form: DownloadFormat, locale: Locale) -> str:
    """Return the name of a downloaded file: the caption's beginning, letters and digits alone."""
    piece = result_of(job)
    caption = piece["caption"][f"caption_{locale}"] if piece else ""
    words = re.sub(r"[^\w]+", " ", caption).split()
    name = ""
    for word in words:
        if len(name) + len(word) >= _MAX_NAME_CHARS:
            break
        name = f"{name} {word}".lstrip()
    extension = form.file.rpartition(".")[2]
    if form in (DownloadFormat.CAPTION, DownloadFormat.PLAN):
        extension = f"{form}.{extension}"
    return f"{name or f'music {job.job_id[:8]}'}.{extension}"
