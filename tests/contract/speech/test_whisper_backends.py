"""Every backend keeps the promises of `WhisperBackend`, on whisper-micro and held-out speech; and they agree."""

from __future__ import annotations

import functools
import itertools
import pickle
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import median

import numpy as np
import pytest
from whisper_cases import WHISPERS, Utterance

from serve_app.errors import LanguageUnsupported, ProcessingError
from serve_app.models.speech.batched_whisper import BatchedWhisper
from serve_app.models.speech.whisper import BackendName, SpeechPiece
from serve_app.results import Transcript
from serve_app.scoring import count_word_errors


def text_of(transcript: Transcript) -> str:
    return " ".join(segment.text for segment in transcript.segments)


def hear(
    backend: BatchedWhisper, utterances: Sequence[Utterance], language: str | None = None, **about: object
) -> list[Transcript]:
    pieces = [SpeechPiece(own.samples, language=language or own.language, **about) for own in utterances]  # type: ignore[arg-type]
    return backend.transcribe(pieces)


HearAll = Callable[..., list[Transcript]]


@pytest.fixture(scope="session")
def hear_all(micro: Mapping[BackendName, BatchedWhisper], utterances: tuple[Utterance, ...]) -> HearAll:
    """Return what a backend hears in all utterances, asked once: the languages stand mixed in one call."""
    mixed = sorted(range(len(utterances)), key=lambda at: at % 6)

    @functools.cache
    def hear_all(name: BackendName, language: str | None = None) -> list[Transcript]:
        heard = hear(micro[name], [utterances[at] for at in mixed], language)
        return [transcript for _, transcript in sorted(zip(mixed, heard, strict=True), key=lambda pair: pair[0])]

    return hear_all


def error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    counts = [count_word_errors(truth, text) for truth, text in zip(said, heard, strict=True)]
    return sum(errors for errors, _ in counts) / sum(words for _, words in counts)


@pytest.mark.parametrize("name", WHISPERS, ids=str)
def test_understands_held_out_speech(name: BackendName, hear_all: HearAll, utterances: tuple[Utterance, ...]) -> None:
    rate = error_rate([own.text for own in utterances], [text_of(transcript) for transcript in hear_all(name)])
    assert rate < 0.25  # far above the card's figure, far below what a broken decoder or spectrogram leaves


def test_the_backends_agree_word_for_word(hear_all: HearAll) -> None:
    texts = {name: [text_of(own) for own in hear_all(name, "auto")] for name in WHISPERS}
    for first, second in itertools.combinations(texts, 2):
        assert error_rate(texts[first], texts[second]) <= 0.01, (first, second)


def test_the_backends_agree_on_times_and_probabilities(hear_all: HearAll) -> None:
    reference, *others = map(hear_all, WHISPERS)
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


@pytest.mark.parametrize("name", WHISPERS, ids=str)
def test_words_lie_where_they_were_said(
    name: BackendName, hear_all: HearAll, utterances: tuple[Utterance, ...]
) -> None:
    distances = []
    for own, transcript in zip(utterances, hear_all(name), strict=True):
        words = [word for segment in transcript.segments for word in segment.words]
        if len(words) == len(own.words):
            distances += [abs(word.start_s - start_s) for word, (_, start_s, _) in zip(words, own.words, strict=True)]
    assert len(distances) > 30
    assert median(distances) < 0.1


def test_times_are_ordered_inside_the_piece_and_moved_by_its_offset(
    backend: BatchedWhisper, utterances: tuple[Utterance, ...]
) -> None:
    at_start, moved = hear(backend, utterances[:4]), hear(backend, utterances[:4], offset_s=100.0)
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


@pytest.mark.parametrize("name", WHISPERS, ids=str)
def test_tells_languages_apart_within_one_batch(
    name: BackendName, hear_all: HearAll, utterances: tuple[Utterance, ...]
) -> None:
    assert {own.language for own in utterances} == {"en", "ko"}
    heard = hear_all(name, "auto")
    assert [transcript.language for transcript in heard] == [own.language for own in utterances]
    assert [text_of(transcript) for transcript in heard] == [text_of(transcript) for transcript in hear_all(name)]


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
    assert [text_of(own) for own in backend.transcribe([SpeechPiece(noise) for noise in noises])] == ["", "", ""]


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
