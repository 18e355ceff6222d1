"""Speech, answered at once: the JSON form of `POST /transcribe`, which runs a video job's pipeline."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serve_app.api.dependencies import InjectedServices
from serve_app.api.failures import ApiRoute, Failure
from serve_app.api.schemas import TranscribeRequest
from serve_app.api.views import timestamp

_MEDIA_TYPE_REFUSED = (
    "Send application/json with audio_path, video_url or video_path; "
    "uploading a file as multipart/form-data needs a Whisper backend, and none is deployed"
)


class TranscribeView(BaseModel):
    """Answer of `POST /transcribe`, also for a failure."""

    success: bool
    segments: list[Any] = Field(description="as in a job's result")
    speakers: dict[str, Any]
    metadata: dict[str, Any]
    processing_time: float = Field(description="seconds")
    error: str | None
    error_code: str | None


class TranscribeRoute(ApiRoute):
    """Tells failures as the contract's answer does."""

    def failure_content(self, failure: Failure, request: Request) -> dict[str, Any]:
        """Return the answer with `success: false`; a malformed request's fields under FastAPI's `detail`."""
        answer: dict[str, Any] = {
            "success": False,
            "segments": [],
            "speakers": {},
            "metadata": {},
            "processing_time": 0.0,
            "error": failure.message,
            "error_code": failure.contract_code,
        }
        return answer if failure.fields is None else {**answer, "detail": failure.fields}


router = APIRouter(route_class=TranscribeRoute, tags=["speech"])

_FAILURE = {"model": TranscribeView}


@router.post(
    "/transcribe",
    summary="Analyse a file and answer with the result",
    responses={
        400: {**_FAILURE, "description": "`DOWNLOAD_ERROR`: the file can't be fetched"},
        413: {**_FAILURE, "description": "The body, or the file (`DOWNLOAD_ERROR`), is too large"},
        415: {**_FAILURE, "description": "Not JSON"},
        422: {**_FAILURE, "description": "Malformed request, no audio (`AUDIO_EXTRACTION_ERROR`), language not served"},
        429: {**_FAILURE, "description": "A queue is full; try again after `Retry-After` seconds"},
        500: {**_FAILURE, "description": "`PROCESSING_ERROR`: a model stage failed"},
        503: {**_FAILURE, "description": "`MODEL_LOADING_ERROR`, `GPU_MEMORY_ERROR`, or not up yet"},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": TranscribeRequest.model_json_schema()}},
        }
    },
)
async def transcribe(request: Request, services: InjectedServices) -> TranscribeView:
    """Run a video job's pipeline on one file; `audio_path` wins over `video_url` wins over `video_path`."""
    started_s = time.perf_counter()
    body = await _read(request)
    result = await services.analysis.analyze(body.to_analysis_request())
    return _view(result, body.source_url, time.perf_counter() - started_s)


async def _read(request: Request) -> TranscribeRequest:
    """Read the body by hand: two kinds of request share this path, which FastAPI's parameters can't say."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise HTTPException(415, _MEDIA_TYPE_REFUSED)
    raw = await request.body()
    try:
        # not model_validate_json: its errors would not be those that every other route tells
        return TranscribeRequest.model_validate(json.loads(raw))
    except ValidationError as error:
        fields = [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)]
        raise RequestValidationError(fields) from error
    except (ValueError, RecursionError) as error:
        field = {"type": "json_invalid", "loc": ("body",), "msg": "JSON decode error"}
        raise RequestValidationError([field]) from error


def _view(result: Mapping[str, Any], source_url: str, took_s: float) -> TranscribeView:
    """Give the contract's answer for a result; times and counts are those that the pipeline measured."""
    facts = result["metadata"]
    processing_time = facts.get("processing_time", round(took_s, 2))
    metadata = {
        "filename": _display_name(source_url),
        "duration": result["duration"],
        "total_segments": facts["total_segments"],
        "unique_speakers": facts["unique_speakers"],
        "processing_time": processing_time,
        "language_requested": facts["language_requested"],
        "language_detected": facts["language_detected"],
        "processing_mode": facts["processing_mode"],
        "processed_at": timestamp(time.time()),
    }
    # what a job's metadata tells beyond the contract (model, stage times, notes) belongs here as well
    metadata |= {name: value for name, value in facts.items() if name not in metadata}
    return TranscribeView(
        success=True,
        segments=result["segments"],
        speakers=result["speakers"],
        metadata=metadata,
        processing_time=processing_time,
        error=None,
        error_code=None,
    )


def _display_name(source_url: str) -> str:
    try:
        path = urlsplit(source_url).path
    except ValueError:
        path = source_url
    return unquote(path).replace("\\", "/").rstrip("/").rpartition("/")[2] or "media"
