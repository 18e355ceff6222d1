"""Requests of `POST /transcribe`: a form with a recording, or a JSON object that names a file."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from serve_app.api.http.requests import MediaUrl, check_text, refusal
from serve_app.api.http.uploads import Upload, UploadForm
from serve_app.api.video.requests import AnalysisFields, Language, to_language_code
from serve_app.languages import WHISPER_LANGUAGES
from serve_app.results import AUTO
from serve_app.sentences import Sentence
from serve_app.services import AnalysisRequest, TranscriptionRequest

MAX_NAME_CHARS = 256
_MAX_PROMPT_CHARS = 8192  # Whisper reads the last 224 tokens
# a prompt may have tabs and line ends
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SPEAKERS = ("min_speakers", "max_speakers", "num_speakers")
_LANGUAGES = (AUTO, *WHISPER_LANGUAGES)


def _check_language(code: str) -> str:
    if code not in _LANGUAGES:
        sentence = Sentence("Use auto, ko, en, ja, zh, or the code of another language that Whisper knows")
        raise refusal("language_unknown", sentence)
    return code


def _check_prompt(text: str) -> str:
    return check_text(text, refused=_CONTROL_CHARACTER)


SpokenLanguage = Annotated[
    str,
    BeforeValidator(to_language_code),
    AfterValidator(_check_language),
    Field(
        description="language spoken, by its code or English name; `auto` detects it",
        json_schema_extra={"enum": list(_LANGUAGES)},
    ),
]
Prompt = Annotated[
    str,
    AfterValidator(_check_prompt),
    Field(
        max_length=_MAX_PROMPT_CHARS,
        description="text that the recording continues, or whose spelling and names it shares",
    ),
]
Backend = Annotated[
    str,
    Field(
        max_length=MAX_NAME_CHARS,
        description="a speech backend, as `GET /v1/models` lists them; absent: the first healthy one",
    ),
]
Align = Annotated[bool, Field(description="align words with the audio; false is faster, with rougher times")]


class TranscribeForm(UploadForm, AnalysisFields, frozen=True, extra="ignore"):
    """Form of `POST /transcribe`; the numbers of speakers, and emotions, are for `diarize=true`."""

    language: SpokenLanguage = AUTO  # type: ignore[assignment] # an upload may be in any of Whisper's languages
    backend: Backend | None = None
    prompt: Prompt | None = None
    align: Align = True
    diarize: bool = Field(
        default=False,
        validate_default=True,
        description="analyse the file in full, speakers included: the answer is that to a JSON object",
    )

    @field_validator("diarize")
    @classmethod
    def _check_diarize(cls, value: bool, info: ValidationInfo) -> bool:
        given = [name for name in _SPEAKERS if info.data.get(name) is not None]
        if given and not value:
            raise refusal("diarize_missing", Sentence("{names}: only with diarize=true", names=", ".join(given)))
        return value

    def to_transcription_request(self, upload: Upload) -> TranscriptionRequest:
        return TranscriptionRequest(
            upload.file,
            upload.filename,
            self.language,
            self.backend,
            self.prompt,
            self.align,
            enable_gpu=self.enable_gpu,
            max_workers=self.workers if "max_workers" in self.model_fields_set else None,
            notes=tuple(self.option_notes()),
            audio_track=self.audio_track,
        )

    def to_analysis_request(self, upload: Upload) -> AnalysisRequest:
        return AnalysisRequest(
            upload.file, backend=self.backend, prompt=self.prompt, align=self.align, **self.options()
        )


class TranscribeRequest(AnalysisFields, frozen=True, extra="ignore"):
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

    video_path: MediaUrl | None = None
    audio_path: MediaUrl | None = None
    video_url: MediaUrl | None = None
    language: Language = Field(default="en", description="language spoken; `auto` detects it")
    backend: Backend | None = None
    prompt: Prompt | None = None
    align: Align = True
    diarize: bool = Field(default=True, description="always true here: a form can leave speakers out")

    @field_validator("diarize")
    @classmethod
    def _check_diarize(cls, value: bool) -> bool:
        if not value:
            raise refusal("diarize_needed", Sentence("Only a form with a file can leave the speakers out"))
        return value

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if not self.source_url:
            raise refusal("source_missing", Sentence("Give one of audio_path, video_url, video_path"))
        return self

    @property
    def source_url(self) -> str:
        return self.audio_path or self.video_url or self.video_path or ""

    def to_analysis_request(self) -> AnalysisRequest:
        return AnalysisRequest(
            self.source_url, backend=self.backend, prompt=self.prompt, align=self.align, **self.options()
        )
