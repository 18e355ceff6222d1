"""Requests of video jobs."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from serve_app.api.http.requests import MAX_URL_CHARS, MediaUrl, WireRequest, check_text, refusal, without_blanks
from serve_app.jobs.record import AnalysisOptions, VideoRequest
from serve_app.languages import language_code
from serve_app.sentences import Sentence

JOB_ID_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$"


def to_language_code(value: Any) -> Any:
    """Return the code of a language that is written in another way; what is no text stays as it is."""
    return language_code(value) if isinstance(value, str) else value


Language = Literal["auto", "ko", "en", "ja", "zh"]


def _check_job_id(text: str) -> str:
    # fullmatch: Python's $ would let a trailing newline pass
    if not re.fullmatch(JOB_ID_PATTERN.strip("^$"), text, re.ASCII):
        sentence = Sentence("Use 1 to 128 letters, digits, '.', '_' or '-', not starting with '.'")
        raise refusal("job_id_malformed", sentence)
    return text


def _check_callback_base(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises on a port that is none
    except ValueError as error:
        raise refusal("callback_base_malformed", Sentence("Not a URL")) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise refusal("callback_base_malformed", Sentence("Use an http:// or https:// URL with a host"))
    if parts.query or parts.fragment or "@" in parts.netloc:
        sentence = Sentence("Leave out user names, passwords, query and fragment: a path is appended")
        raise refusal("callback_base_malformed", sentence)
    return text.rstrip("/")


JobId = Annotated[
    str,
    AfterValidator(_check_job_id),
    Field(
        description="1 to 128 letters, digits, '.', '_' or '-', not starting with '.'; a UUID is recommended",
        json_schema_extra={"pattern": JOB_ID_PATTERN},
    ),
]
CallbackBase = (
    Annotated[
        str,
        Field(max_length=MAX_URL_CHARS),
        AfterValidator(check_text),
        AfterValidator(_check_callback_base),
        BeforeValidator(without_blanks),
    ]
    | None
)


class AnalysisFields(WireRequest, AnalysisOptions, frozen=True):
    """The options of an analysis: fields of every request for one."""

    language: Language = Field(default="auto", description="language spoken; `auto` detects it")

    # no annotation: pydantic drops those of fields that a dataclass has too
    _to_language_code = field_validator("language", mode="before")(to_language_code)

    @field_validator("max_speakers")
    @classmethod
    def _check_range(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("min_speakers")
        if value is not None and least is not None and value < least:
            raise refusal("speakers_contradict", Sentence("max_speakers must not be below min_speakers"))
        return value

    @field_validator("num_speakers")
    @classmethod
    def _check_number(cls, value: int | None, info: ValidationInfo) -> int | None:
        least, most = info.data.get("min_speakers"), info.data.get("max_speakers")
        if value is not None and ((least is not None and value < least) or (most is not None and value > most)):
            sentence = Sentence("num_speakers must lie between min_speakers and max_speakers")
            raise refusal("speakers_contradict", sentence)
        return value


class ProcessVideoRequest(AnalysisFields, frozen=True, extra="ignore"):
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

    def to_job_request(self, default_callback_base: str | None) -> VideoRequest:
        return VideoRequest(
            job_id=self.job_id,
            video_url=self.video_url,
            callback_base=self.fastapi_base_url,
            default_callback_base=None if self.fastapi_base_url else default_callback_base,
            **self.options(),
        )
