"""Pages of pieces: HTML without scripts, in Korean and English.

A page may load pictures and music of this server, and send forms to it, and nothing else. All text is escaped: captions
come from models, prompts from callers.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from serve_app.api.http.answers import timestamp
from serve_app.api.http.failures import Failure
from serve_app.api.music.answers import music_url, page_url, result_of, urls_of
from serve_app.api.music.requests import MAX_PROMPT_CHARS
from serve_app.api.music.texts import advice, texts
from serve_app.api.video.answers import shown_status
from serve_app.jobs.record import Job, JobPage, JobStatus, MusicRequest
from serve_app.messages import (
    JobKind,
    Locale,
    MusicStage,
    cancelled_message,
    error_message_in,
    instrument_name,
    mode_name,
    queued_message,
    stage_message,
)
from serve_app.results import MAX_MUSIC_S, MAX_SEED, MIN_MUSIC_S

REFRESH_S = 2
_MAX_TITLE_CHARS = 60

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("serve_app.api.music"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_STYLE = _templates.get_template("music.css").render()
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; img-src 'self'; media-src 'self'; style-src 'sha256-{_HASH}'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    # with `no-referrer` a browser would send its forms with `Origin: null`, like those of another site
    "Referrer-Policy": "same-origin",
    "Vary": "Accept, Accept-Language, Cookie",
}


def piece_page(job: Job, locale: Locale, root_path: str, queue_position: int | None) -> Response:
    """Return a piece's page: its progress, the piece, or why there is none."""
    shown: dict[str, Any] = {"job": job, "id": job.job_id, "page": page_url(root_path, job.job_id)}
    if (piece := result_of(job)) is not None:
        caption = piece["caption"][f"caption_{locale}"]
        # a caption of several sentences is too long for a heading
        heading, stop, rest = caption.partition(". ")
        shown |= {
            "piece": piece,
            "caption": caption,
            "heading": f"{heading}{stop}".strip(),
            "rest": rest,
            "title": _cut(caption),
            "urls": urls_of(job, root_path),
            "sentence": plan_sentence(piece["plan"], locale),
        }
        return _page("piece.html", locale, root_path, **shown)
    if job.status.is_final:
        shown["reason"] = (
            cancelled_message(locale)
            if job.status is JobStatus.CANCELLED
            else error_message_in(locale, job.error_code, job.error_message, JobKind.MUSIC)
        )
        return _page("not_made.html", locale, root_path, **shown)
    shown["picture"] = music_url(root_path, job.job_id, "picture") if job.progress >= MusicStage.PICTURE_READY else None
    waits = job.status is JobStatus.QUEUED
    shown["message"] = queued_message(locale) if waits else stage_message(JobKind.MUSIC, job.progress, locale)
    shown["position"] = queue_position
    return _page("in_work.html", locale, root_path, refresh_s=REFRESH_S, **shown)


def list_page(page: JobPage | None, locale: Locale, root_path: str) -> Response:
    """Return the page with the upload form and the visitor's pieces; None: a visitor without any."""
    pieces = [_listed(job, locale, root_path) for job in page.jobs] if page else []
    return _page(
        "list.html",
        locale,
        root_path,
        page=music_url(root_path, "page"),
        pieces=pieces,
        next_cursor=page.next_cursor if page else None,
        min_s=int(MIN_MUSIC_S),
        max_s=int(MAX_MUSIC_S),
        max_seed=MAX_SEED,
        max_prompt_chars=MAX_PROMPT_CHARS,
        action=f"{root_path.rstrip('/')}/generate-music",
    )


def failure_page(failure: Failure, locale: Locale, root_path: str) -> Response:
    """Return a failure as a page."""
    page = music_url(root_path, "page")
    response = _page("failure.html", locale, root_path, page=page, failure=failure, advice=advice(failure.code, locale))
    response.status_code = failure.status
    response.headers.update(failure.headers)
    return response


def plan_sentence(plan: Mapping[str, Any], locale: Locale) -> str:
    """Return a stored `results.MusicPlan` for people."""
    mode = mode_name(plan["mode"], locale)
    instruments = ", ".join(instrument_name(name, locale) for name in plan["instruments"])
    parts = " – ".join(section["name"] for section in plan["form"])
    bars, seconds = sum(section["bars"] for section in plan["form"]), round(plan["duration_s"])
    if locale is Locale.KO:
        return (
            f"{plan['key']} {mode}, 분당 {plan['tempo_bpm']}박, {plan['metre']}박자, {seconds}초. 악기: {instruments}."
            f" 구성: {parts} ({bars}마디)."
        )
    return (
        f"{plan['key']} {mode}, {plan['tempo_bpm']} beats per minute, {plan['metre']} time, {seconds} seconds."
        f" Instruments: {instruments}. Form: {parts} ({bars} bars)."
    )


def _listed(job: Job, locale: Locale, root_path: str) -> dict[str, Any]:
    prompt = job.request.prompt if isinstance(job.request, MusicRequest) else ""
    status = shown_status(job.status)
    is_ready = job.status is JobStatus.COMPLETED
    return {
        "page": f"{page_url(root_path, job.job_id)}?locale={locale}",
        "picture": music_url(root_path, job.job_id, "picture") if is_ready else None,
        "prompt": _cut(prompt),
        "state": f"state_{status}",
        "created_at": timestamp(job.created_at),
    }


def _page(template: str, locale: Locale, root_path: str, *, page: str, **shown: Any) -> Response:
    content = _templates.get_template(template).render(
        t=texts(locale),
        lang=locale.value,
        other_lang=Locale.EN.value if locale is Locale.KO else Locale.KO.value,
        style=Markup(_STYLE),  # noqa: S704 - a file of this package
        page=page,
        list_page=f"{music_url(root_path, 'page')}?locale={locale}",
        music=music_url(root_path),
        **shown,
    )
    return HTMLResponse(content, headers=_HEADERS)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TITLE_CHARS else f"{text[: _MAX_TITLE_CHARS - 1]}…"
