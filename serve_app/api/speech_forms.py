"""The fields that come with an uploaded recording: what is accepted, and what a client is told otherwise."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from serve_app.api.languages import AUTO, WHISPER_LANGUAGES
from serve_app.api.schemas import WireRequest
from serve_app.api.uploads import FILE_FIELD

REPEATABLE_FIELDS = frozenset({"timestamp_granularities[]", "timestamp_granularities"})
DEFAULT_MODEL = "whisper-1"  # what tools ask OpenAI for; here: whichever backend is first

_MAX_NAME_CHARS = 256
_MAX_PROMPT_CHARS = 8192  # Whisper looks at the last 224 tokens
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LANGUAGES = (AUTO, *WHISPER_LANGUAGES)


def _fold(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _check_language(code: str) -> str:
    if code not in _LANGUAGES:
        raise PydanticCustomError(
            "language_unknown", "Use auto, ko, en, ja, zh, or the code of another language that Whisper knows"
        )
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


class UploadForm(WireRequest):
    """Fields beside a recording; a field that is empty counts as not given."""

    @classmethod
    def _sentence(cls, kind: str, sentence: str) -> Any:
        if kind == "extra_forbidden":
            names = (str(field.alias or name) for name, field in cls.model_fields.items())
            return f"Unknown field. Allowed: {', '.join((FILE_FIELD, *names))}"
        return super()._sentence(kind, sentence)


class TranscribeForm(UploadForm):
    """Form of `POST /transcribe`."""

    language: SpokenLanguage = AUTO
    backend: str | None = Field(
        default=None,
        max_length=_MAX_NAME_CHARS,
        description="a speech backend, as `GET /v1/models` lists them; absent: the first healthy one",
    )
    prompt: Prompt | None = None
    align: bool = Field(default=True, description="give words the best times that can be had; false is faster")


class OpenAITranscriptionForm(UploadForm):
    """Form of `POST /v1/audio/transcriptions`."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    model: str = Field(
        max_length=_MAX_NAME_CHARS,
        description=f"a speech backend, as `GET /v1/models` lists them, or `{DEFAULT_MODEL}`: the first healthy one",
    )
    language: SpokenLanguage = AUTO
    prompt: Prompt | None = None
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    temperature: float = Field(
        default=0.0, ge=0, le=1, allow_inf_nan=False, description="accepted and not used: decoding is deterministic"
    )
    chunking_strategy: str | None = Field(
        default=None, description="accepted and not used: recordings are always cut at silences"
    )
    stream: bool = Field(default=False, description="answer with server-sent events; with `json` and `text` only")
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        default_factory=list,
        max_length=8,
        alias="timestamp_granularities[]",
        validation_alias=AliasChoices("timestamp_granularities[]", "timestamp_granularities"),
        description="what `verbose_json` lists, by default `segment`; with `stream`, `segment` adds segment events",
    )

    @field_validator("stream")
    @classmethod
    def _check_stream(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("response_format") not in ("json", "text", None):
            raise PydanticCustomError("stream_unsupported", "Only response_format json and text can be streamed")
        return value

    @field_validator("timestamp_granularities")
    @classmethod
    def _check_granularities(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if info.data.get("stream"):
            if "word" in value:
                raise PydanticCustomError("granularity_unsupported", "Words can't be streamed; segments can")
        elif value and info.data.get("response_format") not in ("verbose_json", None):
            raise PydanticCustomError("granularity_unsupported", "This needs response_format verbose_json")
        return value


def form_content(form: type[BaseModel]) -> dict[str, Any]:
    """Return OpenAPI's description of a form and its recording."""
    schema = form.model_json_schema(by_alias=True)
    recording = {"type": "string", "format": "binary", "description": "audio or video in any common container"}
    schema["properties"] = {FILE_FIELD: recording, **schema["properties"]}
    schema["required"] = [FILE_FIELD, *schema.get("required", [])]
    return {"multipart/form-data": {"schema": schema}}
