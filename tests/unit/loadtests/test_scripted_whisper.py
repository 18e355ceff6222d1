"""The checkpoint that says one sentence whatever it hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from faster_whisper import BatchedInferencePipeline, WhisperModel

from loadtests.scripted_whisper import write_scripted_checkpoint
from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.checkpoint import open_checkpoint
from serve_app.models.speech.whisper.conversion import to_ctranslate2
from serve_app.models.speech.whisper.faster_whisper_backend import FasterWhisperBackend
from serve_app.models.speech.whisper.options import WhisperOptions
from training.whisper_micro.checkpoint import Shape

SHAPE = Shape(d_model=64, encoder_layers=1, decoder_layers=2, heads=2)
SENTENCE = "please bring seven fresh apples from our kitchen"
NOISE = np.random.default_rng(0).standard_normal(16_000 * 40).astype(np.float32) * 0.05


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> tuple[FasterWhisperBackend, WhisperModel]:
    folder = tmp_path_factory.mktemp("scripted")
    write_scripted_checkpoint(folder / "hf", SHAPE, SENTENCE)
    options = WhisperOptions(cache_dir=folder / "cache", device="cpu")
    checkpoint = open_checkpoint(folder / "hf", name="scripted", cache_dir=options.cache_dir)
    converted = to_ctranslate2(checkpoint, options.cache_dir)
    model = WhisperModel(str(converted), device="cpu", compute_type="float32", cpu_threads=1)
    return FasterWhisperBackend(checkpoint, converted, options), model


def test_each_piece_gives_the_sentence_without_a_second_look(
    backend: tuple[FasterWhisperBackend, WhisperModel],
) -> None:
    pieces = [
        SpeechPiece(NOISE[:length], language=language) for length, language in ((128_000, "en"), (90_000, "auto"))
    ]
    for transcript in backend[0].transcribe(pieces):
        assert [segment.text for segment in transcript.segments] == [SENTENCE]
        assert transcript.language == "en"
        assert transcript.notes == ()  # a doubtful answer would be noted
        assert transcript.segments[0].avg_logprob > -0.01


@pytest.mark.parametrize("options", [{}, {"beam_size": 1, "word_timestamps": True}])
def test_faster_whisper_hears_one_sentence_a_window(
    backend: tuple[FasterWhisperBackend, WhisperModel], options: dict[str, object]
) -> None:
    segments, _ = backend[1].transcribe(NOISE, language="en", **options)  # 40 s: two windows, the second with a prompt
    heard = list(segments)
    assert [segment.text.strip() for segment in heard] == [SENTENCE, SENTENCE]
    assert {segment.temperature for segment in heard} == {0.0}  # nothing was tried again
    batched, _ = BatchedInferencePipeline(backend[1]).transcribe(
        NOISE[:128_000], language="en", vad_filter=False, **options
    )
    assert [segment.text.strip() for segment in batched] == [SENTENCE]


def test_a_sentence_with_a_word_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="differ"):
        write_scripted_checkpoint(tmp_path, SHAPE, "one and one")
