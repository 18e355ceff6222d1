"""Real weights, real recordings: no sentence is lost, whatever library runs the network.

Skips where either is absent.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from serve_app import WhisperSTT
from serve_app.media.decode import decode_audio
from serve_app.models.speech.backends import BackendName
from serve_app.scoring import count_letter_errors, count_word_errors
from serve_app.settings import Settings
from tests.contract.speech.whisper_cases import WHISPERS
from tests.fetched_models import fetched_folder

SPEECH = Path(__file__).parents[4] / "shared" / "data" / "speech"
LONG_CLIP = "azure-customen-us-general-training-audio-and-trans-audio1.flac"  # 40 s, of which 15 words were lost once
KOREAN_CLIP = "azure-customko-kr-training-audio-and-trans-audio2.flac"


def recording(name: str) -> tuple[np.ndarray, str]:
    if not (SPEECH / name).is_file():
        pytest.skip(f"{SPEECH} is not beside the project")
    listed = (json.loads(line) for line in (SPEECH / "manifest.jsonl").read_text("utf-8").splitlines())
    [text] = [about["text"] for about in listed if about["path"].endswith(name)]
    return decode_audio(str(SPEECH / name)).samples, text


def whisper(name: str, backend: BackendName, **options: object) -> WhisperSTT:
    fetched_folder(name)
    models_dir = Settings.from_environment().models_dir
    return WhisperSTT(name, "cpu", backends=[backend], num_threads=1, cache_dir=models_dir, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", WHISPERS, ids=str)
def test_no_sentence_is_missing(backend: BackendName) -> None:
    samples, text = recording(LONG_CLIP)
    heard = whisper("whisper-base", backend).transcribe(samples, language="auto")
    num_errors, num_words = count_word_errors(text, heard["text"])
    assert num_errors / num_words < 0.12  # it was 19 % while a sentence was lost
    assert len(heard["text"].split()) >= 0.97 * len(text.split())
    assert heard["language"] == "en"
    assert heard["speech_seconds_without_words"] == 0.0
    starts = [word["start"] for segment in heard["segments"] for word in segment["words"]]
    assert starts == sorted(starts)


def test_korean_is_detected_and_transcribed() -> None:
    samples, text = recording(KOREAN_CLIP)
    stt = whisper("whisper-base", BackendName.FASTER_WHISPER, compute_type="int8")
    # two clips with a pause: several pieces, whose language is detected together
    heard = stt.transcribe(np.concatenate([samples, np.zeros(16_000, np.float32), samples]))
    num_errors, num_letters = count_letter_errors(f"{text} {text}", heard["text"])
    assert heard["language"] == "ko"
    assert num_errors / num_letters < 0.15


def test_what_an_english_only_model_hears_has_no_detected_language() -> None:
    samples, _ = recording(LONG_CLIP)
    stt = whisper("whisper-tiny.en", BackendName.FASTER_WHISPER, compute_type="int8")
    heard = stt.transcribe(samples[: 8 * 16_000])
    assert heard["language"] == "und"
    assert any("language was not detected" in note for note in heard["notes"])
    assert len(heard["text"].split()) > 10


def test_nobody_speaking_gives_no_words_and_a_note() -> None:
    rng = np.random.default_rng(2)
    hum = 0.05 * np.sin(2 * np.pi * 50 * np.arange(40 * 16_000) / 16_000) + 0.003 * rng.standard_normal(40 * 16_000)
    stt = whisper("whisper-base", BackendName.FASTER_WHISPER, compute_type="int8")
    heard = stt.transcribe(hum.astype(np.float32), language="en")
    assert heard["segments"] == []
    assert heard["notes"] == ["no speech was detected"]
