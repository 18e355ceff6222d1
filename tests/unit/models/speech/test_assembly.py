"""The result object."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from serve_app.models.speech.assembly import REPEATED, RunFacts, assemble, join_transcripts, without_repetition
from serve_app.models.speech.attribution import SpokenSegment, attribute
from serve_app.results import (
    AcousticFeatures,
    Diarization,
    LabelScores,
    Segment,
    SpeakerTurn,
    SpeechRegion,
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


class TestJoinTranscripts:
    def test_pieces_come_in_any_order_and_notes_once(self):
        first = Transcript((Segment(0, 1, "a"),), "en", "m", ("assumed",))
        second = Transcript((Segment(2, 3, "b"),), "en", "m", ("assumed", "late"))
        joined = join_transcripts([second, first])
        assert [segment.text for segment in joined.segments] == ["a", "b"]
        assert (joined.language, joined.model_version, joined.notes) == ("en", "m", ("assumed", "late"))

    def test_the_language_is_the_one_with_most_text_and_the_others_are_noted(self):
        pieces = [
            Transcript((Segment(0, 1, "hm"),), "ja", "m"),
            Transcript((Segment(2, 3, "a longer text"),), "en", "small"),
            Transcript((), "ko", "m"),
        ]
        joined = join_transcripts(pieces)
        assert (joined.language, joined.model_version) == ("en", "m + small")
        assert joined.notes == ("other languages were detected in parts of the file: ja",)

    def test_speech_without_words_is_told_and_counted(self):
        word = Segment(10.0, 11.0, "late", (Word("late", 10.0, 11.0),))
        early = Segment(0.0, 1.0, "early", (Word("early", 0.0, 1.0),))
        speech = (SpeechRegion(0.0, 4.0), SpeechRegion(6.0, 9.85), SpeechRegion(10.0, 11.5))
        joined = join_transcripts(
            [Transcript((word,), "en", "m", ("late",)), Transcript((early,), "en", "m")],
            notes=("first",),
            speech=speech,
        )
        assert joined.speech_without_words_s == pytest.approx(2.85 + 3.85)
        assert joined.notes == (
            "first",
            "late",
            "no words were recognized in 6.7 s of detected speech: 1.1-4.0 s, 6.0-9.8 s",
        )

    @pytest.mark.parametrize("end_s", [1.0, 2.0])
    def test_speech_that_has_words_is_not_told(self, end_s):
        words = (Word("a", 0.0, 0.5), Word("b", 0.6, 1.0))
        joined = join_transcripts(
            [Transcript((Segment(0.0, 1.0, "a b", words),), "en", "m")], speech=(SpeechRegion(0.0, end_s),)
        )
        assert joined.speech_without_words_s == 0.0
        assert joined.notes == ()

    def test_a_segment_without_words_is_as_good_as_words(self):
        joined = join_transcripts([Transcript((Segment(0, 5, "a"),), "en", "m")], speech=(SpeechRegion(0, 5),))
        assert joined.speech_without_words_s == 0.0

    def test_where_nobody_looked_for_speech_nothing_is_said_of_it(self):
        assert join_transcripts([Transcript((), "en", "m")]).speech_without_words_s is None
        assert join_transcripts([], speech=()).speech_without_words_s == 0.0

    def test_speech_of_which_nothing_was_recognized(self):
        speech = tuple(SpeechRegion(10.0 * number, 10.0 * number + 2) for number in range(30))
        joined = join_transcripts([Transcript((), "und", "m")], speech=speech)
        assert joined.speech_without_words_s == 60.0
        [note] = joined.notes
        assert note.startswith("no words were recognized in 60.0 s of detected speech: 0.0-2.0 s, 10.0-12.0 s, ")
        assert note.endswith("190.0-192.0 s and 10 more")

    def test_pieces_of_unknown_language_count_as_one(self):
        pieces = [Transcript((Segment(0, 1, "some text"),), "und", "m"), Transcript((), "en", "m")]
        assert join_transcripts(pieces).language == "und"


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


def spoken(text: str, start_s: float, *, separator: str = " ") -> Transcript:
    """Return one segment whose words, split at blanks, take 0.3 s each."""
    words = tuple(Word(word, start_s + 0.3 * at, start_s + 0.3 * at + 0.3) for at, word in enumerate(text.split()))
    return Transcript((Segment(start_s, words[-1].end_s, separator.join(text.split()), words),), "en", "ears-1")


def test_words_repeated_across_a_cut_are_there_once():
    before, after = spoken("we went to the market", 0.0), spoken("The market, was closed", 1.6)
    [segment] = without_repetition(before, after).segments
    assert (segment.text, segment.start_s, len(segment.words)) == ("was closed", pytest.approx(2.2), 2)
    assert without_repetition(before, after).notes == (REPEATED,)


def test_a_segment_that_only_repeats_goes():
    assert without_repetition(spoken("to the market", 0.0), spoken("the market", 1.0)).segments == ()


def test_scripts_without_blanks_keep_their_form():
    before, after = spoken("今 日 は 市 場 に", 0.0), spoken("は 市 場 に 行 く", 1.8, separator="")
    assert [segment.text for segment in without_repetition(before, after).segments] == ["行く"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(spoken("very", 0.0), spoken("very good", 0.3), id="a single word may be said twice"),
        pytest.param(spoken("I do", 0.0), spoken("I do", 0.7), id="too few letters"),
        pytest.param(spoken("go to the market", 0.0), spoken("the market", 2.0), id="after a pause"),
        pytest.param(spoken("go to the market", 0.0), spoken("a market", 1.3), id="another word"),
        pytest.param(None, spoken("the market", 0.0), id="the first piece"),
    ],
)
def test_what_may_have_been_said_twice_stays(before: Transcript | None, after: Transcript):
    assert without_repetition(before, after) is after
