"""Joining the transcripts of a file's pieces."""

from __future__ import annotations

import pytest

from serve_app.models.speech.joining import REPEATED, join_transcripts, without_repetition
from serve_app.results import Segment, SpeechRegion, Transcript, Word

WORDS = (Word("Hello", 0.50049, 1.0, 0.98765), Word("there", 1.0, 1.5, None), Word("Hi", 2.0, 2.5, 1.0))
TRANSCRIPT = Transcript((Segment(0.5, 2.5, "Hello there. Hi!", WORDS),), "en", "ears-1", ("heard badly",))


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
