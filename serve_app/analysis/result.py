"""`AnalysisResult`: the JSON object of a video analysis in callbacks, answers and the job store.

Its types describe JSON: a result is stored and sent without a conversion, also one that another version stored. Keys
that are `NotRequired` are absent where nothing was measured, and in results of earlier versions.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, with_config
from pydantic.config import JsonDict
from pydantic_core import core_schema
from typing_extensions import TypedDict  # pydantic cannot read the standard library's before Python 3.12

from serve_app.results import Timing

_Seconds = Annotated[float, Field(description="seconds from the start of the file")]
_Confidence = Annotated[float | None, Field(description="0 to 1; null where unknown")]
_Timing = Annotated[
    str,
    Field(
        description="`aligned`: found in the audio; `interpolated`: between words that were",
        json_schema_extra={"enum": [timing.value for timing in Timing]},
    ),
]


class ResultAcoustics(TypedDict):
    """How a word sounds."""

    volume_db: Annotated[float | None, Field(description="RMS in dBFS; 0 is full scale")]
    pitch_hz: Annotated[float | None, Field(description="median fundamental frequency; null where nothing is voiced")]
    spectral_centroid: Annotated[float | None, Field(description="Hz; null where there is no energy")]


class ResultWord(TypedDict):
    """A word of a segment."""

    word: str
    start: _Seconds
    end: _Seconds
    confidence: NotRequired[_Confidence]
    timing: NotRequired[_Timing]
    acoustic_features: ResultAcoustics


class ResultSpeaker(TypedDict):
    """The speaker of a segment."""

    speaker_id: Annotated[str, Field(examples=["SPEAKER_00"])]


class ResultEmotion(TypedDict):
    """The emotion of a segment."""

    label: Annotated[str, Field(description="the likeliest emotion")]
    scores: Annotated[dict[str, float | None], Field(description="of each of the model's emotions")]


class ResultSegment(TypedDict):
    """What one speaker says without a long pause."""

    start_time: _Seconds
    end_time: _Seconds
    text: str
    speaker: ResultSpeaker
    words: list[ResultWord]
    emotion: NotRequired[
        Annotated[
            ResultEmotion | None,
            Field(description="absent where emotions were not recognised; null where this one could not be"),
        ]
    ]


class ResultWordSegment(TypedDict):
    """A word with its speaker."""

    word: str
    start_time: _Seconds
    end_time: _Seconds
    speaker_id: str
    confidence: _Confidence
    timing: NotRequired[_Timing]


class ResultSpeakerTotals(TypedDict):
    """How much one speaker says."""

    total_duration: Annotated[float, Field(description="seconds of this speaker's segments, pauses inside included")]
    segment_count: int


class ResultTurn(TypedDict):
    """Uninterrupted speech of one speaker; turns of several speakers may overlap."""

    start_time: _Seconds
    end_time: _Seconds
    speaker_id: str


class ResultMetadata(TypedDict):
    """Models, counts, times and notes of the analysis."""

    model_version: Annotated[str, Field(description="the model that transcribed, after any fall-back")]
    diarization_model_version: NotRequired[str]
    emotion_model_version: NotRequired[str]
    processing_time: Annotated[float, Field(description="seconds")]
    unique_speakers: int
    total_segments: int
    language_requested: str
    language_detected: str
    processing_mode: Annotated[
        Literal["auto-detect", "targeted"], Field(description="`auto-detect` for the language `auto`")
    ]
    speech_seconds_without_words: NotRequired[float]
    stage_seconds: NotRequired[
        Annotated[dict[str, float], Field(description="by stage; stages that run side by side overlap")]
    ]
    notes: NotRequired[
        Annotated[list[str], Field(description="what was skipped, retried or degraded, and why, a sentence each")]
    ]


RESULT_EXAMPLE: JsonDict = {
    "segments": [
        {
            "start_time": 1.5,
            "end_time": 3.2,
            "text": "안녕하세요",
            "speaker": {"speaker_id": "SPEAKER_00"},
            "words": [
                {
                    "word": "안녕하세요",
                    "start": 1.5,
                    "end": 1.8,
                    "acoustic_features": {"volume_db": -20.0, "pitch_hz": 150.0, "spectral_centroid": 1500.0},
                }
            ],
        }
    ],
    "word_segments": [
        {"word": "안녕하세요", "start_time": 1.5, "end_time": 1.8, "speaker_id": "SPEAKER_00", "confidence": 0.95}
    ],
    "speakers": {"SPEAKER_00": {"total_duration": 45.2, "segment_count": 12}},
    "text": "…",
    "language": "ko",
    "duration": 120.5,
    "metadata": {
        "model_version": "whisperx-base",
        "processing_time": 45.2,
        "unique_speakers": 2,
        "total_segments": 35,
        "language_requested": "ko",
        "language_detected": "ko",
        "processing_mode": "targeted",
    },
}


@with_config(ConfigDict(json_schema_extra={"examples": [RESULT_EXAMPLE]}))
class AnalysisResult(TypedDict):
    """Who said what in a file, and when. Later versions may add fields, at any depth."""

    segments: list[ResultSegment]
    word_segments: list[ResultWordSegment]
    speakers: Annotated[dict[str, ResultSpeakerTotals], Field(description="by `speaker_id`")]
    text: str
    language: Annotated[str, Field(description="two-letter code of the language spoken; `und`: not detected")]
    duration: Annotated[float, Field(description="seconds")]
    speaker_turns: NotRequired[Annotated[list[ResultTurn], Field(description="the diarization itself")]]
    metadata: ResultMetadata


class Unchecked:
    """Annotation of a field that documents its type in OpenAPI and does not validate its value.

    A result that another version stored must not lose a key or gain one on its way out.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.json_or_python_schema(
            handler(source), core_schema.any_schema(), serialization=core_schema.simple_ser_schema("any")
        )
