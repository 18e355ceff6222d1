"""Every backend keeps the promises of `BatchedWhisper`, on whisper-micro and held-out speech; and they agree."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch

from serve_app.errors import LanguageUnsupported, ProcessingError
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.voice_activity import detect_speech
from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.batched_backend import BatchedWhisper
from serve_app.models.speech.whisper.decoding_rules import DecodingRules
from serve_app.models.speech.whisper.transcript_draft import SAMPLED
from serve_app.results import SpeechRegion, Transcript, Word
from serve_app.scoring import count_word_errors
from tests.contract.speech.whisper_cases import Utterance


def text_of(transcript: Transcript) -> str:
    return " ".join(segment.text for segment in transcript.segments)


def hear(
    backend: BatchedWhisper, utterances: Sequence[Utterance], language: str | None = None, **about: object
) -> list[Transcript]:
    pieces = [SpeechPiece(own.samples, language=language or own.language, **about) for own in utterances]  # type: ignore[arg-type]
    return backend.transcribe(pieces)


def words_of(transcript: Transcript) -> list[Word]:
    return [word for segment in transcript.segments for word in segment.words]


def error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    counts = [count_word_errors(truth, text) for truth, text in zip(said, heard, strict=True)]
    return sum(errors for errors, _ in counts) / sum(words for _, words in counts)


@pytest.fixture(scope="module")
def heard(
    micro: Mapping[BackendName, BatchedWhisper], utterances: tuple[Utterance, ...]
) -> Mapping[BackendName, list[Transcript]]:
    """What each backend makes of all utterances, told their languages."""
    return {name: hear(own, utterances) for name, own in micro.items()}


def test_understands_held_out_speech(
    backend: BatchedWhisper, heard: Mapping[BackendName, list[Transcript]], utterances: tuple[Utterance, ...]
) -> None:
    rate = error_rate([own.text for own in utterances], [text_of(transcript) for transcript in heard[backend.name]])
    assert rate < 0.25  # far above the card's figure, far below what a broken decoder or spectrogram leaves


def test_the_backends_agree_word_for_word(
    micro: Mapping[BackendName, BatchedWhisper], utterances: tuple[Utterance, ...]
) -> None:
    texts = {name: [text_of(own) for own in hear(backend, utterances, "auto")] for name, backend in micro.items()}
    for first, second in itertools.combinations(texts, 2):
        assert error_rate(texts[first], texts[second]) <= 0.01, (first, second)


def test_the_backends_agree_on_times_and_probabilities(heard: Mapping[BackendName, list[Transcript]]) -> None:
    reference, *others = heard.values()
    for other in others:
        for first, second in zip(reference, other, strict=True):
            if text_of(first) != text_of(second):
                continue  # the test above bounds how often
            for one, two in zip(first.segments, second.segments, strict=True):
                assert one.avg_logprob == pytest.approx(two.avg_logprob, abs=1e-3)
                assert one.no_speech_prob == pytest.approx(two.no_speech_prob, abs=1e-3)
                for word, same in zip(one.words, two.words, strict=True):
                    assert word.word == same.word
                    assert abs(word.start_s - same.start_s) <= 0.045  # two frames
                    assert word.confidence == pytest.approx(same.confidence, abs=1e-2)


def test_words_lie_where_they_were_said(
    backend: BatchedWhisper, heard: Mapping[BackendName, list[Transcript]], utterances: tuple[Utterance, ...]
) -> None:
    distances = []
    for own, transcript in zip(utterances, heard[backend.name], strict=True):
        words = [word for segment in transcript.segments for word in segment.words]
        if len(words) == len(own.words):
            distances += [abs(word.start_s - start_s) for word, (_, start_s, _) in zip(words, own.words, strict=True)]
    assert len(distances) > 30
    assert median(distances) < 0.1


def test_times_are_ordered_inside_the_piece_and_moved_by_its_offset(
    backend: BatchedWhisper, heard: Mapping[BackendName, list[Transcript]], utterances: tuple[Utterance, ...]
) -> None:
    at_start, moved = heard[backend.name][:4], hear(backend, utterances[:4], offset_s=100.0)
    for own, here, there in zip(utterances, at_start, moved, strict=False):
        words = [word for segment in here.segments for word in segment.words]
        assert words
        assert all(0.0 <= word.start_s <= word.end_s <= len(own.samples) / 16_000 for word in words)
        assert all(earlier.end_s <= later.start_s for earlier, later in pairwise(words))
        assert all(0.0 <= word.confidence <= 1.0 for word in words if word.confidence is not None)
        for segment, shifted in zip(here.segments, there.segments, strict=True):
            assert segment.text == " ".join(word.word for word in segment.words)
            assert shifted.start_s == pytest.approx(segment.start_s + 100.0)
            assert shifted.words[-1].end_s == pytest.approx(segment.words[-1].end_s + 100.0)


def test_tells_languages_apart_within_one_batch(
    backend: BatchedWhisper, heard: Mapping[BackendName, list[Transcript]], utterances: tuple[Utterance, ...]
) -> None:
    mixed = [own for pair in zip(utterances[:6], utterances[-6:], strict=True) for own in pair]
    assert {own.language for own in mixed} == {"en", "ko"}
    detected = hear(backend, mixed, "auto")
    assert [transcript.language for transcript in detected] == [own.language for own in mixed]
    told = dict(zip([own.file for own in utterances], heard[backend.name], strict=True))
    assert [text_of(transcript) for transcript in detected] == [text_of(told[own.file]) for own in mixed]


def test_an_answer_does_not_depend_on_its_neighbours(
    backend: BatchedWhisper, utterances: tuple[Utterance, ...]
) -> None:
    together = hear(backend, utterances[6:14], "auto")  # both languages
    alone = [transcript for own in utterances[6:14] for transcript in hear(backend, [own], "auto")]
    for one, other in zip(together, alone, strict=True):
        assert (text_of(one), one.language, one.notes) == (text_of(other), other.language, other.notes)
        for word, same in zip(
            [word for segment in one.segments for word in segment.words],
            [word for segment in other.segments for word in segment.words],
            strict=True,
        ):
            assert abs(word.start_s - same.start_s) <= 0.025  # a frame
            assert word.confidence == pytest.approx(same.confidence, abs=1e-3)


def test_the_same_piece_always_gets_the_same_answer(backend: BatchedWhisper, utterances: tuple[Utterance, ...]) -> None:
    assert hear(backend, utterances[:3]) == hear(backend, utterances[:3])


def test_hears_nothing_in_silence_and_noise(backend: BatchedWhisper) -> None:
    rng = np.random.default_rng(1)
    noises = [
        np.zeros(32_000, np.float32),
        (0.003 * rng.standard_normal(48_000)).astype(np.float32),
        (0.05 * rng.standard_normal(48_000)).astype(np.float32),
    ]
    # as the service hands them over: voice activity detection finds nobody
    pieces = [SpeechPiece(noise, speech=detect_speech(noise)) for noise in noises]
    assert [piece.speech for piece in pieces] == [()] * 3
    assert [text_of(own) for own in backend.transcribe(pieces)] == ["", "", ""]
    # Told nothing of speech, a model may be sure of a word in noise: without timestamps it has to begin with one.
    untold = backend.transcribe([SpeechPiece(noise) for noise in noises])
    assert sum(len(words_of(own)) for own in untold) <= 1
    assert text_of(untold[0]) == ""


def test_odd_pieces_do_no_harm(backend: BatchedWhisper, utterances: tuple[Utterance, ...]) -> None:
    broken = utterances[0].samples.copy()
    broken[::997] = np.nan
    pieces = [
        SpeechPiece(np.zeros(0, np.float32)),
        SpeechPiece(utterances[0].samples[4000:5600]),  # 0.1 s
        SpeechPiece(broken),
        SpeechPiece(np.full(16_000, np.nan, np.float32)),
        SpeechPiece(np.pad(utterances[1].samples, (0, 480_000 - len(utterances[1].samples)))),  # the whole window
        SpeechPiece(utterances[1].samples),
    ]
    heard = backend.transcribe(pieces)
    assert len(heard) == len(pieces)
    assert heard[0].segments == heard[3].segments == ()
    assert error_rate([text_of(heard[5])], [text_of(heard[4])]) <= 0.2
    with pytest.raises(ProcessingError, match="longer than Whisper's window"):
        backend.transcribe([SpeechPiece(np.zeros(481_000, np.float32))])


def test_a_prompt_is_heeded_and_may_be_of_any_length(
    backend: BatchedWhisper, utterances: tuple[Utterance, ...]
) -> None:
    own = utterances[0]
    prompts = [None, utterances[1].text, " ".join([utterances[1].text] * 60)]
    heard = backend.transcribe([SpeechPiece(own.samples, language="en", prompt=prompt) for prompt in prompts])
    plain, prompted, truncated = heard
    assert plain.segments
    assert prompted.segments
    # the model was told something: it is as sure of its words only where it was told nothing
    assert prompted.segments[0].avg_logprob != pytest.approx(plain.segments[0].avg_logprob, abs=1e-6)
    assert truncated.language == "en"
    assert truncated.notes[-1] == "the prompt was shortened to its last 223 tokens"
    assert not any("shortened" in note for own in (plain, prompted) for note in own.notes)


@pytest.mark.slow
def test_a_prompt_of_any_length_leaves_room_for_the_transcript(
    backend: BatchedWhisper, utterances: tuple[Utterance, ...]
) -> None:
    """The lengths around what the model takes: 223 tokens."""
    encoded = backend._encode(backend._mel.batch([utterances[0].samples]))
    start = [*backend.tokens.start("en"), backend.tokens.no_timestamps]
    for num_words in (222, 223, 224, 2000):
        prompt = [*backend.tokens.previous(" ".join(["cup"] * num_words)), *start]
        for beam_size, temperature in ((1, 0.0), (5, 0.0), (1, 0.4)):
            [answer] = backend._generate(encoded, [prompt], beam_size, temperature)
            assert 0 < len(answer.tokens) <= backend.tokens.room_after(prompt)
            assert np.isfinite(answer.avg_logprob)


def test_sampling_near_zero_is_greedy_search(backend: BatchedWhisper, utterances: tuple[Utterance, ...]) -> None:
    for own in utterances[:4]:
        encoded = backend._encode(backend._mel.batch([own.samples]))
        prompt = [*backend.tokens.start(own.language), backend.tokens.no_timestamps]
        [greedy] = backend._generate(encoded, [prompt], 1, 0.0)
        [sampled] = backend._generate(encoded, [prompt], 1, 0.001)
        assert sampled.tokens == greedy.tokens
        assert sampled.avg_logprob == pytest.approx(greedy.avg_logprob, abs=1e-3)
        assert sampled.no_speech_prob == pytest.approx(greedy.no_speech_prob, abs=1e-4)


def test_samples_log_probability_is_that_of_the_model_without_temperature(
    backend: BatchedWhisper, micro: Mapping[BackendName, BatchedWhisper], utterances: tuple[Utterance, ...]
) -> None:
    """Held against one pass of openai-whisper's decoder over the sampled tokens."""
    judge: Any = micro[BackendName.OPENAI_WHISPER]
    tokens = judge.tokens
    for own in utterances[:3]:
        features = backend._mel.batch([own.samples])
        prompt = [*tokens.start(own.language), tokens.no_timestamps]
        [sampled] = backend._generate(backend._encode(features), [prompt], 1, 1.0)
        text = [*sampled.tokens, tokens.end_of_text]
        assert len(text) <= tokens.room_after(prompt)
        with torch.inference_mode():
            logits = judge._model.logits(torch.tensor([[*prompt, *text[:-1]]]), judge._encode(features))[0].double()
            logits = logits[len(prompt) - 1 :]
            logits[:, list(tokens.suppressed)] = -torch.inf
            logits[0, list(tokens.suppressed_at_begin)] = -torch.inf
            mean = logits.log_softmax(-1).gather(1, torch.tensor(text)[:, None]).mean()
        assert sampled.avg_logprob == pytest.approx(float(mean), abs=2e-3)


@pytest.mark.slow
def test_retries_do_not_depend_on_neighbours_either(
    backend: BatchedWhisper, utterances: tuple[Utterance, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # every answer is doubtful, and none is silence
    monkeypatch.setattr(backend, "rules", DecodingRules(min_avg_logprob=0.0, max_no_speech_prob=1.0))
    together = hear(backend, utterances[8:12], "auto")
    alone = [transcript for own in utterances[8:12] for transcript in hear(backend, [own], "auto")]
    assert {own.notes for own in together} == {(SAMPLED,)}
    assert [text_of(own) for own in together] == [text_of(own) for own in alone]
    assert [own.language for own in together] == [own.language for own in alone]


def test_words_of_a_long_piece_are_in_order_and_where_somebody_speaks(
    backend: BatchedWhisper, utterances: tuple[Utterance, ...]
) -> None:
    """Several utterances in one piece: some are decoded as gaps, with words that must find their place."""
    english = [own.samples for own in utterances if own.language == "en"][:6]
    pause = np.zeros(16_000, np.float32)
    samples = np.concatenate([part for own in english for part in (own, pause)])[: 30 * 16_000]
    duration_s = len(samples) / 16_000
    speech = tuple(SpeechRegion(50.0 + region.start_s, 50.0 + region.end_s) for region in detect_speech(samples))
    pieces = [SpeechPiece(samples, 50.0, "en", speech=given) for given in (speech, None)]
    for transcript in backend.transcribe(pieces):
        words = words_of(transcript)
        assert words
        assert all(50.0 <= word.start_s <= word.end_s <= 50.0 + duration_s for word in words)
        assert all(before.end_s <= after.start_s for before, after in pairwise(words))
        assert all(word.end_s - word.start_s <= 2.0 + 1e-6 for word in words)
        for before, after in pairwise(transcript.segments):
            assert before.end_s <= after.start_s


def test_languages_that_it_does_not_know_are_refused(
    backend: BatchedWhisper, utterances: tuple[Utterance, ...]
) -> None:
    with pytest.raises(LanguageUnsupported, match="does not know the language 'xx'"):
        hear(backend, utterances[:1], "xx")
    backend.check_language("auto")
    backend.check_language("ko")


def test_names_itself_and_returns_what_can_be_sent(backend: BatchedWhisper, utterances: tuple[Utterance, ...]) -> None:
    heard = hear(backend, utterances[:2])
    assert pickle.loads(pickle.dumps(heard)) == heard
    assert {own.model_version for own in heard} == {f"{backend.name}:whisper-micro:float32"}
    word = heard[0].segments[0].words[0]
    assert (type(word.start_s), type(word.confidence)) == (float, float)  # no numpy, no tensors
    assert type(heard[0].segments[0].avg_logprob) is float


def test_stops_when_it_is_told_to(backend: BatchedWhisper, utterances: tuple[Utterance, ...]) -> None:
    with pytest.raises(ProcessingError, match="stopped"):
        backend.transcribe([SpeechPiece(utterances[0].samples)], should_stop=lambda: True)
