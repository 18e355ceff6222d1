"""Speech as OpenAI's clients ask for it: change their base URL to `…/v1`, and they transcribe here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from serve_app.api import openai_view
from serve_app.api.dependencies import InjectedServices, InjectedSettings
from serve_app.api.disconnect import while_connected
from serve_app.api.event_stream import HEARTBEAT, EventStream, encode_block, or_heartbeats
from serve_app.api.failures import (
    OPENAI_PREFIX,
    ApiRoute,
    Failure,
    OpenAIErrorBody,
    describe,
    error_responses,
    log_failure,
    openai_error_body,
    openai_status,
)
from serve_app.api.options import ApiSettings
from serve_app.api.pump import Pump
from serve_app.api.schemas import checked
from serve_app.api.speech_forms import DEFAULT_MODEL, REPEATABLE_FIELDS, OpenAITranscriptionForm, form_content
from serve_app.api.subtitles import TranscriptForm, passages_of_segments, srt, vtt
from serve_app.api.transcription_view import full_text
from serve_app.api.uploads import is_multipart, open_upload
from serve_app.results import Segment
from serve_app.services import Services, Transcription, TranscriptionRequest


class OpenAIRoute(ApiRoute):
    """Tells failures as OpenAI does."""

    def max_bytes(self, request: Request, settings: ApiSettings) -> int:
        """Allow a form as much as a recording needs."""
        return settings.max_upload_bytes if is_multipart(request) else settings.max_body_bytes

    def failure_status(self, failure: Failure) -> int:
        """Return 400 for what is wrong with a request."""
        return openai_status(failure)

    def failure_content(self, failure: Failure, request: Request) -> dict[str, Any]:
        """Return OpenAI's error object."""
        if failure.status == 404:  # nothing else can be missing here
            return openai_error_body(failure, "model_not_found", "model")
        return openai_error_body(failure)


router = APIRouter(prefix=OPENAI_PREFIX, route_class=OpenAIRoute, tags=["openai"])


@router.post(
    "/audio/transcriptions",
    summary="Put a recording into words, as OpenAI does",
    response_class=Response,
    responses={
        200: {
            "description": "As `response_format` says; events with `stream`. `x-model-version` names who spoke",
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "text/plain": {"schema": {"type": "string"}},
                "application/x-subrip": {"schema": {"type": "string"}},
                "text/vtt": {"schema": {"type": "string"}},
                "text/event-stream": {"schema": {"type": "string"}},
            },
        },
        400: {"model": OpenAIErrorBody, "description": "The request is malformed, or the file has no audio"},
        **error_responses(413, 415, 429, 503, body=OpenAIErrorBody),
        404: {"model": OpenAIErrorBody, "description": "No such model"},
    },
    openapi_extra={"requestBody": {"required": True, "content": form_content(OpenAITranscriptionForm)}},
)
async def create_transcription(request: Request, services: InjectedServices, settings: InjectedSettings) -> Response:
    """Put a recording into words.

    `model` is a backend's name, or `whisper-1` for the first healthy one. A bearer token is accepted and not looked at.
    `temperature` and `chunking_strategy` are accepted and change nothing. Subtitles have at most two lines of 42
    columns. Events of a stream: `transcript.text.delta`, `transcript.text.segment` if asked for, at the end
    `transcript.text.done`, or `error`. The work ends if the client leaves.
    """
    if not is_multipart(request):
        raise HTTPException(415, "Send multipart/form-data with a file and a model")
    async with AsyncExitStack() as stack:
        upload = await stack.enter_async_context(open_upload(request, repeatable=REPEATABLE_FIELDS))
        form = checked(OpenAITranscriptionForm, upload.fields)
        wanted = TranscriptionRequest(
            file=upload.file,
            filename=upload.filename,
            language=form.language,
            backend=await _backend(services, form.model),
            prompt=form.prompt,
            align="word" in form.timestamp_granularities,
        )
        if not form.stream:
            heard = await while_connected(request, services.speech.transcribe(wanted))
            return await asyncio.to_thread(_answer, heard, form)
        pump = Pump(services.speech.stream(wanted))
        stack.push_async_callback(pump.close)
        # the answer begins with the first words, so that what goes wrong before them still has its status
        first = await while_connected(request, pump.next())
        blocks = _blocks(request, pump, first, settings, "segment" in form.timestamp_granularities)
        # from here on the answer holds the recording, which the service still reads
        return EventStream(blocks, stack.pop_all().aclose)


@router.get("/models", summary="What can be named as model", responses=error_responses(503, body=OpenAIErrorBody))
async def list_models(services: InjectedServices) -> openai_view.ModelListView:
    """Return the speech backends, and `whisper-1` for the first healthy one."""
    return openai_view.ModelListView(data=await _models(services))


@router.get(
    "/models/{model_id}",
    summary="One model",
    responses={404: {"model": OpenAIErrorBody, "description": "No such model"}},
)
async def get_model(model_id: str, services: InjectedServices) -> openai_view.ModelView:
    """Return one of them."""
    models = await _models(services)
    for model in models:
        if model.id == model_id:
            return model
    raise _not_found([model.id for model in models])


async def _models(services: Services) -> list[openai_view.ModelView]:
    return openai_view.view_models(list(await services.speech.backends()))


async def _backend(services: Services, model: str) -> str | None:
    """Return the backend that a model's name means; None: the first healthy one."""
    if model == DEFAULT_MODEL:
        return None
    names = [known.name for known in await services.speech.backends()]
    if model not in names:
        raise _not_found([DEFAULT_MODEL, *names] if names else [])
    return model


def _not_found(known: list[str]) -> HTTPException:
    return HTTPException(404, f"No such model; there are: {', '.join(known) or 'none'}")


def _answer(heard: Transcription, form: OpenAITranscriptionForm) -> Response:
    """Return the answer in the form that was asked for."""
    headers = {"X-Model-Version": quote(heard.transcript.model_version, safe=" /:;,+=@()")}
    match form.response_format:
        case "json":
            return Response(openai_view.brief_json(heard), media_type="application/json", headers=headers)
        case "verbose_json":
            content = openai_view.verbose_json(heard, frozenset(form.timestamp_granularities))
            return Response(content, media_type="application/json", headers=headers)
        case "text":
            text = full_text(heard.transcript) + "\n"
            return Response(text, media_type=TranscriptForm.TXT.media_type, headers=headers)
        case "srt":
            subtitles, media_type = srt, TranscriptForm.SRT.media_type
        case "vtt":
            subtitles, media_type = vtt, TranscriptForm.VTT.media_type
    return Response(subtitles(passages_of_segments(heard.transcript.segments)), media_type=media_type, headers=headers)


async def _blocks(
    request: Request,
    pump: Pump[Segment | Transcription],
    first: Segment | Transcription,
    settings: ApiSettings,
    with_segments: bool,
) -> AsyncGenerator[bytes, None]:
    num_segments, first_text = 0, True
    try:
        async for item in _from(first, or_heartbeats(pump, settings.heartbeat_s)):
            if item is None:
                yield HEARTBEAT
            elif isinstance(item, Transcription):
                yield _block(openai_view.done_event(item))
                return
            else:
                if item.text.strip():
                    yield _block(openai_view.delta_event(item, first=first_text))
                    first_text = False
                if with_segments:
                    yield _block(openai_view.segment_event(num_segments, item))
                num_segments += 1
    except Exception as error:
        # the status is out: OpenAI's clients raise at an event whose data is an error
        failure = describe(error, settings.locale)
        log_failure(failure, request, error)
        yield encode_block("error", openai_error_body(failure))


async def _from(
    first: Segment | Transcription, others: AsyncIterator[Segment | Transcription | None]
) -> AsyncIterator[Segment | Transcription | None]:
    yield first
    async for item in others:
        yield item


def _block(event: dict[str, Any]) -> bytes:
    return encode_block(event["type"], event)
