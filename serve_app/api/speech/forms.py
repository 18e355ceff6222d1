"""The fields that come with an uploaded recording: what is accepted, and what a client is told otherwise."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from serve_app.api.http.uploads import FILE_FIELD, Upload
from serve_app.api.speech.languages import AUTO, WHISPER_LANGUAGES
from serve_app.api.video.requests import AnalysisOptions, WireRequest
from serve_app.services import AnalysisRequest, TranscriptionRequest

MAX_NAME_CHARS = 256
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


class TranscribeForm(UploadForm, AnalysisOptions):
    """Form of `POST /transcribe`; all options but `language` are for `diarize=true`."""

    language: SpokenLanguage = AUTO  # type: ignore[assignment] # an upload may be in any of Whisper's languages
    backend: str | None = Field(
        default=None,
        max_length=MAX_NAME_CHARS,
        description="a speech backend, as `GET /v1/models` lists them; absent: the first healthy one",
    )
    prompt: Prompt | None = None
    align: bool = Field(default=True, description="give words the best times that can be had; false is faster")
    diarize: bool = Field(
        default=False,
        validate_default=True,
        description="tell speakers apart and analyse the file in full: the answer is that to a JSON object",
    )

    @field_validator("diarize")
    @classmethod
    def _check_diarize(cls, value: bool, info: ValidationInfo) -> bool:
        options = {name: option for name, option in AnalysisOptions.model_fields.items() if name != "language"}
        given = [name for name, option in options.items() if info.data.get(name, option.default) != option.default]
        if given and not value:
            raise PydanticCustomError("diarize_missing", "{names}: only with diarize=true", {"names": ", ".join(given)})
        return value

    def to_transcription_request(self, upload: Upload) -> TranscriptionRequest:
        """Return the request as the speech service takes it."""
        return TranscriptionRequest(upload.file, upload.filename, self.language, self.backend, self.prompt, self.align)

    def to_analysis_request(self, upload: Upload) -> AnalysisRequest:
        """Return the request as the analysis service takes it."""
        return self.analysis_of(upload.file, backend=self.backend, prompt=self.prompt, align=self.align)


def form_content(form: type[BaseModel]) -> dict[str, Any]:
    """Return OpenAPI's description of a form and its recording."""
    schema = form.model_json_schema(by_alias=True)
    recording = {"type": "string", "format": "binary", "description": "audio or video in any common container"}
    schema["properties"] = {FILE_FIELD: recording, **schema["properties"]}
    schema["required"] = [FILE_FIELD, *schema.get("required", [])]
    return {"multipart/form-data": {"schema": schema}}
