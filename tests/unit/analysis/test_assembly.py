"""The result object."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from serve_app.analysis.assembly import RunFacts, assemble
from serve_app.analysis.attribution import SpokenSegment, attribute
from serve_app.models.speech.joining import join_transcripts
from serve_app.results import (
    AcousticFeatures,
    Diarization,
    LabelScores,
    Segment,
    SpeakerTurn,
    Transcript,
    Word,
)

SOUND = AcousticFeatures(-20.123456, 150.0, 1500.5678)
FACTS = RunFacts(
    duration_s=5.00049,
    language_requested="en",
    processing_time_s=1.23456,
    stage_seconds={"decode": 0.1234567},
    notes=("emotion recognition is not configured",),
)
WORDS = (Word("Hello", 0.50049, 1.0, 0.98765), Word("there", 1.0, 1.5, None), Word("Hi", 2.0, 2.5, 1.0))
TRANSCRIPT = Transcript((Segment(0.5, 2.5, "Hello there. Hi!", WORDS),), "en", "ears-1", ("heard badly",))
TURNS = (SpeakerTurn(0.4, 1.6, "B"), SpeakerTurn(1.9, 2.6, "A"), SpeakerTurn(3.0, 9.0, "C"))
DIARIZATION = Diarization(TURNS, "voices-1", ("counted badly", "heard badly"))


def result(
    transcript: Transcript = TRANSCRIPT, diarization: Diarization = DIARIZATION, facts: RunFacts = FACTS, sound=SOUND
):
    spoken = attribute(transcript.segments, diarization.turns)
    num_words = sum(len(part.segment.words) for part in spoken)
    return assemble(spoken, [sound] * num_words, transcript=transcript, diarization=diarization, facts=facts)


def test_the_whole_object_is_the_contracts():
    def word(text, start, end, confidence):
        sound = {"volume_db": -20.12, "pitch_hz": 150.0, "spectral_centroid": 1500.57}
        timed = {"word": text, "start": start, "end": end, "confidence": confidence, "timing": "aligned"}
        return timed | {"acoustic_features": sound}

    def word_segment(text, start, end, speaker, confidence):
        timed = {"word": text, "start_time": start, "end_time": end, "speaker_id": speaker}
        return timed | {"confidence": confidence, "timing": "aligned"}

    assert result() == {
        "segments": [
            {
                "start_time": 0.5,
                "end_time": 1.5,
                "text": "Hello there.",
                "speaker": {"speaker_id": "SPEAKER_00"},
                "words": [word("Hello", 0.5, 1.0, 0.988), word("there", 1.0, 1.5, None)],
            },
            {
                "start_time": 2.0,
                "end_time": 2.5,
                "text": "Hi!",
                "speaker": {"speaker_id": "SPEAKER_01"},
                "words": [word("Hi", 2.0, 2.5, 1.0)],
            },
        ],
        "word_segments": [
            word_segment("Hello", 0.5, 1.0, "SPEAKER_00", 0.988),
            word_segment("there", 1.0, 1.5, "SPEAKER_00", None),
            word_segment("Hi", 2.0, 2.5, "SPEAKER_01", 1.0),
        ],
        "speakers": {
            "SPEAKER_00": {"total_duration": 1.0, "segment_count": 1},
            "SPEAKER_01": {"total_duration": 0.5, "segment_count": 1},
        },
        "text": "Hello there. Hi!",
        "language": "en",
        "duration": 5.0,
        "speaker_turns": [
            {"start_time": 0.4, "end_time": 1.6, "speaker_id": "SPEAKER_00"},
            {"start_time": 1.9, "end_time": 2.6, "speaker_id": "SPEAKER_01"},
            {"start_time": 3.0, "end_time": 5.0, "speaker_id": "SPEAKER_02"},
        ],
        "metadata": {
            "model_version": "ears-1",
            "diarization_model_version": "voices-1",
            "processing_time": 1.235,
            "unique_speakers": 2,
            "total_segments": 2,
            "language_requested": "en",
            "language_detected": "en",
            "processing_mode": "targeted",
            "stage_seconds": {"decode": 0.123},
            "notes": ["emotion recognition is not configured", "heard badly", "counted badly"],
        },
    }


def test_it_is_json_even_where_figures_are_not_numbers():
    sound = AcousticFeatures(-100.0, None, math.nan)
    transcript = Transcript((Segment(0, 1, "a", (Word("a", 0, 1, math.inf),)),), "en", "m")
    found = json.loads(json.dumps(result(transcript, sound=sound), allow_nan=False))
    word = found["segments"][0]["words"][0]
    assert word["acoustic_features"] == {"volume_db": -100.0, "pitch_hz": None, "spectral_centroid": None}
    assert word["confidence"] is None


def test_no_speech_gives_empty_lists_and_no_text():
    silent = join_transcripts([])
    facts = RunFacts(duration_s=3.0, language_requested="auto", processing_time_s=0.1)
    found = result(silent, Diarization((), "voices-1"), facts)
    assert (found["segments"], found["word_segments"], found["speakers"], found["text"]) == ([], [], {}, "")
    assert found["speaker_turns"] == []
    assert found["metadata"]["total_segments"] == found["metadata"]["unique_speakers"] == 0
    assert found["metadata"]["processing_mode"] == "auto-detect"
    assert found["language"] == "und"
    assert join_transcripts([], language="ko").language == "ko"


def test_words_without_any_speaker_are_one_speakers_and_a_note_says_so():
    found = result(diarization=Diarization((), "voices-1"))
    assert {word["speaker_id"] for word in found["word_segments"]} == {"SPEAKER_00"}
    assert found["speakers"] == {"SPEAKER_00": {"total_duration": 2.0, "segment_count": 1}}
    assert any("SPEAKER_00" in note for note in found["metadata"]["notes"])
    assert not any("SPEAKER_00" in note for note in result()["metadata"]["notes"])


def test_segments_are_in_order_of_time_and_carry_their_own_features():
    late, early = (
        SpokenSegment(Segment(at, at + 1, name, (Word(name, at, at + 1),)), name) for at, name in ((3, "z"), (1, "a"))
    )
    sounds = [AcousticFeatures(-30.0, None, None), AcousticFeatures(-10.0, None, None)]
    found = assemble([late, early], sounds, transcript=TRANSCRIPT, diarization=DIARIZATION, facts=FACTS)
    assert [(s["text"], s["words"][0]["acoustic_features"]["volume_db"]) for s in found["segments"]] == [
        ("a", -10.0),
        ("z", -30.0),
    ]
    assert list(found["speakers"]) == ["SPEAKER_00", "SPEAKER_01"]


def test_nothing_ends_after_the_file():
    facts = RunFacts(duration_s=2.3, language_requested="en", processing_time_s=0.1)
    found = result(facts=facts)
    assert found["segments"][-1]["end_time"] == found["word_segments"][-1]["end_time"] == 2.3


def test_a_feature_too_few_is_an_error():
    with pytest.raises(ValueError, match="3 words need as many features, got 2"):
        assemble(
            attribute(TRANSCRIPT.segments, TURNS),
            [SOUND] * 2,
            transcript=TRANSCRIPT,
            diarization=DIARIZATION,
            facts=FACTS,
        )


def test_seconds_of_speech_without_words_are_in_the_metadata():
    found = result(replace(TRANSCRIPT, speech_without_words_s=1.23456))
    assert found["metadata"]["speech_seconds_without_words"] == 1.235
    assert result(replace(TRANSCRIPT, speech_without_words_s=0.0))["metadata"]["speech_seconds_without_words"] == 0.0
    assert "speech_seconds_without_words" not in result()["metadata"]


def test_each_segment_has_its_own_emotion_and_none_where_it_could_not_be_told():
    late, early, untold = (
        SpokenSegment(Segment(at, at + 1, name, (Word(name, at, at + 1),)), "A")
        for at, name in ((3, "z"), (1, "a"), (2, "m"))
    )
    emotions = [LabelScores("angry", {"angry": 0.87654, "calm": 0.12346}), LabelScores("calm", {"calm": 1.0}), None]
    found = assemble(
        [late, early, untold],
        [SOUND] * 3,
        transcript=TRANSCRIPT,
        diarization=DIARIZATION,
        facts=FACTS,
        emotions=emotions,
        emotion_model_version="moods-1",
    )
    assert [(segment["text"], segment["emotion"]) for segment in found["segments"]] == [
        ("a", {"label": "calm", "scores": {"calm": 1.0}}),
        ("m", None),
        ("z", {"label": "angry", "scores": {"angry": 0.877, "calm": 0.123}}),
    ]
    assert found["metadata"]["emotion_model_version"] == "moods-1"
    json.dumps(found, allow_nan=False)


def test_a_segment_without_text_takes_its_emotion_along():
    silent = SpokenSegment(Segment(0, 1, " ", (Word(" ", 0, 1),)), "A")
    said = SpokenSegment(Segment(1, 2, "a", (Word("a", 1, 2),)), "A")
    emotions = [LabelScores("calm", {"calm": 1.0}), LabelScores("angry", {"angry": 1.0})]
    found = assemble(
        [silent, said],
        [SOUND] * 2,
        transcript=TRANSCRIPT,
        diarization=DIARIZATION,
        facts=FACTS,
        emotions=emotions,
    )
    assert [segment["emotion"]["label"] for segment in found["segments"]] == ["angry"]


def test_emotions_are_as_many_as_segments():
    spoken = attribute(TRANSCRIPT.segments, TURNS)
    with pytest.raises(ValueError, match="2 segments need as many emotions, got 1"):
        assemble(
            spoken,
            [SOUND] * 3,
            transcript=TRANSCRIPT,
            diarization=DIARIZATION,
            facts=FACTS,
            emotions=[None],
        )
