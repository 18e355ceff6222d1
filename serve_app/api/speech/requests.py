"""Requests of `POST /transcribe`: a form with a recording, or a JSON object that names a file."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from serve_app.api.http.requests import OptionalMediaUrl
from serve_app.api.http.uploads import Upload, UploadForm
from serve_app.api.speech.languages import WHISPER_LANGUAGES
from serve_app.api.video.requests import AnalysisFields
from serve_app.jobs.record import AnalysisOptions
from serve_app.results import AUTO
from serve_app.services import AnalysisRequest, TranscriptionRequest

MAX_NAME_CHARS = 256
_MAX_PROMPT_CHARS = 8192  # Whisper reads the last 224 tokens
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LANGUAGES = (AUTO, *WHISPER_LANGUAGES)


def _fold(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _check_language(code: str) -> str:
    if code not in _LANGUAGES:
        sentence = "Use auto, ko, en, ja, zh, or the code of another language that Whisper knows"
        raise PydanticCustomError("language_unknown", sentence)
    return code


def _check_prompt(text: str) -> str:
    if _CONTROL_CHARACTER.search(text):
        raise PydanticCustomError("control_character", "Control characters are not allowed")
    return text


SpokenLanguage = Annotated[
    str,
    BeforeValidator(_fold),
    AfterValidator(_check_language),
    Field(description="language spoken; `auto` detects it", json_schema_extra={"enum": list(_LANGUAGES)}),
]
Prompt = Annotated[
    str,
    AfterValidator(_check_prompt),
    Field(
        max_length=_MAX_PROMPT_CHARS,
        description="text that the recording continues, or whose spelling and names it shares",
    ),
]


class TranscribeForm(UploadForm, AnalysisFields, frozen=True):
    """Form of `POST /transcribe`; all options but `language` are for `diarize=true`."""

    language: SpokenLanguage = AUTO  # type: ignore[assignment] # an upload may be in any of Whisper's languages
    backend: str | None = Field(
        default=None,
        max_length=MAX_NAME_CHARS,
        description="a speech backend, as `GET /v1/models` lists them; absent: the first healthy one",
    )
    prompt: Prompt | None = None
    align: bool = Field(default=True, description="align words with the audio; false is faster, with rougher times")
    diarize: bool = Field(
        default=False,
        validate_default=True,
        description="analyse the file in full, speakers included: the answer is that to a JSON object",
    )

    @field_validator("diarize")
    @classmethod
    def _check_diarize(cls, value: bool, info: ValidationInfo) -> bool:
        options = {option.name: option.default for option in fields(AnalysisOptions) if option.name != "language"}
        given = [name for name, default in options.items() if info.data.get(name, default) != default]
        if given and not value:
            raise PydanticCustomError("diarize_missing", "{names}: only with diarize=true", {"names": ", ".join(given)})
        return value

    def to_transcription_request(self, upload: Upload) -> TranscriptionRequest:
        return TranscriptionRequest(upload.file, upload.filename, self.language, self.backend, self.prompt, self.align)

    def to_analysis_request(self, upload: Upload) -> AnalysisRequest:
        return AnalysisRequest(
            upload.file, backend=self.backend, prompt=self.prompt, align=self.align, **self.options()
        )


class TranscribeRequest(AnalysisFields, frozen=True):
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
        return self.audio_path or self.video_url or self.video_path or ""

    def to_analysis_request(self) -> AnalysisRequest:
        return AnalysisRequest(self.source_url, **self.options())
