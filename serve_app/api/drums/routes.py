"""Route of drum transcription: recordings in, General MIDI out, answered at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from serve_app.api.drums.answers import MIDI_TYPES, DrumBatchView, DrumView, midi_disposition, view_drums
from serve_app.api.drums.requests import DrumForm, drum_form_content
from serve_app.api.http.accept import JSON, preferred
from serve_app.api.http.access import needs
from serve_app.api.http.answers import version_headers
from serve_app.api.http.disconnect import while_connected
from serve_app.api.http.failures import ApiRoute, FileFailureView, describe, error_responses, failed_item
from serve_app.api.http.options import InjectedServices, InjectedSettings
from serve_app.api.http.requests import checked_with_query, is_multipart
from serve_app.api.http.uploads import UploadedFile, open_uploads
from serve_app.jobs.record import Scope
from serve_app.sentences import Locale, Sentence
from serve_app.services import DrumRecording, DrumTranscription

MAX_FILES = 32  # more are better sent in several requests: one lost connection costs them all


class DrumRoute(ApiRoute):
    takes_uploads = True


router = APIRouter(route_class=DrumRoute, tags=["drums"])


@router.post(
    "/transcribe-drums",
    summary="Transcribe drums to General MIDI",
    response_model=DrumView | DrumBatchView,
    response_description="`DrumView` of one recording, `DrumBatchView` of several; MIDI where `Accept` asks for it",
    responses={
        200: {"content": {MIDI_TYPES[0]: {"schema": {"type": "string", "format": "binary"}}}},
        **error_responses(406, 413, 415, 422, 429, 503, own={500: "`PROCESSING_ERROR`: the model failed"}),
    },
    openapi_extra={"requestBody": {"required": True, "content": drum_form_content(MAX_FILES)}},
)
@needs(Scope.SUBMIT)
async def transcribe_drums(request: Request, services: InjectedServices, settings: InjectedSettings) -> Response:
    """Return the kick, snare and hi-hat of a recording: hits with velocities, the tempo, a MIDI file and a text log.

    `Accept: audio/midi` answers the MIDI file alone, for one recording; JSON otherwise. Several parts named `file` are
    a batch: each has an answer of its own, and a failure of one is not the others'. The work ends if the client leaves.
    """
    if not is_multipart(request):
        raise HTTPException(415, Sentence("Send multipart/form-data with one file or several"))
    async with open_uploads(request, max_files=MAX_FILES) as form:
        options = checked_with_query(DrumForm, dict(form.fields), request).options()
        wanted = preferred(request, (JSON, *MIDI_TYPES))
        if wanted != JSON:
            options = replace(options, with_picture=False)  # a MIDI file has no place for it
            if len(form.files) > 1:
                sentence = Sentence(
                    "Several files can only be answered as JSON: accept application/json, or send one file"
                )
                raise HTTPException(406, sentence)
        recordings = [DrumRecording(sent.file, sent.filename) for sent in form.files]
        answers = await while_connected(request, services.drums.transcribe(recordings, options))
        if len(answers) == 1:
            [answer] = answers
            if isinstance(answer, Exception):
                raise answer
            if wanted != JSON:
                disposition = {"Content-Disposition": midi_disposition(form.files[0].filename), "Vary": "Accept"}
                headers = disposition | version_headers(answer.transcript.model_version)
                return Response(answer.midi, media_type=wanted, headers=headers)
            name = form.files[0].filename
            view = await asyncio.to_thread(lambda: view_drums(answer, name, settings.locale).model_dump_json())
        else:
            items = [
                failed_item(sent.filename, describe(answer, settings.locale), request, answer)
                if isinstance(answer, Exception)
                else answer
                for answer, sent in zip(answers, form.files, strict=True)
            ]
            view = await asyncio.to_thread(_several, items, form.files, settings.locale)
        # not by FastAPI, which would check and write half a million hits on the loop
        return Response(view, media_type=JSON, headers={"Vary": "Accept"})


def _several(answers: list[DrumTranscription | dict[str, Any]], files: tuple[UploadedFile, ...], locale: Locale) -> str:
    results = [
        FileFailureView.model_validate(answer)
        if isinstance(answer, dict)
        else view_drums(answer, sent.filename, locale)
        for answer, sent in zip(answers, files, strict=True)
    ]
    return DrumBatchView(results=results).model_dump_json()
