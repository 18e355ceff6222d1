"""Route of speech, answered at once: `POST /transcribe`, which takes two kinds of request on one path.

A JSON object names a file and runs a video job's pipeline; a form carries a recording, which is transcribed or, with
`diarize=true`, runs that pipeline too.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serve_app.api.http.access import needs
from serve_app.api.http.disconnect import while_connected
from serve_app.api.http.failures import ApiRoute, Failure
from serve_app.api.http.options import InjectedServices, InjectedSettings
from serve_app.api.http.requests import checked_with_query, is_json, is_multipart, media_type, read_json
from serve_app.api.http.uploads import form_content, open_upload, url_display_name
from serve_app.api.speech.answers import TranscribeView, UploadView, failed_upload, view_analysis, view_upload
from serve_app.api.speech.requests import TranscribeForm, TranscribeRequest
from serve_app.jobs.record import Scope
from serve_app.sentences import Locale, Sentence
from serve_app.services import Services

_MEDIA_TYPE_REFUSED = Sentence(
    "Send a file as multipart/form-data, or application/json with audio_path, video_url or video_path"
)


class TranscribeRoute(ApiRoute):
    """Answers failures in the form of the contract's answers."""

    takes_uploads = True

    def failure_content(self, failure: Failure, request: Request) -> dict[str, Any]:
        if is_multipart(request) and not getattr(request.state, "diarize", False):
            answer = failed_upload(failure.message, failure.contract_code)
        else:
            view = TranscribeView(success=False, error=failure.message, error_code=failure.contract_code)
            answer = view.model_dump()
        return answer if failure.fields is None else {**answer, "detail": failure.fields}


router = APIRouter(route_class=TranscribeRoute, tags=["speech"])

_FAILURE = {"model": UploadView | TranscribeView}


@router.post(
    "/transcribe",
    summary="Transcribe a recording, or analyse a file, and answer with the result",
    response_description="`UploadView` to a form, `TranscribeView` to a JSON object or a form with `diarize=true`",
    responses={
        400: {**_FAILURE, "description": "`DOWNLOAD_ERROR`: the file can't be fetched"},
        413: {**_FAILURE, "description": "The body, or the file (`DOWNLOAD_ERROR`), is too large"},
        415: {**_FAILURE, "description": "Neither a form nor JSON"},
        422: {
            **_FAILURE,
            "description": "Malformed request, no such backend, no audio (`AUDIO_EXTRACTION_ERROR`), unserved language",
        },
        429: {**_FAILURE, "description": "A queue is full; try again after `Retry-After` seconds"},
        500: {**_FAILURE, "description": "`PROCESSING_ERROR`: a model stage failed"},
        503: {
            **_FAILURE,
            "description": "`MODEL_LOADING_ERROR`, `GPU_MEMORY_ERROR`, not up yet (the error names the backends that"
            " are), or too many analyses at once; try again after `Retry-After` seconds",
        },
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                **form_content(TranscribeForm),
                "application/json": {"schema": TranscribeRequest.model_json_schema()},
            },
        }
    },
)
@needs(Scope.SUBMIT)
async def transcribe(
    request: Request, services: InjectedServices, settings: InjectedSettings
) -> UploadView | TranscribeView:
    """Transcribe an uploaded recording (form), or run a video job's pipeline on a file (JSON object).

    Form: `file`, `language`, `backend`. No other backend replaces one that is not deployed (422) or not healthy (503).
    With `diarize=true` a form runs that pipeline too, with the options and the answer of a JSON object. JSON:
    `audio_path` wins over `video_url` wins over `video_path`. The options may come in the query, too. Fields that are
    unknown here are ignored; the header `X-Ignored-Fields` names them. The work ends if the client leaves.
    """
    if is_multipart(request):
        return await _transcribe_upload(request, services, settings.locale)
    if media_type(request) and not is_json(request):  # the old server took a body of no type as JSON
        raise HTTPException(415, _MEDIA_TYPE_REFUSED)
    body = checked_with_query(TranscribeRequest, await read_json(request), request)
    if body.backend is not None:
        await _check_deployed(services, body.backend)
    result = await while_connected(request, services.analysis.analyze(body.to_analysis_request()))
    return view_analysis(result, url_display_name(body.source_url), settings.locale)


async def _transcribe_upload(request: Request, services: Services, locale: Locale) -> UploadView | TranscribeView:
    async with open_upload(request, known=TranscribeForm.known_names()) as upload:
        started_s = time.perf_counter()  # without the time that the client took to send it
        # decides the form of a failure's answer, also where another field is wrong
        request.state.diarize = _is_true(upload.fields.get("diarize", request.query_params.get("diarize")))
        form = checked_with_query(TranscribeForm, dict(upload.fields), request)
        if form.backend is not None:
            await _check_deployed(services, form.backend)
        if form.diarize:
            result = await while_connected(request, services.analysis.analyze(form.to_analysis_request(upload)))
            return view_analysis(result, upload.filename, locale)
        transcription = await while_connected(
            request, services.speech.transcribe(form.to_transcription_request(upload))
        )
        took_s = time.perf_counter() - started_s
        # two hours of speech take 0.15 s
        return await asyncio.to_thread(
            view_upload,
            transcription,
            filename=upload.filename,
            language_requested=form.language,
            took_s=took_s,
            locale=locale,
        )


async def _check_deployed(services: Services, backend: str) -> None:
    names = [known.name for known in await services.speech.backends()]
    if backend not in names:
        sentence = Sentence("No such backend; deployed: {names}", names=", ".join(names) or Sentence("none"))
        raise RequestValidationError([{"type": "backend_unknown", "loc": ("body", "backend"), "msg": sentence}])


def _is_true(value: str | list[str] | None) -> bool:
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return False
