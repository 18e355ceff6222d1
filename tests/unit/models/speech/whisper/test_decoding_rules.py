"""Which answers are looked at again, which are silence, and which of two is kept."""

from __future__ import annotations

import pytest
import whisper.utils

from serve_app.models.speech.whisper.decoding_rules import Attempt, DecodingRules, Hypothesis, compression_ratio

RULES = DecodingRules()
SENTENCE = "would you please put the cups on the table before the drummer comes"
LOOP = "thank you for watching " * 20


def answer(avg_logprob: float = -0.2, no_speech_prob: float = 0.0) -> Hypothesis:
    return Hypothesis((1, 2, 3), avg_logprob, no_speech_prob)


@pytest.mark.parametrize("text", [SENTENCE, LOOP, "안녕하세요 반갑습니다", "a"])
def test_compression_ratio_is_openais(text: str) -> None:
    assert compression_ratio(text) == whisper.utils.compression_ratio(text)


def test_no_text_is_no_loop() -> None:
    assert compression_ratio("") == 1.0
    assert not RULES.is_doubtful(answer(), "")


@pytest.mark.parametrize(
    ("hypothesis", "text", "again"),
    [
        (answer(), SENTENCE, False),
        (answer(), LOOP, True),
        (answer(avg_logprob=-1.01), SENTENCE, True),
        (answer(avg_logprob=-1.0), SENTENCE, False),  # the bound itself is good enough, as in the paper's code
        (answer(avg_logprob=-1.01, no_speech_prob=0.61), SENTENCE, False),  # silence
        (answer(avg_logprob=-0.5, no_speech_prob=0.99), SENTENCE, False),  # sure of its text
    ],
)
def test_doubt(hypothesis: Hypothesis, text: str, again: bool) -> None:
    assert RULES.is_doubtful(hypothesis, text) is again


def test_silence_takes_both_signs() -> None:
    assert RULES.is_silence(answer(avg_logprob=-0.9, no_speech_prob=0.2))
    assert not RULES.is_silence(answer(avg_logprob=-0.7, no_speech_prob=0.9))
    assert not RULES.is_silence(answer(avg_logprob=-1.2, no_speech_prob=0.1))


def test_what_stays_improbable_is_garbled() -> None:
    assert RULES.is_garbled(answer(avg_logprob=-1.1))
    assert not RULES.is_garbled(answer(avg_logprob=-0.9))


def test_a_loop_loses_even_where_it_is_more_probable() -> None:
    sure, unsure = answer(-0.1), answer(-1.5)
    assert RULES.prefers_second(sure, LOOP, unsure, SENTENCE)
    assert not RULES.prefers_second(unsure, SENTENCE, sure, LOOP)


@pytest.mark.parametrize("text", [SENTENCE, LOOP])
def test_else_the_more_probable_one_is_kept_and_the_first_of_equals(text: str) -> None:
    assert RULES.prefers_second(answer(-1.5), text, answer(-1.2), text)
    assert not RULES.prefers_second(answer(-1.2), text, answer(-1.5), text)
    assert not RULES.prefers_second(answer(-1.2), text, answer(-1.2), text)


@pytest.mark.parametrize(
    ("rules", "beam_size", "attempts"),
    [
        (RULES, 1, [Attempt(5), Attempt(1, 0.4), Attempt(1, 0.8)]),
        (RULES, 5, [Attempt(1, 0.4), Attempt(1, 0.8)]),  # no wider beam is left
        (DecodingRules(retry_beam_size=1, retry_temperatures=()), 1, []),
        (DecodingRules(retry_temperatures=(0.2,)), 3, [Attempt(5), Attempt(1, 0.2)]),
    ],
)
def test_a_wider_beam_comes_before_sampling(rules: DecodingRules, beam_size: int, attempts: list[Attempt]) -> None:
    assert rules.retries(beam_size) == attempts
