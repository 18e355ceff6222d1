"""Routes of music from pictures: submit a picture; list, follow, show, play, download, vary and remove pieces."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import RedirectResponse, Response

from serve_app.api.http.accept import preferred_locale, wants_page
from serve_app.api.http.access import Caller, needs
from serve_app.api.http.answers import attachment
from serve_app.api.http.failures import ApiRoute, Failure, error_responses
from serve_app.api.http.options import ApiSettings, InjectedServices, InjectedSettings
from serve_app.api.http.ranges import answer_file
from serve_app.api.http.requests import is_multipart
from serve_app.api.http.visitors import Author, Reader, set_cookie, withhold_cookie
from serve_app.api.music import answers as views
from serve_app.api.music import page as pages
from serve_app.api.music.requests import FORM_BYTES, DownloadFormat, music_content, open_music_request
from serve_app.api.video.requests import JobId
from serve_app.jobs.record import Job, JobStatus, Scope, Visitor
from serve_app.messages import Locale
from serve_app.services import MusicFile, Services, SubmittedJob

_PRIVATE = {"Cache-Control": "private, no-cache"}  # kept by the browser alone, which asks each time whether it changed
_PICTURE_POLICY = {"Content-Security-Policy": "sandbox; default-src 'none'"}
_NO_STORE = {"Cache-Control": "no-store"}
_PAGE_LIMIT = 20  # pieces on a page
_MISSING = "No piece has this id, it is another visitor's, or it has no such file"


class MusicRoute(ApiRoute):
    """A route of a visitor's things: sets the visitor's cookie, and answers browsers with pages."""

    def max_bytes(self, request: Request, settings: ApiSettings) -> int:
        return settings.max_image_bytes + FORM_BYTES if is_multipart(request) else settings.max_body_bytes

    def locale(self, request: Request, settings: ApiSettings) -> Locale:
        return _locale(request, settings.locale) if wants_page(request) else settings.locale

    def failure_response(self, failure: Failure, request: Request) -> Response:
        if not wants_page(request):
            return super().failure_response(failure, request)
        settings: ApiSettings = request.app.state.settings
        return pages.failure_page(failure, _locale(request, settings.locale), _root(request))

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_cookie(request: Request) -> Response:
            response = await handle(request)
            set_cookie(request, response, request.app.state.settings)
            return response

        return with_cookie


router = APIRouter(route_class=MusicRoute, tags=["music"])

PieceId = Annotated[JobId, Path(alias="job_id")]
_LocaleQuery = Query(description="language; default: the piece's, then the browser's")


async def _piece(job_id: PieceId, reader: Reader, key: Caller, services: InjectedServices) -> Job:
    return await services.music.get(job_id, reader, key)


VisiblePiece = Annotated[Job, Depends(_piece)]
"""The job of the path's `job_id`; JobNotFound where it is no piece, or another key's or visitor's."""


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root


def _locale(request: Request, default: Locale, job: Job | None = None) -> Locale:
    """Return the language that the address names, else the piece's, else the browser's, else the default."""
    named = request.query_params.get("locale", "")
    if named in tuple(Locale):
        return Locale(named)
    if job is not None and job.request.locale is not None:
        return job.request.locale
    return preferred_locale(request, default)


def _see_other(url: str) -> Response:
    return RedirectResponse(url, 303, _NO_STORE)


def _submitted(
    submitted: SubmittedJob, visitor: Visitor, request: Request, settings: ApiSettings
) -> Response | views.MusicSubmittedView:
    if submitted.job.visitor != visitor.id:
        withhold_cookie(request)  # the answer was lost, and this repeats the request
    view = views.view_music_submitted(submitted, settings.locale, _root(request))
    return _see_other(view.page_url) if wants_page(request) else view


_SUBMITTED: dict[str, Any] = {
    "response_model": views.MusicSubmittedView,
    "response_description": "The job is stored; follow it at `status_url` or `page_url`",
}
_SEE_OTHER: dict[int | str, dict[str, Any]] = {303: {"description": "To the page, where `Accept` prefers `text/html`"}}


@router.post(
    "/generate-music",
    summary="Make music from a picture",
    responses={
        **_SEE_OTHER,
        **error_responses(
            403,
            413,
            415,
            422,
            503,
            own={409: "Another request has this `job_id`", 429: "The visitor's quota, or the queue, is full"},
        ),
    },
    openapi_extra={"requestBody": {"required": True, "content": music_content()}},
    **_SUBMITTED,
)
@needs(Scope.SUBMIT)
async def generate_music(
    request: Request, visitor: Author, key: Caller, services: InjectedServices, settings: InjectedSettings
) -> Any:
    """Store a job and answer at once: a caption of the picture, and from it a piece of music to play and download.

    Send the picture as `file`, or its address as `image_url`. The same `job_id` with the same request returns the job
    as it is now; with another request: 409. The answer sets a cookie: what a browser submits, it alone can see; what
    other clients submit can be read by its id without a cookie.
    """
    async with open_music_request(request, settings) as (wanted, picture):
        submitted = await services.music.submit(wanted, picture, visitor, key)
    return _submitted(submitted, visitor, request, settings)


@router.get("/music", summary="My pieces", response_model_exclude_unset=True, responses=error_responses(422))
@needs(Scope.READ)
async def list_pieces(
    request: Request,
    reader: Reader,
    key: Caller,
    services: InjectedServices,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before")] = None,
) -> views.PiecePageView:
    """Return the visitor's pieces, newest first; none to a client without the cookie."""
    if reader is None:
        return views.PiecePageView(pieces=[], next_cursor=None)
    page = await services.music.pieces(reader, limit, cursor, key)
    pieces = [views.view_piece(job, _root(request)) for job in page.jobs]
    return views.PiecePageView(pieces=pieces, next_cursor=page.next_cursor)


_PAGE: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"description": "HTML", "content": {"text/html": {"schema": {"type": "string"}}}}},
}


@router.get("/music/page", summary="A page with my pieces", **_PAGE)
@needs(Scope.READ)
async def pieces_page(
    request: Request,
    reader: Reader,
    key: Caller,
    services: InjectedServices,
    settings: InjectedSettings,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
    locale: Annotated[Locale | None, _LocaleQuery] = None,
) -> Response:
    """Return a page, without scripts, with a form for a picture and the visitor's pieces."""
    page = None if reader is None else await services.music.pieces(reader, _PAGE_LIMIT, cursor, key)
    return pages.list_page(page, _locale(request, settings.locale), _root(request))


@router.get(
    "/music/{job_id}",
    summary="A piece",
    response_model_exclude_unset=True,
    responses=error_responses(422, own={404: _MISSING}),
)
@needs(Scope.READ)
async def get_piece(piece: VisiblePiece, request: Request, services: InjectedServices) -> views.PieceView:
    """Return a piece: the state of its job, and once that has completed, caption, plan, licence and addresses."""
    remaining_s = None if piece.status.is_final else await services.jobs.estimate_s(piece.job_id)
    return views.view_piece(piece, _root(request), await _queue_position(piece, services), remaining_s)


async def _queue_position(piece: Job, services: Services) -> int | None:
    return await services.jobs.queue_position(piece.job_id) if piece.status is JobStatus.QUEUED else None


@router.get("/music/{job_id}/page", summary="A piece's page", **_PAGE)
@needs(Scope.READ)
async def piece_page(
    piece: VisiblePiece,
    request: Request,
    settings: InjectedSettings,
    services: InjectedServices,
    locale: Annotated[Locale | None, _LocaleQuery] = None,
) -> Response:
    """Return a page, without scripts, that shows the progress, then the piece: picture, plan, player and downloads."""
    position = await _queue_position(piece, services)
    return pages.piece_page(piece, _locale(request, settings.locale, piece), _root(request), position)


def _media(kind: str) -> dict[str, Any]:
    return {
        "response_class": Response,
        "responses": {
            200: {"description": "The file", "content": {kind: {"schema": {"type": "string", "format": "binary"}}}},
            206: {"description": "The part that `Range` asks for"},
            304: {"description": "`If-None-Match` has its `ETag`"},
            416: {"description": "The file has no byte of that range"},
            **error_responses(422, own={404: _MISSING, 409: "The piece is not ready"}),
        },
    }


@router.get("/music/{job_id}/picture", summary="A piece's picture", **_media("image/jpeg"))
@needs(Scope.READ)
async def get_picture(
    job_id: PieceId, request: Request, reader: Reader, key: Caller, services: InjectedServices
) -> Response:
    """Return the picture as it was used: upright, without metadata. It is there before the music is."""
    file = await services.music.open(job_id, MusicFile.PICTURE, reader, key)
    return await answer_file(request, file, "image/jpeg", _PRIVATE | _PICTURE_POLICY)


@router.get("/music/{job_id}/audio", summary="A piece to play", **_media("audio/mpeg"))
@needs(Scope.READ)
async def get_audio(
    job_id: PieceId, request: Request, reader: Reader, key: Caller, services: InjectedServices
) -> Response:
    """Return the MP3, whole or in part, for players: they seek by ranges."""
    file = await services.music.open(job_id, MusicFile.MP3, reader, key)
    return await answer_file(request, file, "audio/mpeg", _PRIVATE)


@router.get(
    "/music/{job_id}/download",
    summary="A file of a piece",
    response_class=Response,
    responses={
        200: {"description": "The file, as an attachment"},
        206: {"description": "The part that `Range` asks for"},
        302: {"description": "To a signed link of the object store, valid for minutes"},
        **error_responses(422, own={404: _MISSING, 409: "The piece is not ready"}),
    },
)
@needs(Scope.READ)
async def download(
    piece: VisiblePiece,
    request: Request,
    reader: Reader,
    key: Caller,
    services: InjectedServices,
    settings: InjectedSettings,
    form: Annotated[DownloadFormat, Query(alias="format")] = DownloadFormat.MP3,
) -> Response:
    """Return a file to keep, named after the caption."""
    file = await services.music.open(piece.job_id, form.file, reader, key)
    name = views.download_name(piece, form, _locale(request, settings.locale, piece))
    link = await file.signed_url(name)
    if link is not None:
        return RedirectResponse(link, 302, _NO_STORE)
    return await answer_file(request, file, form.file.media_type, _PRIVATE | {"Content-Disposition": attachment(name)})


@router.post(
    "/music/{job_id}/versions",
    summary="Make another version of a piece",
    responses={
        **_SEE_OTHER,
        **error_responses(403, 422, 503, own={404: _MISSING, 429: "The visitor's quota, or the queue, is full"}),
    },
    **_SUBMITTED,
)
@needs(Scope.SUBMIT)
async def another_version(
    job_id: PieceId,
    request: Request,
    visitor: Author,
    key: Caller,
    services: InjectedServices,
    settings: InjectedSettings,
) -> Any:
    """Submit the same picture and options again, with another seed."""
    return _submitted(await services.music.another_version(job_id, visitor, key), visitor, request, settings)


@router.delete(
    "/music/{job_id}",
    status_code=204,
    summary="Remove a piece",
    responses=error_responses(403, 422, own={404: _MISSING, 409: "Its runner has not let go of it yet"}),
)
@needs(Scope.SUBMIT)
async def delete_piece(job_id: PieceId, reader: Reader, key: Caller, services: InjectedServices) -> None:
    """Remove a piece and its files; one that is being made is cancelled first."""
    await services.music.delete(job_id, reader, key)


@router.post(
    "/music/{job_id}/delete",
    status_code=303,
    response_class=Response,
    summary="Remove a piece, from a page",
    responses=error_responses(403, 422, own={404: _MISSING, 409: "Its runner has not let go of it yet"}),
)
@needs(Scope.SUBMIT)
async def delete_from_page(
    job_id: PieceId, request: Request, reader: Reader, key: Caller, services: InjectedServices
) -> Response:
    """Do what DELETE does, for a form without scripts; redirects to the list."""
    await services.music.delete(job_id, reader, key)
    return _see_other(views.music_url(_root(request), "page"))
