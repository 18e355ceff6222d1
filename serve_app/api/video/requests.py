"""Requests as they come over the wire: what is accepted, and what a client is told otherwise.

Numbers and booleans are read as leniently as the systems replaced did ("4" and "true" are fine), and an explicit
null means "not given". Unknown fields and unsafe text are refused with a sentence that names the field.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, BinaryIO, Literal, Self, TypeVar
from urllib.parse import urlsplit

from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from serve_app.jobs.record import JobRequest
from serve_app.services import AnalysisRequest

JOB_ID_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$"
MAX_URL_CHARS = 8192  # presigned S3 URLs with session tokens reach about 2000

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Language = Literal["auto", "ko", "en", "ja", "zh"]


def _check_job_id(text: str) -> str:
    # fullmatch: Python's $ would let a trailing newline pass
    if not re.fullmatch(JOB_ID_PATTERN.strip("^$"), text, re.ASCII):
        raise PydanticCustomError(
            "job_id_malformed", "Use 1 to 128 letters, digits, '.', '_' or '-', not starting with '.'"
        )
    return text


def _check_text(text: str) -> str:
    if _CONTROL_CHARACTER.search(text):
        raise PydanticCustomError("control_character", "Control characters are not allowed")
    return text


def _check_callback_base(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises on a port that is none
    except ValueError as error:
        raise PydanticCustomError("callback_base_malformed", "Not a URL") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PydanticCustomError("callback_base_malformed", "Use an http:// or https:// URL with a host")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise PydanticCustomError(
            "callback_base_malformed", "Leave out user names, passwords, query and fragment: a path is appended"
        )
    return text.rstrip("/")


def _blank_to_none(value: Any) -> Any:
    return None if value == "" else value


JobId = Annotated[
    str,
    AfterValidator(_check_job_id),
    Field(
        description="1 to 128 letters, digits, '.', '_' or '-', not starting with '.'; a UUID is recommended",
        json_schema_extra={"pattern": JOB_ID_PATTERN},
    ),
]
MediaUrl = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARS), AfterValidator(_check_text)]
CallbackBase = Annotated[
    Annotated[str, Field(max_length=MAX_URL_CHARS), AfterValidator(_check_text), AfterValidator(_check_callback_base)]
    | None,
    BeforeValidator(_blank_to_none),
]
OptionalMediaUrl = Annotated[MediaUrl | None, BeforeValidator(_blank_to_none)]
NumSpeakers = Annotated[int, Field(ge=1, le=100)]


class WireRequest(BaseModel):
    """A JSON object whose every field is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(data, dict):
            data = {name: value for name, value in data.items() if value is not None or name not in cls.model_fields}
        try:
            return handler(data)
        except ValidationError as error:
            details = [
                InitErrorDetails(
                    type=PydanticCustomError(item["type"], cls._sentence(item["type"], item["msg"])),
                    loc=item["loc"],
                    input=None,
                )
                for item in error.errors(include_url=False, include_context=False, include_input=False)
            ]
            raise ValidationError.from_exception_data(cls.__name__, details) from error

    @classmethod
    def _sentence(cls, kind: str, sentence: str) -> Any:
        if kind == "extra_forbidden":
            return f"Unknown field. Allowed: {', '.join(cls.model_fields)}"
        if kind in ("model_type", "model_attributes_type"):
            return "Send a JSON object, with Content-Type: application/json"
        return sentence


_RequestT = TypeVar("_RequestT", bound=WireRequest)


def checked(kind: type[_RequestT], data: Any) -> _RequestT:
    """Return a request that a route has read by itself, told as FastAPI tells those that it reads.

    Raises:
        RequestValidationError: it names each wrong field.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        fields = [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)]
        raise RequestValidationError(fields) from error


class AnalysisOptions(WireRequest):
    """What every analysis of a file may ask for."""

    enable_gpu: bool = Field(default=True, description="false: this job must not use GPU replicas")
    emotion_detection: bool = Field(default=True, description="recognise emotion where a model for it is configured")
    language: Language = Field(default="auto", description="language spoken; `auto` detects it")
    max_workers: int = Field(default=4, ge=1, le=64, description="the most pieces of this file processed at once")
    min_speakers: NumSpeakers | None = Field(default=None, description="at least so many people speak")
    max_speakers: NumSpeakers | None = Field(default=None, description="at most so many people speak")
    num_speakers: NumSpeakers | None = Field(default=None, description="exactly so many people speak")

    @field_validator("max_speakers")
    @classmethod
    def _check_range(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("min_speakers")
        if value is not None and least is not None and value < least:
            raise PydanticCustomError("speakers_contradict", "max_speakers must not be below min_speakers")
        return value

    @field_validator("num_speakers")
    @classmethod
    def _check_number(cls, value: int | None, info: ValidationInfo) -> int | None:
        least, most = info.data.get("min_speakers"), info.data.get("max_speakers")
        if value is not None and ((least is not None and value < least) or (most is not None and value > most)):
            raise PydanticCustomError(
                "speakers_contradict", "num_speakers must lie between min_speakers and max_speakers"
            )
        return value

    def analysis_of(self, source: BinaryIO | str, **about: Any) -> AnalysisRequest:
        """Return the request as the analysis service takes it; `about`: what this kind of request has beside these."""
        return AnalysisRequest(
            source=source,
            language=self.language,
            enable_gpu=self.enable_gpu,
            emotion_detection=self.emotion_detection,
            max_workers=self.max_workers,
            num_speakers=self.num_speakers,
            min_speakers=self.min_speakers,
            max_speakers=self.max_speakers,
            **about,
        )


class ProcessVideoRequest(AnalysisOptions):
    """Body of `POST /api/upload-video/process-video`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "job_id": "550e8400-e29b-41d4-a716-446655440000",
                    "video_url": "https://s3.amazonaws.com/bucket/video.mp4",
                    "fastapi_base_url": "https://backend.example",
                    "enable_gpu": True,
                    "emotion_detection": True,
                    "language": "ko",
                    "max_workers": 4,
                }
            ]
        }
    )

    job_id: JobId
    video_url: MediaUrl = Field(description="https://, http://, s3://, or a local path under the media root")
    fastapi_base_url: CallbackBase = Field(default=None, description="base of the callback URL")

    def to_job_request(self, default_callback_base: str | None) -> JobRequest:
        """Return the request as the job store keeps it."""
        return JobRequest(
            job_id=self.job_id,
            video_url=self.video_url,
            callback_base=self.fastapi_base_url or default_callback_base,
            enable_gpu=self.enable_gpu,
            emotion_detection=self.emotion_detection,
            language=self.language,
            max_workers=self.max_workers,
            num_speakers=self.num_speakers,
            min_speakers=self.min_speakers,
            max_speakers=self.max_speakers,
        )


class TranscribeRequest(AnalysisOptions):
    """JSON body of `POST /transcribe`; `audio_path` wins over `video_url` wins over `video_path`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "video_url": "https://s3.amazonaws.com/bucket/video.mp4",
                    "enable_gpu": True,
                    "emotion_detection": True,
                    "language": "en",
                }
            ]
        }
    )

    video_path: OptionalMediaUrl = None
    audio_path: OptionalMediaUrl = None
    video_url: OptionalMediaUrl = None

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if not self.source_url:
            raise PydanticCustomError("source_missing", "Give one of audio_path, video_url, video_path")
        return self

    @property
    def source_url(self) -> str:
        """The file to analyse; empty if none was named."""
        return self.audio_path or self.video_url or self.video_path or ""
