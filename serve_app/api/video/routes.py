"""Routes of jobs: submit videos; follow, cancel and remove jobs, and read their transcripts and deliveries."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import Response

from serve_app.analysis.result import AnalysisResult
from serve_app.api.http.access import Caller, needs
from serve_app.api.http.answers import StoredJson, answer_with_stored
from serve_app.api.http.event_stream import stream_events
from serve_app.api.http.failures import ApiRoute, ContractErrorBody, ContractRoute, error_responses
from serve_app.api.http.options import InjectedServices, InjectedSettings
from serve_app.api.http.ranges import answer_file
from serve_app.api.http.requests import checked_with_query, note_ignored
from serve_app.api.http.visitors import Reader
from serve_app.api.video import answers as views
from serve_app.api.video.requests import JobId, ProcessVideoRequest
from serve_app.errors import JobConflict
from serve_app.jobs.record import JobStatus, Scope
from serve_app.messages import JobKind
from serve_app.sentences import Sentence
from serve_app.subtitles.files import TranscriptForm, transcript_file

_SEQ = re.compile(r"[0-9]{1,9}")  # nine digits: what every database's integer holds

JobIdInPath = Annotated[JobId, Path()]


async def _require_visible(job_id: JobIdInPath, reader: Reader, key: Caller, services: InjectedServices) -> str:
    await services.jobs.require_visible(job_id, reader, key)
    return job_id


async def _require_changeable(job_id: JobIdInPath, reader: Reader, key: Caller, services: InjectedServices) -> str:
    await services.jobs.require_visible(job_id, reader, key, Scope.SUBMIT)
    return job_id


VisibleJobId = Annotated[str, Depends(_require_visible)]
"""The path's `job_id`; JobNotFound where it is no job, or another key's or visitor's."""
ChangeableJobId = Annotated[str, Depends(_require_changeable)]
"""The same, of a job that the caller may change: a key that reads all jobs may not change them."""

contract_router = APIRouter(route_class=ContractRoute, tags=["jobs"])
router = APIRouter(prefix="/jobs", route_class=ApiRoute, tags=["jobs"])
callback_router = APIRouter()


@callback_router.post(
    "{$request.body#/fastapi_base_url}/api/upload-video/result",
    summary="Progress and result of a job",
    responses={200: {"description": "Any 2xx: received. Anything else is tried again"}},
)
def job_callback(body: views.CallbackPayload) -> None:
    """Receive an event of a job, signed after Standard Webhooks where a secret is set."""  # never called: for OpenAPI


@contract_router.post(
    "/api/upload-video/process-video",
    summary="Submit a video",
    response_description="The job is stored; follow it at `status_url`",
    responses=error_responses(
        413, 422, 429, 503, body=ContractErrorBody, own={409: "Another request was submitted under this `job_id`"}
    ),
    callbacks=callback_router.routes,
)
@needs(Scope.SUBMIT)
async def process_video(
    body: ProcessVideoRequest, request: Request, key: Caller, services: InjectedServices, settings: InjectedSettings
) -> views.SubmittedView:
    """Store a job and answer at once.

    The same `job_id` with the same request returns the same job, whose state is at `status_url`; with another request:
    409. An address that may not be fetched is not refused here: its job fails with `DOWNLOAD_ERROR`. Fields that are
    unknown here are ignored; the header `X-Ignored-Fields` names them.
    """
    note_ignored(request, body.ignored)
    if request.query_params:
        body = checked_with_query(ProcessVideoRequest, body.model_dump(exclude_unset=True), request)
    submitted = await services.jobs.submit(body.to_job_request(settings.backend_url), key=key)
    return views.view_submitted(submitted, settings.locale, request.scope.get("root_path", ""))


@contract_router.get(
    "/jobs/{job_id}",
    summary="A job",
    response_model=views.JobView,
    response_model_exclude_unset=True,
    responses=error_responses(404, 422, body=ContractErrorBody),
)
@needs(Scope.READ)
async def get_job(job_id: VisibleJobId, services: InjectedServices) -> Any:
    """Return a job, with its result once it has completed."""
    job = await services.jobs.get(job_id)
    waiting = job.status is JobStatus.QUEUED
    view = views.view_job(
        job,
        await services.jobs.queue_position(job_id) if waiting else None,
        None if job.status.is_final else await services.jobs.estimate_s(job_id),
    )
    return view if job.result_text is None else await answer_with_stored(view, "result", job.result_text)


@router.get("", summary="All jobs", response_model_exclude_unset=True, responses=error_responses(422))
@needs(Scope.READ)
async def list_jobs(
    services: InjectedServices,
    reader: Reader,
    key: Caller,
    status: Annotated[
        JobStatus | None, Query(description="`queued`: not begun yet, shown as `processing`; `processing`: begun")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before")] = None,
) -> views.JobPageView:
    """Return jobs, newest first, without their results, and without other keys' and visitors' own ones."""
    page = await services.jobs.page(status, limit, cursor, reader, key=key)
    left_s = await services.jobs.estimates_s(page.jobs)
    shown = [views.view_job(job, remaining_s=left_s.get(job.job_id)) for job in page.jobs]
    return views.JobPageView(jobs=shown, next_cursor=page.next_cursor)


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job",
    response_model_exclude_unset=True,
    responses=error_responses(403, 404, 422, own={409: "The job has completed or failed"}),
)
@needs(Scope.SUBMIT)
async def cancel_job(job_id: ChangeableJobId, services: InjectedServices) -> views.JobView:
    """Cancel a job: at once while it waits, at its next step while it runs; 409 once it has completed or failed."""
    return views.view_job(await services.jobs.cancel(job_id))


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Remove a job",
    responses=error_responses(403, 404, 422, own={409: "The job has not ended; cancel it first"}),
)
@needs(Scope.SUBMIT)
async def delete_job(job_id: ChangeableJobId, services: InjectedServices) -> None:
    """Remove an ended job's record and artefacts; 409 before its end."""
    await services.jobs.delete(job_id)


@router.get(
    "/{job_id}/events",
    summary="A job's events",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events `progress`, then one of `completed`, `failed`, `cancelled`",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The job has ended, and `Last-Event-ID` was its last event"},
        **error_responses(404, 422),
    },
)
@needs(Scope.READ)
async def job_events(
    job_id: VisibleJobId,
    services: InjectedServices,
    settings: InjectedSettings,
    last_event_id: Annotated[
        str, Header(description="resume after this event; what is no event of this job is ignored")
    ] = "",
) -> Response:
    """Stream the bodies of the job's callbacks: from the first, or after `Last-Event-ID`, until the job's end."""
    status = await services.jobs.status(job_id)
    events = services.jobs.events(job_id, int(last_event_id) if _SEQ.fullmatch(last_event_id) else 0)
    first = None
    if status.is_final:
        first = await anext(events, None)
        if first is None:
            return Response(status_code=204)  # the status that keeps a browser's EventSource from reconnecting
    return stream_events(events, first, heartbeat_s=settings.heartbeat_s, retry_ms=settings.retry_ms)


@router.get(
    "/{job_id}/result",
    summary="A job's result alone",
    response_class=Response,
    responses={
        200: {
            "description": "The `result` of the job. `ETag` is the SHA-256 of the body, in hexadecimal",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        206: {"description": "The part that `Range` asks for"},
        304: {"description": "`If-None-Match` has its `ETag`"},
        416: {"description": "The result has no byte of that range"},
        **error_responses(404, 422, own={409: "The job has not completed"}),
    },
)
@needs(Scope.READ)
async def get_result(job_id: VisibleJobId, request: Request, services: InjectedServices) -> Response:
    """Return the result as it is stored: the bytes that a callback's `result_sha256` is of."""
    job = await services.jobs.get(job_id)
    if job.result_text is None:
        state = views.shown_status(job.status)
        raise JobConflict(
            Sentence(
                "{job_id} is {state} and has no result; there is one once a job has completed",
                job_id=job_id,
                state=state,
            )
        )
    result = await asyncio.to_thread(StoredJson, job.result_text)
    return await answer_file(request, result, "application/json", {"Cache-Control": "private, no-cache"})


@router.get(
    "/{job_id}/transcript.{form}",
    summary="A job's transcript as a file",
    response_class=Response,
    responses={
        200: {
            "description": "UTF-8. Subtitles have at most two lines of 42 columns (wide characters take two)",
            "content": {form.media_type.partition(";")[0]: {"schema": {"type": "string"}} for form in TranscriptForm},
        },
        **error_responses(404, 422, own={409: "The job has not completed, or is no video job"}),
    },
)
@needs(Scope.READ)
async def job_transcript(job_id: VisibleJobId, form: TranscriptForm, services: InjectedServices) -> Response:
    """Return the transcript: subtitles (`srt`, `vtt`), paragraphs (`txt`), or words with times (`json`).

    Speakers are named: in WebVTT as voices; in SubRip and text, where there are several, before their words. 409 until
    the job has completed, and if it ended otherwise.
    """
    job = await services.jobs.get(job_id)
    if job.request.kind is not JobKind.VIDEO:
        raise JobConflict(
            Sentence(
                "{job_id} makes {kind} and has no transcript; only video jobs have one",
                job_id=job_id,
                kind=job.request.kind,
            )
        )
    if job.result_text is None:  # every completed job has one
        state = views.shown_status(job.status)
        raise JobConflict(
            Sentence(
                "{job_id} is {state} and has no transcript; there is one once a job has completed",
                job_id=job_id,
                state=state,
            )
        )
    # two hours of speech take a second
    content = await asyncio.to_thread(lambda: transcript_file(cast(AnalysisResult, job.result), form))
    # the id is safe in a header: JobId lets nothing else pass
    headers = {"Content-Disposition": f'attachment; filename="{job_id}.{form}"'}
    return Response(content, media_type=form.media_type, headers=headers)


@router.get("/{job_id}/deliveries", summary="A job's callbacks", responses=error_responses(404, 422))
@needs(Scope.READ)
async def list_deliveries(
    job_id: VisibleJobId, services: InjectedServices, settings: InjectedSettings
) -> views.DeliveriesView:
    """Return each event with the state of its delivery, without the result."""
    deliveries = await services.jobs.deliveries(job_id)
    told = [views.view_delivery(delivery, settings.locale) for delivery in deliveries]
    return views.DeliveriesView(job_id=job_id, deliveries=told)


@router.post(
    "/{job_id}/deliveries/replay",
    status_code=202,
    summary="Send a job's callbacks again",
    responses=error_responses(403, 404, 422),
)
@needs(Scope.SUBMIT)
async def replay_deliveries(job_id: ChangeableJobId, services: InjectedServices) -> views.ReplayView:
    """Queue all of a job's callbacks again, in order, each under its old `webhook-id`."""
    return views.ReplayView(job_id=job_id, replayed=await services.jobs.replay(job_id))
