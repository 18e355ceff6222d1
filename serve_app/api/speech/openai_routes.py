"""Routes of speech for OpenAI's clients, which take `…/v1` as their base URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from serve_app.analysis.result import AnalysisResult
from serve_app.api.http.access import needs
from serve_app.api.http.answers import version_headers
from serve_app.api.http.disconnect import while_connected
from serve_app.api.http.event_stream import HEARTBEAT, EventStream, Pump, encode_block, or_heartbeats
from serve_app.api.http.failures import (
    OPENAI_PREFIX,
    ApiRoute,
    Failure,
    OpenAIErrorBody,
    describe,
    error_responses,
    log_failure,
    openai_error_body,
)
from serve_app.api.http.options import InjectedServices, InjectedSettings
from serve_app.api.http.requests import checked_with_query, is_multipart
from serve_app.api.http.uploads import form_content, open_upload
from serve_app.api.speech import openai_answers as answers
from serve_app.api.speech.answers import full_text
from serve_app.api.speech.openai_requests import (
    REFUSED_FIELDS,
    REPEATABLE_FIELDS,
    TRANSCRIPTION_ALIASES,
    TRANSLATION_ALIASES,
    OpenAITranscriptionForm,
    OpenAITranslationForm,
)
from serve_app.jobs.record import Scope
from serve_app.messages import Locale
from serve_app.results import Segment, SpeechTask
from serve_app.sentences import Sentence
from serve_app.services import AnalysisRequest, Services, Transcription, TranscriptionRequest
from serve_app.subtitles.files import TranscriptForm, passages_of_segments, srt, vtt


class OpenAIRoute(ApiRoute):
    """Answers failures in OpenAI's form."""

    takes_uploads = True

    def describe(self, error: Exception, locale: Locale) -> Failure:
        failure = describe(error, locale)
        return replace(failure, status=400) if failure.status == 422 else failure

    def failure_content(self, failure: Failure, request: Request) -> dict[str, Any]:
        if failure.status == 401:
            return openai_error_body(failure, "invalid_api_key")
        if failure.status == 404:  # nothing else can be missing here
            return openai_error_body(failure, "model_not_found", "model")
        return openai_error_body(failure)


router = APIRouter(prefix=OPENAI_PREFIX, route_class=OpenAIRoute, tags=["openai"])

_CONTENT: dict[str, Any] = {
    "application/json": {"schema": {"type": "object"}},
    "text/plain": {"schema": {"type": "string"}},
    "application/x-subrip": {"schema": {"type": "string"}},
    "text/vtt": {"schema": {"type": "string"}},
}
_NO_MODEL = {404: "No model has this name"}


def _failures(malformed: str) -> dict[int | str, dict[str, Any]]:
    return error_responses(413, 415, 429, 503, body=OpenAIErrorBody, own={400: malformed, **_NO_MODEL})


@router.post(
    "/audio/transcriptions",
    summary="Transcribe a recording, as OpenAI does",
    response_class=Response,
    responses={
        200: {
            "description": "As `response_format` says; events with `stream`. `x-model-version` names the model",
            "content": {**_CONTENT, "text/event-stream": {"schema": {"type": "string"}}},
        },
        **_failures("The request is malformed, or the file has no audio"),
    },
    openapi_extra={"requestBody": {"required": True, "content": form_content(OpenAITranscriptionForm)}},
)
@needs(Scope.SUBMIT)
async def create_transcription(request: Request, services: InjectedServices, settings: InjectedSettings) -> Response:
    """Transcribe a recording.

    `model` is a backend's name, or `whisper-1`, `gpt-4o-transcribe` and others for the first healthy one. `temperature`
    and `chunking_strategy` are checked and change nothing. `include[]`, `keywords[]`, `languages[]`,
    `known_speaker_names[]` and `known_speaker_references[]` are not supported: 400. Subtitles have at most two lines of
    42 columns.

    `diarized_json`, with any model, runs the pipeline of `POST /transcribe` with `diarize=true`, under the same limit
    of requests at once (503), and names the speakers A, B, … in order of appearance.

    Events of a stream: `transcript.text.delta`, `transcript.text.segment` if asked for, at the end
    `transcript.text.done`, or `error`. With `diarized_json` all of them come at the end, as speakers are only known
    then; each delta has its segment's id. The work ends if the client leaves.
    """
    async with AsyncExitStack() as stack:
        upload = await stack.enter_async_context(
            open_upload(_form(request), repeatable=REPEATABLE_FIELDS, refused=REFUSED_FIELDS)
        )
        form = checked_with_query(OpenAITranscriptionForm, dict(upload.fields), request)
        backend = await _named_backend(services, form.model, TRANSCRIPTION_ALIASES)
        if form.response_format == "diarized_json":
            analysis = AnalysisRequest(
                upload.file,
                language=form.language,
                emotion_detection=False,
                backend=backend,
                prompt=form.prompt,
                audio_track=form.audio_track,
            )
            result = await while_connected(request, services.analysis.analyze(analysis))
            return await asyncio.to_thread(_diarized, result, form.stream, settings.locale)
        wanted = TranscriptionRequest(
            file=upload.file,
            filename=upload.filename,
            language=form.language,
            backend=backend,
            prompt=form.prompt,
            align="word" in form.timestamp_granularities,
            audio_track=form.audio_track,
        )
        if not form.stream:
            transcription = await while_connected(request, services.speech.transcribe(wanted))
            return await asyncio.to_thread(
                _answer, transcription, form.response_format, form.timestamp_granularities, settings.locale
            )
        pump = Pump(services.speech.stream(wanted))
        stack.push_async_callback(pump.close)
        # the answer begins with the first words, so that a failure before them still has its status
        first = await while_connected(request, pump.next())
        items = or_heartbeats(first, pump, settings.heartbeat_s)
        blocks = _blocks(request, items, settings.locale, "segment" in form.timestamp_granularities)
        # from here on the answer holds the recording, which the service still reads
        return EventStream(blocks, stack.pop_all().aclose)


@router.post(
    "/audio/translations",
    summary="Translate a recording into English, as OpenAI does",
    response_class=Response,
    responses={
        200: {"description": "As `response_format` says. `x-model-version` names the model", "content": _CONTENT},
        **_failures("The request is malformed, the file has no audio, or the model can't translate"),
    },
    openapi_extra={"requestBody": {"required": True, "content": form_content(OpenAITranslationForm)}},
)
@needs(Scope.SUBMIT)
async def create_translation(request: Request, services: InjectedServices, settings: InjectedSettings) -> Response:
    """Translate a recording in any of the model's languages into English.

    `model` is a backend's name, or `whisper-1` for the first healthy one whose model can translate: Whisper's
    multilingual sizes but large-v3-turbo. `language` is that of the recording. OpenAI's own clients can't send it; it
    is detected then. Times are the model's own, without forced alignment. `temperature` is checked and changes
    nothing. The work ends if the client leaves.
    """
    async with open_upload(_form(request)) as upload:
        form = checked_with_query(OpenAITranslationForm, dict(upload.fields), request)
        wanted = TranscriptionRequest(
            file=upload.file,
            filename=upload.filename,
            language=form.language,
            backend=await _named_backend(services, form.model, TRANSLATION_ALIASES),
            prompt=form.prompt,
            align=False,
            task=SpeechTask.TRANSLATE,
            audio_track=form.audio_track,
        )
        transcription = await while_connected(request, services.speech.transcribe(wanted))
        return await asyncio.to_thread(
            _answer, transcription, form.response_format, (), settings.locale, SpeechTask.TRANSLATE
        )


def _form(request: Request) -> Request:
    if not is_multipart(request):
        raise HTTPException(415, Sentence("Send multipart/form-data with a file and a model"))
    return request


def _answer(
    transcription: Transcription,
    response_format: str,
    granularities: Sequence[str],
    locale: Locale,
    task: SpeechTask = SpeechTask.TRANSCRIBE,
) -> Response:
    headers = version_headers(transcription.transcript.model_version)
    match response_format:
        case "json":
            return Response(answers.brief_json(transcription), media_type="application/json", headers=headers)
        case "verbose_json":
            content = answers.verbose_json(transcription, frozenset(granularities), locale, task)
            return Response(content, media_type="application/json", headers=headers)
        case "text":
            text = full_text(transcription.transcript) + "\n"
            return Response(text, media_type=TranscriptForm.TXT.media_type, headers=headers)
        case "srt":
            subtitles, media_type = srt, TranscriptForm.SRT.media_type
        case "vtt":
            subtitles, media_type = vtt, TranscriptForm.VTT.media_type
        case _:
            raise AssertionError(f"no form checks for {response_format}")
    return Response(
        subtitles(passages_of_segments(transcription.transcript.segments)), media_type=media_type, headers=headers
    )


def _diarized(result: AnalysisResult, stream: bool, locale: Locale) -> Response:
    headers = version_headers(result["metadata"]["model_version"])
    if not stream:
        return Response(answers.diarized_json(result, locale), media_type="application/json", headers=headers)
    content = b"".join(_block(event) for event in answers.diarized_events(result))
    return Response(content, media_type="text/event-stream", headers=headers)


async def _blocks(
    request: Request, items: AsyncIterator[Segment | Transcription | None], locale: Locale, with_segments: bool
) -> AsyncGenerator[bytes, None]:
    num_segments, is_first = 0, True
    try:
        async for item in items:
            if item is None:
                yield HEARTBEAT
            elif isinstance(item, Transcription):
                yield _block(answers.done_event(full_text(item.transcript)))
                return
            else:
                if text := item.text.strip():
                    yield _block(answers.delta_event(text, is_first=is_first))
                    is_first = False
                if with_segments:
                    yield _block(answers.segment_event(num_segments, item.start_s, item.end_s, item.text))
                num_segments += 1
    except Exception as error:
        # the status is sent already: OpenAI's clients raise at an event whose data is an error
        failure = describe(error, locale)
        log_failure(failure, request, error)
        yield encode_block("error", openai_error_body(failure))


def _block(event: dict[str, Any]) -> bytes:
    return encode_block(event["type"], event)


@router.get(
    "/models", summary="The models that a request can name", responses=error_responses(503, body=OpenAIErrorBody)
)
@needs(Scope.SUBMIT)
async def list_models(services: InjectedServices) -> answers.ModelListView:
    """Return the speech backends, and OpenAI's names, each of which stands for the first healthy one."""
    return answers.ModelListView(data=await _model_views(services))


@router.get(
    "/models/{model_id}",
    summary="One model",
    responses=error_responses(body=OpenAIErrorBody, own=_NO_MODEL),
)
@needs(Scope.SUBMIT)
async def get_model(model_id: str, services: InjectedServices) -> answers.ModelView:
    """Return a model of `GET /v1/models`."""
    models = {model.id: model for model in await _model_views(services)}
    if model_id not in models:
        raise _not_found(list(models))
    return models[model_id]


async def _named_backend(services: Services, model: str, aliases: Sequence[str]) -> str | None:
    """Return the backend of a model's name, None for the first healthy one; HTTPException 404."""
    if model in aliases:
        return None
    names = [known.name for known in await services.speech.backends()]
    if model not in names:
        raise _not_found([*aliases, *names] if names else [])
    return model


async def _model_views(services: Services) -> list[answers.ModelView]:
    return answers.view_models(list(await services.speech.backends()))


def _not_found(known: list[str]) -> HTTPException:
    names = ", ".join(known) or Sentence("none")
    return HTTPException(404, Sentence("No such model; there are: {names}", names=names))
