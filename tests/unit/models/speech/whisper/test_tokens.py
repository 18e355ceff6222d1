"""Prompts and words in a checkpoint's own tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import whisper.tokenizer

from serve_app.models.speech.whisper.checkpoint import open_checkpoint
from serve_app.models.speech.whisper.tokens import WhisperTokens
from serve_app.results import SpeechTask

OPENAI = whisper.tokenizer.get_tokenizer(True, num_languages=99, language="en", task="transcribe")


@pytest.fixture(scope="module")
def tokens(mini_whisper: Path) -> WhisperTokens:
    return WhisperTokens(open_checkpoint(mini_whisper))


def test_ids_are_openais(tokens: WhisperTokens) -> None:
    assert tokens.start_of_transcript == OPENAI.sot
    assert tokens.start_of_previous == OPENAI.sot_prev
    assert tokens.end_of_text == OPENAI.eot
    assert tokens.no_timestamps == OPENAI.no_timestamps
    assert tokens.timestamp_begin == OPENAI.timestamp_begin
    assert tokens.no_speech == OPENAI.no_speech
    assert tokens.language_ids["ko"] == OPENAI.to_language_token("ko")
    assert tokens.start("en") == list(OPENAI.sot_sequence)


@pytest.mark.parametrize("language", ["ko", "en", "yi"])
def test_a_translation_begins_as_openais(tokens: WhisperTokens, language: str) -> None:
    reference = whisper.tokenizer.get_tokenizer(True, num_languages=99, language=language, task="translate")
    started = tokens.start(language, SpeechTask.TRANSLATE)
    assert started == list(reference.sot_sequence)
    assert started[-1] == OPENAI.translate
    # as long as a transcript's, so that one batch may hold both
    assert len(started) == len(tokens.start(language))
    assert tokens.start(language)[-1] == OPENAI.transcribe


def test_a_tokenizer_without_the_task_can_not_be_asked_for_it(
    tokens: WhisperTokens, mini_whisper: Path, copy_of: Callable[..., Path]
) -> None:
    assert tokens.no_translation is None
    folder = copy_of(mini_whisper)
    file = folder / "tokenizer.json"
    file.write_text(file.read_text("utf-8").replace("<|translate|>", "<|unused|>"), "utf-8")
    assert WhisperTokens(open_checkpoint(folder)).no_translation == "its tokenizer has no such task"


def test_controls_are_suppressed_beside_what_the_checkpoint_lists(
    tokens: WhisperTokens, mini_whisper: Path, copy_of: Callable[..., Path]
) -> None:
    controls = {OPENAI.transcribe, OPENAI.translate, OPENAI.sot, OPENAI.sot_prev, OPENAI.sot_lm, OPENAI.no_speech}
    assert set(tokens.suppressed) == controls
    folder = copy_of(mini_whisper)
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"suppress_tokens": [1, 2, -1]}))
    assert set(WhisperTokens(open_checkpoint(folder)).suppressed) == controls | {1, 2}


def test_a_prompt_goes_before_the_transcript(tokens: WhisperTokens) -> None:
    assert tokens.previous("  Dr. Kim plays drums ") == [OPENAI.sot_prev, *OPENAI.encode(" Dr. Kim plays drums")]
    assert tokens.previous(None) == tokens.previous("") == tokens.previous("  ") == []


def test_of_a_long_prompt_the_end_is_kept(tokens: WhisperTokens) -> None:
    text = " ".join(f"word{number}" for number in range(300))
    previous = tokens.previous(text)
    assert previous[0] == OPENAI.sot_prev
    assert tokens.max_prompt_tokens == 223
    assert previous[1:] == OPENAI.encode(" " + text)[-223:]
    assert tokens.is_shortened(text)
    # a transcript finds room behind the longest prompt
    assert tokens.room_after([*previous, *tokens.start("en"), tokens.no_timestamps]) == 448 - 1 - 223 - 3 - 1 - 1


@pytest.mark.parametrize(("num_tokens", "is_shortened"), [(222, False), (223, False), (224, True), (500, True)])
def test_a_prompt_is_shortened_where_it_is_longer_than_the_model_takes(
    tokens: WhisperTokens, num_tokens: int, is_shortened: bool
) -> None:
    prompt = " ".join(["cup"] * num_tokens)  # a token each
    assert len(OPENAI.encode(" " + prompt)) == num_tokens
    assert tokens.is_shortened(prompt) is is_shortened
    assert len(tokens.previous(prompt)) == 1 + min(223, num_tokens)


def test_without_a_prompt_half_of_the_positions_are_left(tokens: WhisperTokens) -> None:
    assert not tokens.is_shortened(None)
    assert not tokens.is_shortened("  ")
    assert tokens.room_after([*tokens.start("en"), tokens.no_timestamps]) == 224


def test_a_decoder_of_few_positions_takes_short_prompts(mini_whisper: Path) -> None:
    checkpoint = open_checkpoint(mini_whisper)
    small = WhisperTokens(replace(checkpoint, config={**checkpoint.config, "max_target_positions": 32}))
    prompt = [*small.previous("cup " * 99), *small.start("ko"), small.no_timestamps]
    assert len(prompt) == 1 + 15 + 3 + 1
    assert small.room_after(prompt) == 32 - 20 - 1


def test_words_keep_their_blanks_and_count_their_tokens(tokens: WhisperTokens) -> None:
    ids = OPENAI.encode(" The drummer's equipment, please.")
    words = tokens.words(ids, "en")
    assert "".join(word for word, _ in words) == " The drummer's equipment, please."
    assert [word for word, _ in words] == [" The", " drummer's", " equipment", ",", " please", "."]
    assert sum(count for _, count in words) == len(ids)
    assert tokens.words([], "en") == []


def test_korean_is_split_at_blanks_and_japanese_at_characters(tokens: WhisperTokens) -> None:
    assert [word for word, _ in tokens.words(OPENAI.encode(" 안녕하세요 반갑습니다"), "ko")] == [
        " 안녕하세요",
        " 반갑습니다",
    ]
    japanese = tokens.words(OPENAI.encode("太鼓を叩く"), "ja")
    assert "".join(word for word, _ in japanese) == "太鼓を叩く"
    assert len(japanese) > 2


def test_text_is_what_lies_below_the_end(tokens: WhisperTokens) -> None:
    ids = [tokens.timestamp_begin, *OPENAI.encode(" two cups"), tokens.timestamp_begin + 50, tokens.end_of_text]
    assert tokens.decode(ids) == " two cups"
