"""Figures of the long file."""

from __future__ import annotations

import numpy as np
import pytest

from loadtests.whisper_long_file import digest, near_cuts, timed_text, words_of
from loadtests.whisper_speech import compare
from serve_app.results import Segment, Transcript, Word
from serve_app.scoring import TimedWord

SAID = [TimedWord(f"w{i}", float(i), None) for i in range(20)]


def test_errors_are_told_apart_by_their_distance_from_cuts() -> None:
    heard = [*SAID[:5], *SAID[6:10], TimedWord("x", 9.4, None), *SAID[10:15], *SAID[16:]]  # 5 and 15 lost, x added
    cuts = near_cuts(SAID, compare(SAID, heard), [5.5, 9.9])
    assert cuts.num_cuts == 2
    assert cuts.num_words == 4  # 5, 6 and 9, 10
    assert (cuts.num_lost, cuts.num_added) == (1, 1)
    assert cuts.error_rate == 2 / 4
    assert cuts.error_rate_elsewhere == 1 / 16


@pytest.mark.parametrize("cuts_s", [[], [100.0]])
def test_nothing_near_a_cut(cuts_s: list[float]) -> None:
    cuts = near_cuts(SAID, compare(SAID, SAID[1:]), cuts_s)
    assert (cuts.num_words, cuts.num_lost, cuts.num_added, cuts.error_rate) == (0, 0, 0, 0.0)
    assert cuts.error_rate_elsewhere == 1 / 20


def test_an_answers_words_are_those_of_its_transcripts() -> None:
    spoken = (Word("Good", 0.5, 0.7, 0.9), Word("day.", 0.8, 1.0, 0.9))
    transcripts = [Transcript((Segment(0.5, 1.0, "Good day.", spoken),), "en", "m", ())]
    answer = {"segments": [{"words": [{"word": w.word, "start": w.start_s} for w in spoken]}]}
    assert timed_text(transcripts) == words_of(answer) == [TimedWord("good", 0.5, None), TimedWord("day", 0.8, None)]


def test_the_digest_tells_times_apart() -> None:
    answers = [{"segments": [{"text": "a", "start": start}]} for start in (0.0, 0.0, 0.001)]
    marks = [digest(answer) for answer in answers]
    assert marks[0] == marks[1] != marks[2]
    assert np.unique([len(mark) for mark in marks]).tolist() == [12]
