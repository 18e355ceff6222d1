"""The JSON of a result, byte for byte (tests/data/analysis/README.md says where the files come from)."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from serve_app.analysis.assembly import RunFacts, assemble
from serve_app.analysis.attribution import SpokenSegment
from serve_app.analysis.result import AnalysisResult
from serve_app.results import (
    AcousticFeatures,
    Diarization,
    LabelScores,
    Segment,
    SpeakerTurn,
    Timing,
    Transcript,
    Word,
)

GOLDEN = Path(__file__).parents[2] / "data" / "analysis"

_SPOKEN = (
    SpokenSegment(
        Segment(
            0.50049,
            2.0,
            " Good morning, Daniel. ",
            (
                Word("Good", 0.50049, 0.8, 0.98765),
                Word("morning,", 0.8, 1.3, None),
                Word("Daniel.", 1.3, 2.0, 1.0, Timing.INTERPOLATED),
            ),
        ),
        "B",
    ),
    SpokenSegment(Segment(4.0, 4.5, "  ", (Word(" ", 4.0, 4.5, 0.1),)), "B"),
    SpokenSegment(
        Segment(
            3.0, 3.9999, "안녕하세요 “여러분”", (Word("안녕하세요", 3.0, 3.4, 0.5), Word("“여러분”", 3.4, 9.0, 0.25))
        ),
        "A",
    ),
    SpokenSegment(Segment(1, 2, "no words", ()), "B"),
)
_FEATURES = (
    AcousticFeatures(-20.123456, 150.0, 1500.5678),
    AcousticFeatures(-100.0, None, None),
    AcousticFeatures(-0.001, math.nan, math.inf),
    AcousticFeatures(-55.0, 99.999, 1e3),
    AcousticFeatures(-12, 220, 3000),
    AcousticFeatures(-12.345, 220.015, 3000.125),
)
_TRANSCRIPT = Transcript(tuple(part.segment for part in _SPOKEN), "en", "ears-1", ("heard badly",))
_TURNS = (SpeakerTurn(3.0, 9.0, "C"), SpeakerTurn(0.4, 1.6, "B"), SpeakerTurn(1.9, 2.6, "A"))
_DIARIZATION = Diarization(_TURNS, "voices-1", ("counted badly", "heard badly"))
_FACTS = RunFacts(8.00049, "auto", 1.23456, {"decode": 0.1234567, "merge": 0}, ("emotion is not configured",))
_SILENCE = Transcript((), "und", "none")

_CASES: dict[str, dict[str, Any]] = {
    "words": {},
    "emotions": {
        "emotions": (
            LabelScores("calm", {"calm": 0.87654, "angry": 0.12346}),
            None,
            None,
            LabelScores("sad", {"sad": 1}),
        ),
        "emotion_model_version": "moods-1",
    },
    "emotions_without_model_version": {"emotions": (None, None, None, None)},
    "no_speech": {"spoken": (), "features": (), "transcript": _SILENCE, "diarization": Diarization((), "none")},
    "no_speakers": {
        "spoken": tuple(replace(part, speaker_id=None) for part in _SPOKEN),
        "diarization": Diarization((), "voices-1"),
    },
    "speech_without_words": {
        "transcript": replace(_TRANSCRIPT, speech_without_words_s=1.23456),
        "facts": RunFacts(8, "en", 0),
    },
}


def text_of(result: Any) -> str:
    """Return a result as readable JSON: what `json.dumps` makes of it decides about every byte but the layout."""
    return json.dumps(result, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def built(case: dict[str, Any]) -> Any:
    inputs = {"spoken": _SPOKEN, "features": _FEATURES, "transcript": _TRANSCRIPT, "diarization": _DIARIZATION}
    inputs |= {"facts": _FACTS} | case
    return assemble(inputs.pop("spoken"), inputs.pop("features"), **inputs)


@pytest.mark.parametrize("name", _CASES)
def test_a_results_json_has_not_changed_by_a_byte(name: str) -> None:
    assert text_of(built(_CASES[name])) == (GOLDEN / f"{name}.json").read_text("utf-8")


@pytest.mark.parametrize("name", _CASES)
def test_a_result_is_what_its_type_says(name: str) -> None:
    checked = TypeAdapter(AnalysisResult).validate_python(json.loads(text_of(built(_CASES[name]))), strict=True)
    # pydantic leaves out what the type does not declare, and puts the declared keys in the type's order
    assert text_of(checked) == (GOLDEN / f"{name}.json").read_text("utf-8")
