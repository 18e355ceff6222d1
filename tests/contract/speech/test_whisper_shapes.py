"""Every backend runs checkpoints of other shapes, number formats and beams, and all of them alike."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serve_app.errors import LanguageUnsupported, ModelLoadingError, TaskUnsupported
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.batched_backend import BatchedWhisper
from serve_app.models.speech.whisper.decoding_rules import DecodingRules
from serve_app.models.speech.whisper.loading import load_whisper
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.models.speech.whisper.transcript_draft import RETRIED, SAMPLED, Draft, Window, WindowWords
from serve_app.results import SpeechTask
from tests.contract.speech.whisper_cases import WHISPERS

Load = Callable[..., BatchedWhisper]
Write = Callable[..., Path]

# Random weights repeat themselves, and are never sure.
SAMPLING = DecodingRules(max_compression_ratio=99.0, max_no_speech_prob=1.0, min_shown_logprob=-99.0)
BEAM_ONLY = replace(SAMPLING, retry_temperatures=())
GREEDY_ONLY = replace(BEAM_ONLY, retry_beam_size=1)


def piece(seed: int, duration_s: float = 2.0, language: str = "en") -> SpeechPiece:
    rng = np.random.default_rng(seed)
    at = np.arange(round(16_000 * duration_s)) / 16_000
    loudness = 0.2 * np.abs(np.sin((2 + seed) * at))
    return SpeechPiece((loudness * rng.standard_normal(len(at))).astype(np.float32), language=language)


PIECES = [piece(1), piece(2, 5.0, "ko"), piece(3, 1.0, "auto")]


def decoded(
    backend: BatchedWhisper, rules: DecodingRules, monkeypatch: pytest.MonkeyPatch, pieces: Sequence[SpeechPiece]
) -> list[WindowWords]:
    """Return what the network makes of the pieces, before it is asked whether anybody can have said so."""
    monkeypatch.setattr(backend, "rules", rules)
    return backend._decode_windows([Window.whole(Draft(own, own.samples)) for own in pieces])


def told(found: WindowWords) -> tuple[object, ...]:
    return found.language, [word.text for word in found.words], found.notes


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param({}, id="v2-tokens"),
        pytest.param({"num_mel_bins": 128, "vocab_size": 51_866}, id="large-v3-turbo"),
        pytest.param({"encoder_layers": 2, "decoder_layers": 3, "d_model": 48, "heads": 3}, id="three-layers"),
    ],
)
def test_all_backends_say_the_same(
    shape: dict[str, int], random_whisper: Write, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = random_whisper("random-" + "-".join(map(str, shape.values())), **shape)
    answers = [list(map(told, decoded(load(name, folder), GREEDY_ONLY, monkeypatch, PIECES))) for name in WHISPERS]
    assert all(words for _, words, _ in answers[0])
    assert answers[0] == answers[1] == answers[2]


def test_transcripts_and_translations_share_a_batch(
    random_whisper: Write, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [replace(own, task=task) for own in PIECES for task in SpeechTask]
    answers = []
    for name in WHISPERS:
        backend = load(name, random_whisper("random-"))
        together = list(map(told, decoded(backend, GREEDY_ONLY, monkeypatch, pieces)))
        assert together == [told(decoded(backend, GREEDY_ONLY, monkeypatch, [own])[0]) for own in pieces]
        # the task reaches the network: random weights say something else after another token
        assert any(
            transcribed != translated for transcribed, translated in zip(together[::2], together[1::2], strict=True)
        )
        answers.append(together)
    assert answers[0] == answers[1] == answers[2]


def test_second_looks_are_alike_too(random_whisper: Write, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights are never sure, so that every piece is decoded again with a beam of 5."""
    folder = random_whisper("random-")
    answers = [decoded(load(name, folder), BEAM_ONLY, monkeypatch, PIECES) for name in WHISPERS]
    assert {found.notes for own in answers for found in own} == {(RETRIED,)}
    for own in answers[1:]:
        for one, other in zip(answers[0], own, strict=True):
            assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=0.02)


@pytest.mark.parametrize("name", WHISPERS, ids=str)
def test_a_wider_beam_from_the_start_is_no_second_look(
    name: BackendName, random_whisper: Write, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = decoded(load(name, random_whisper("random-"), beam_size=5), BEAM_ONLY, monkeypatch, PIECES)
    assert {found.notes for found in wide} == {()}
    narrow = decoded(load(name, random_whisper("random-")), BEAM_ONLY, monkeypatch, PIECES)
    for one, other in zip(wide, narrow, strict=True):
        # of a greedy answer and that of the beam, the more probable one is kept
        assert one.avg_logprob <= other.avg_logprob + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", WHISPERS, ids=str)
def test_samples_are_the_same_every_time_whatever_was_sampled_before(
    name: BackendName, random_whisper: Write, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = load(name, random_whisper("random-"))
    alone = [found for own in PIECES for found in decoded(backend, SAMPLING, monkeypatch, [own])]
    assert {found.notes for found in alone} == {(SAMPLED,)}
    assert [told(found) for found in decoded(backend, SAMPLING, monkeypatch, PIECES)] == list(map(told, alone))
    backwards = decoded(backend, SAMPLING, monkeypatch, PIECES[::-1])
    assert [told(found) for found in backwards[::-1]] == list(map(told, alone))


@pytest.mark.parametrize("name", WHISPERS, ids=str)
def test_samples_differ_by_temperature_and_not_by_call(name: BackendName, random_whisper: Write, load: Load) -> None:
    backend = load(name, random_whisper("random-"))
    encoded = backend._encode(backend._mel.batch([PIECES[1].samples]))
    prompt = [*backend.tokens.start("en"), backend.tokens.no_timestamps]
    drawn = [backend._generate(encoded, [prompt], 1, temperature)[0] for temperature in (0.4, 0.8, 0.4, 0.8)]
    assert drawn[:2] == drawn[2:]
    assert drawn[0].tokens != drawn[1].tokens
    assert all(0 < len(own.tokens) <= backend.tokens.room_after(prompt) for own in drawn)


@pytest.mark.parametrize("name", WHISPERS, ids=str)
def test_languages_are_told_by_their_probabilities(name: BackendName, random_whisper: Write, load: Load) -> None:
    backend = load(name, random_whisper("random-"))
    found = backend.detect_languages(PIECES)
    reference = load(BackendName.OPENAI_WHISPER, random_whisper("random-")).detect_languages(PIECES)
    for own, other in zip(found, reference, strict=True):
        assert sum(own.values()) == pytest.approx(1.0, abs=1e-3)
        assert own == pytest.approx(other, abs=2e-3)


@pytest.mark.parametrize(
    ("name", "compute_type", "said"),
    [
        (BackendName.FASTER_WHISPER, "int8", "int8_float32"),
        (BackendName.FASTER_WHISPER, "auto", "float32"),
        (BackendName.TRANSFORMERS, "bfloat16", "bfloat16"),
        (BackendName.TRANSFORMERS, "default", "float32"),
        (BackendName.OPENAI_WHISPER, "bfloat16", "bfloat16"),
    ],
)
def test_computes_in_the_chosen_number_format(
    name: BackendName,
    compute_type: str,
    said: str,
    random_whisper: Write,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = load(name, random_whisper("random-"), compute_type=compute_type)
    assert backend.model_version == f"{name}:random-:{said}"
    [found] = decoded(backend, GREEDY_ONLY, monkeypatch, PIECES[:1])
    assert found.words
    assert all(0.0 <= word.start_s <= word.end_s <= 2.0 for word in found.words)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (BackendName.TRANSFORMERS, {"compute_type": "int8"}, "Only the backend faster-whisper computes in int8"),
        (BackendName.OPENAI_WHISPER, {"compute_type": "int16"}, "Only the backend faster-whisper computes in int16"),
        (
            BackendName.FASTER_WHISPER,
            {"compute_type": "int8_bfloat16", "device": "cpu"},
            "set the compute type to one of",
        ),
        (BackendName.FASTER_WHISPER, {"device": "mps"}, "CTranslate2 has no mps device"),
        (BackendName.TRANSFORMERS, {"device": "cuda:77"}, "set it to auto or cpu"),
        (BackendName.OPENAI_WHISPER, {"device": "cuda:77"}, "set it to auto or cpu"),
        (BackendName.FASTER_WHISPER, {"device": "cuda:77"}, "77|set it to auto or cpu"),
    ],
)
def test_what_cannot_be_had_is_said(
    name: BackendName, options: dict[str, str], message: str, random_whisper: Write, cache_dir: Path
) -> None:
    with pytest.raises(ModelLoadingError, match=message):
        load_whisper(name, [str(random_whisper("random-"))], WhisperOptions(cache_dir=cache_dir, **options))


@pytest.mark.parametrize("name", WHISPERS, ids=str)
def test_english_only_checkpoints(
    name: BackendName, english_whisper: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = load(name, english_whisper)
    untold, english = (
        decoded(backend, GREEDY_ONLY, monkeypatch, [piece(1, language=code)])[0] for code in ("auto", "en")
    )
    assert told(untold) == told(english)
    assert untold.words
    heard = backend.transcribe([piece(1, language="auto"), piece(1, language="en")])
    assert [own.language for own in heard] == ["und", "en"]
    assert heard[0].notes == (
        f"the language was not detected: {backend.model_version} transcribes 'en' alone, and took the speech for it",
    )
    assert heard[1].notes == ()
    assert not backend.can_detect_languages
    assert backend.detect_languages([piece(1)]) == [{"en": 1.0}]
    with pytest.raises(LanguageUnsupported, match="made for: en"):
        backend.transcribe([piece(1, language="ko")])
    with pytest.raises(TaskUnsupported, match="made for English only"):
        backend.transcribe([replace(piece(1), task=SpeechTask.TRANSLATE)])


def test_english_only_answers_are_alike(english_whisper: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [piece(1), piece(4, 3.0)]
    answers = [
        [told(own) for own in decoded(load(name, english_whisper), GREEDY_ONLY, monkeypatch, pieces)]
        for name in WHISPERS
    ]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("name", WHISPERS, ids=str)
def test_the_libraries_say_nothing_of_their_own(
    name: BackendName,
    random_whisper: Write,
    load: Load,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = load(name, random_whisper("random-"))
    capfd.readouterr()
    with caplog.at_level(logging.INFO), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # Python shows these to nobody but developers
        backend.transcribe(PIECES)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
