"""Scores against a known truth."""

from __future__ import annotations

import math

import pytest

from serve_app.scoring import align, count_letter_errors, count_word_errors, score_result, timed_words


def truth(*words: tuple[str, float, str]) -> dict:
    return {"words": [{"word": w, "start": s, "end": s + 0.1, "speaker": who} for w, s, who in words]}


def result(*words: tuple[str, float, str]) -> dict:
    return {
        "word_segments": [{"word": w, "start_time": s, "end_time": s + 0.1, "speaker_id": who} for w, s, who in words]
    }


def test_case_and_punctuation_do_not_count():
    scores = score_result(
        result(("Don't,", 1, "S0"), ("STOP!", 2, "S0"), ("…", 3, "S1")), truth(("dont", 1, "a"), ("stop", 2, "a"))
    )
    assert (scores.num_words, scores.word_error_rate, scores.word_speaker_error_rate) == (2, 0.0, 0.0)


def test_substitutions_deletions_and_insertions_are_counted_apart():
    scores = score_result(
        result(("a", 1, "x"), ("q", 2, "x"), ("c", 3, "x"), ("e", 5, "x"), ("f", 6, "x")),
        truth(("a", 1, "A"), ("b", 2, "A"), ("c", 3, "A"), ("d", 4, "A"), ("e", 5, "A")),
    )
    assert (scores.num_substitutions, scores.num_deletions, scores.num_insertions) == (1, 1, 1)
    assert scores.word_error_rate == pytest.approx(3 / 5)


def test_speakers_are_paired_one_to_one_as_favourably_as_possible():
    scores = score_result(
        result(*(("w", n, who) for n, who in enumerate(["S1", "S1", "S0", "S0", "S1"]))),
        truth(*(("w", n, who) for n, who in enumerate(["anna", "anna", "ben", "ben", "ben"]))),
    )
    assert scores.word_speaker_error_rate == pytest.approx(1 / 5)


def test_two_true_speakers_found_as_one_are_half_wrong():
    scores = score_result(
        result(*(("w", n, "S0") for n in range(4))), truth(*(("w", n, who) for n, who in enumerate("aabb")))
    )
    assert scores.word_speaker_error_rate == 0.5


def test_a_word_without_speaker_is_a_speaker_error():
    assert score_result(result(("w", 0, None)), truth(("w", 0, "a"))).word_speaker_error_rate == 1.0


def test_time_errors_are_those_of_words_heard_rightly():
    scores = score_result(
        result(("a", 1.1, "x"), ("b", 1.7, "x"), ("z", 9.0, "x")),
        truth(("a", 1.0, "x"), ("b", 2.0, "x"), ("c", 3.0, "x")),
    )
    assert scores.median_word_start_error_s == pytest.approx(0.2)
    assert scores.p90_word_start_error_s == pytest.approx(0.28)


def test_of_equally_good_alignments_the_nearer_in_time_is_taken():
    spoken = timed_words([("no", 1.0, None), ("no", 5.0, None)])
    assert align(spoken, timed_words([("no", 5.1, None)])) == [(0, None), (1, 0)]
    assert align(spoken, timed_words([("no", 1.1, None)])) == [(0, 0), (1, None)]


def test_time_never_outweighs_a_word():
    spoken = timed_words([(f"w{n}", float(n), None) for n in range(400)])
    heard = timed_words([(f"w{n}", n + 300.0, None) for n in range(400)])
    assert align(spoken, heard) == [(n, n) for n in range(400)]


def test_nothing_heard_is_all_wrong_and_nothing_said_has_no_rate():
    silent = score_result(result(), truth(("a", 0, "x"), ("b", 1, "x")))
    assert silent.word_error_rate == 1.0
    assert math.isnan(silent.word_speaker_error_rate)
    assert math.isnan(silent.median_word_start_error_s)
    babble = score_result(result(("a", 0, "x")), truth())
    assert math.isnan(babble.word_error_rate)
    assert babble.num_insertions == 1


def test_texts_are_compared_word_by_word_with_hyphens_as_spaces():
    assert count_word_errors("The forty-two line Bible — printed.", "the forty two lion bible printed") == (1, 6)
    assert count_word_errors("a b", "") == (2, 2)


def test_letters_are_compared_without_spaces_and_punctuation():
    assert count_letter_errors("사용자 지정 음성은", "사용자 지점음성은.") == (1, 8)
    assert count_letter_errors("가나", "") == (2, 2)
