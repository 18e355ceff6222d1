"""Requests of OpenAI's speech routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from serve_app.api.http.requests import refusal
from serve_app.api.http.uploads import UploadForm
from serve_app.api.speech.requests import MAX_NAME_CHARS, Prompt, SpokenLanguage
from serve_app.jobs.record import AudioTrack
from serve_app.results import AUTO
from serve_app.sentences import Sentence

DEFAULT_MODEL = "whisper-1"
# What clients ask OpenAI for (openai.types.AudioModel); here each is whichever backend is first.
TRANSCRIPTION_ALIASES = (
    DEFAULT_MODEL,
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
)
TRANSLATION_ALIASES = (DEFAULT_MODEL,)

REPEATABLE_FIELDS = frozenset({"timestamp_granularities[]", "timestamp_granularities"})
_UNKNOWN_SPEAKERS = Sentence(
    "Known voices are not supported: diarized_json names the speakers A, B, …. Leave this field out"
)
_REFUSED = {
    "include": Sentence(
        "Log probabilities of tokens are not supported: verbose_json has each segment's. Leave this field out"
    ),
    "keywords": Sentence("Keywords are not supported: write them into prompt"),
    "known_speaker_names": _UNKNOWN_SPEAKERS,
    "known_speaker_references": _UNKNOWN_SPEAKERS,
    "languages": Sentence(
        "Several languages are not supported: name one in language, or leave it out to have it detected"
    ),
}
# refused, not ignored: a client that expects what it asked for would fail later, or be misled
REFUSED_FIELDS = {name + suffix: why for name, why in _REFUSED.items() for suffix in ("", "[]")}

Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]
_NOT_USED = "accepted and not used: recordings are always cut at silences"


class OpenAIForm(UploadForm, frozen=True):
    """What both routes take."""

    model: str = Field(
        max_length=MAX_NAME_CHARS,
        description=f"a name that `GET /v1/models` lists: a speech backend's, or e.g. `{DEFAULT_MODEL}` for the first"
        " healthy one",
    )
    language: SpokenLanguage = AUTO
    prompt: Prompt | None = None
    audio_track: AudioTrack | None = None
    temperature: float = Field(
        default=0.0, ge=0, le=1, allow_inf_nan=False, description="accepted and not used: decoding is deterministic"
    )


class OpenAITranslationForm(OpenAIForm, frozen=True):
    """Form of `POST /v1/audio/translations`."""

    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"


class OpenAITranscriptionForm(OpenAIForm, frozen=True):
    """Form of `POST /v1/audio/transcriptions`."""

    response_format: Literal["json", "text", "srt", "vtt", "verbose_json", "diarized_json"] = "json"
    chunking_strategy: Literal["auto"] | None = Field(default=None, description=_NOT_USED)
    # a client sends an object field by field
    chunking_type: Literal["server_vad"] | None = Field(
        default=None, alias="chunking_strategy[type]", description=_NOT_USED
    )
    chunking_threshold: float | None = Field(
        default=None, ge=0, le=1, alias="chunking_strategy[threshold]", description=_NOT_USED
    )
    chunking_prefix_padding_ms: Milliseconds | None = Field(
        default=None, alias="chunking_strategy[prefix_padding_ms]", description=_NOT_USED
    )
    chunking_silence_duration_ms: Milliseconds | None = Field(
        default=None, alias="chunking_strategy[silence_duration_ms]", description=_NOT_USED
    )
    stream: bool = Field(
        default=False, description="answer with server-sent events; with `json`, `text` and `diarized_json` only"
    )
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        default_factory=list,
        max_length=8,
        alias="timestamp_granularities[]",
        validation_alias=AliasChoices("timestamp_granularities[]", "timestamp_granularities"),
        description="what `verbose_json` lists, by default `segment`; with `stream`, `segment` adds segment events",
    )

    @field_validator("chunking_threshold", "chunking_prefix_padding_ms", "chunking_silence_duration_ms")
    @classmethod
    def _check_chunking(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("chunking_type", "") is None:
            sentence = Sentence("Send chunking_strategy[type]=server_vad with this field")
            raise refusal("chunking_type_missing", sentence)
        return value

    @field_validator("stream")
    @classmethod
    def _check_stream(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("response_format") not in ("json", "text", "diarized_json", None):
            sentence = Sentence("Only response_format json, text and diarized_json can be streamed")
            raise refusal("stream_unsupported", sentence)
        return value

    @field_validator("timestamp_granularities")
    @classmethod
    def _check_granularities(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if info.data.get("stream"):
            if "word" in value:
                raise refusal("granularity_unsupported", Sentence("Words can't be streamed; segments can"))
        elif value and info.data.get("response_format") not in ("verbose_json", None):
            sentence = Sentence("Timestamps need response_format verbose_json")
            raise refusal("granularity_unsupported", sentence)
        return value
