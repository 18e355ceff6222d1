"""`WhisperSTT` over backends that are made up: loading, choice of backend, kinds of audio, the answer."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

import serve_app
from serve_app.demo_media import __file__ as media_init
from serve_app.errors import (
    AudioExtractionError,
    GpuMemoryError,
    InvalidRequest,
    LanguageUnsupported,
    ModelError,
    ModelLoadingError,
)
from serve_app.models.speech import stt as module
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.stt import WhisperSTT
from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.loading import LoadedWhisper
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.results import Segment, SpeechRegion, Transcript, Word
from serve_app.sentences import Locale, translated

DIALOGUE = Path(media_init).parent / "dialogue.mp4"


class FakeBackend:
    """Says how long each piece is."""

    def __init__(self, name: BackendName) -> None:
        self.name = name
        self.model_version = f"{name}:fake:float32"
        self.pieces: list[SpeechPiece] = []
        self.can_detect_languages = True
        self.shown: list[SpeechPiece] = []

    def detect_languages(self, pieces: Sequence[SpeechPiece]) -> list[dict[str, float]]:
        self.shown = list(pieces)
        return [{"ko": 0.6, "en": 0.4} for _ in pieces]

    def check_language(self, language: str) -> None:
        if language == "xx":
            raise LanguageUnsupported("no xx")

    def transcribe(
        self, pieces: Sequence[SpeechPiece], *, should_stop: Callable[[], bool] = lambda: False
    ) -> list[Transcript]:
        self.pieces = list(pieces)
        transcripts = []
        for piece in pieces:
            end_s = piece.offset_s + len(piece.samples) / 16_000
            words = (Word("heard", piece.offset_s, end_s, 0.87654),)
            segment = Segment(piece.offset_s, end_s, "heard", words, -0.1, 0.0)
            transcripts.append(
                Transcript((segment,), "en" if piece.language == "auto" else piece.language, self.model_version)
            )
        return transcripts


class Loader:
    """Stands in for `load_whisper`; `broken` backends can't be loaded."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str, tuple[str, ...], WhisperOptions]] = []
        self.broken: set[str] = set()
        self.failure: type[ModelError] = ModelLoadingError
        self.backends: dict[str, FakeBackend] = {}

    def __call__(self, name: BackendName, models: Sequence[str], options: WhisperOptions) -> LoadedWhisper:
        if name in self.broken:
            raise self.failure(f"{name} is broken.")
        self.loaded.append((name, tuple(models), options))
        self.backends[name] = FakeBackend(name)
        return LoadedWhisper(self.backends[name], models[0], ("a smaller model is used instead",))


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Loader:
    fake = Loader()
    monkeypatch.setattr(module, "load_whisper", fake)
    return fake


@pytest.fixture
def spoken_from_1_to_3_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "detect_speech", lambda _: (SpeechRegion(1.0, 3.0),))


SILENCE = np.zeros(16_000 * 4, np.float32)


def test_the_constructor_loads_the_first_backend_and_no_other(loader: Loader, tmp_path: Path) -> None:
    stt = WhisperSTT("some/model", "cpu", compute_type="float32", cache_dir=tmp_path, beam_size=2, num_threads=3)
    stt.transcribe(SILENCE)
    [(name, models, options)] = loader.loaded
    assert (name, models) == ("faster-whisper", ("some/model",))
    assert options == WhisperOptions(
        cache_dir=tmp_path, device="cpu", compute_type="float32", num_threads=3, beam_size=2
    )


def test_backends_stay_loaded_side_by_side(loader: Loader) -> None:
    stt = WhisperSTT(["some/model", Path("/smaller")])
    for name in ("transformers", "openai-whisper", "transformers", None, "faster-whisper"):
        assert stt.transcribe(SILENCE, backend=name)["backend"] == (name or "faster-whisper")
        assert stt.backend == (name or "faster-whisper")  # the one that spoke last
    assert [name for name, _, _ in loader.loaded] == ["faster-whisper", "transformers", "openai-whisper"]
    assert stt.loaded == ("faster-whisper", "transformers", "openai-whisper")
    assert loader.loaded[0][1] == ("some/model", "/smaller")


def test_without_a_name_the_first_that_loads_is_used_and_said_so(loader: Loader) -> None:
    loader.broken = {"faster-whisper"}
    stt = WhisperSTT("some/model")
    assert (stt.backend, type(stt.backend)) == ("transformers", str)  # before any call: the one that will speak
    answer = stt.transcribe(SILENCE)
    assert answer["backend"] == "transformers"
    assert answer["notes"] == [
        "faster-whisper was not used: faster-whisper is broken.",
        "a smaller model is used instead",
        "no speech was detected",
    ]


def test_a_named_backend_is_never_replaced(loader: Loader) -> None:
    loader.broken = {"openai-whisper"}
    with pytest.raises(ModelLoadingError, match="openai-whisper is broken"):
        WhisperSTT("some/model").transcribe(SILENCE, backend="openai-whisper")
    assert [name for name, _, _ in loader.loaded] == ["faster-whisper"]


@pytest.mark.parametrize("failure", [ModelLoadingError, GpuMemoryError])
def test_if_none_can_be_loaded_the_constructor_raises_and_each_reason_is_told(
    loader: Loader, failure: type[ModelError]
) -> None:
    loader.broken, loader.failure = set(BackendName), failure
    with pytest.raises(RuntimeError, match="No backend can be loaded") as caught:  # as callers of the old package do
        WhisperSTT("some/model")
    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, ModelLoadingError)
    assert re.search("faster-whisper is broken.*transformers is broken.*openai-whisper is", str(error))
    assert "불러올 수 있는 백엔드가 없습니다. 사용하지 않은 백엔드: faster-whisper (" in translated(
        error.detail, Locale.KO
    )


def test_names_that_are_none_are_refused(loader: Loader) -> None:
    with pytest.raises(InvalidRequest, match="no Whisper backend 'whisperx'; choose one of faster-whisper"):
        WhisperSTT("some/model", backends=["whisperx"])
    with pytest.raises(InvalidRequest, match="no Whisper backend 'pocketsphinx'"):
        WhisperSTT("some/model").transcribe(SILENCE, backend="pocketsphinx")
    with pytest.raises(InvalidRequest, match="transformers is not enabled; enabled: faster-whisper"):
        WhisperSTT("some/model", backends=["faster-whisper"]).transcribe(SILENCE, backend="transformers")
    with pytest.raises(InvalidRequest, match="backends is empty"):
        WhisperSTT("some/model", backends=[])


@pytest.mark.usefixtures("spoken_from_1_to_3_s")
def test_the_answer_is_plain_and_in_the_files_time(loader: Loader) -> None:
    answer = WhisperSTT("some/model").transcribe(SILENCE, "ko", prompt="drums")
    assert answer == {
        "text": "heard",
        "language": "ko",
        "duration": 4.0,
        "segments": [
            {
                "start": 0.8,
                "end": 3.2,
                "text": "heard",
                "words": [{"word": "heard", "start": 0.8, "end": 3.2, "confidence": 0.8765}],
            }
        ],
        "backend": "faster-whisper",
        "model_version": "faster-whisper:fake:float32",
        "notes": ["a smaller model is used instead"],
        "speech_seconds_without_words": 0.0,
    }
    [piece] = loader.backends["faster-whisper"].pieces
    assert (piece.offset_s, piece.language, piece.prompt, len(piece.samples)) == (0.8, "ko", "drums", 38_400)
    assert piece.speech == (SpeechRegion(1.0, 3.0),)
    assert piece.likely_language is None
    assert type(answer["backend"]) is str


FAR_APART = tuple(SpeechRegion(20.0 * number, 20.0 * number + 3.0 + number % 2) for number in range(7))


@pytest.mark.parametrize(
    ("language", "can_detect", "likely"), [("auto", True, "ko"), ("auto", False, None), ("ko", True, None)]
)
def test_a_files_language_is_detected_in_three_of_its_pieces(
    loader: Loader, monkeypatch: pytest.MonkeyPatch, language: str, can_detect: bool, likely: str | None
) -> None:
    monkeypatch.setattr(module, "detect_speech", lambda _: FAR_APART)
    stt = WhisperSTT("some/model")
    stt.load()
    backend = loader.backends["faster-whisper"]
    backend.can_detect_languages = can_detect
    stt.transcribe(np.zeros(16_000 * 130, np.float32), language)
    assert {piece.likely_language for piece in backend.pieces} == {likely}
    assert {piece.language for piece in backend.pieces} == {language}
    assert [piece.speech for piece in backend.pieces] == [(region,) for region in FAR_APART]
    assert len(backend.shown) == (3 if likely else 0)
    # the longest of each third
    assert all(len(piece.samples) >= 4.0 * 16_000 for piece in backend.shown)


@pytest.mark.usefixtures("spoken_from_1_to_3_s")
def test_of_one_piece_the_language_is_detected_as_it_is_transcribed(loader: Loader) -> None:
    WhisperSTT("some/model").transcribe(SILENCE)
    assert loader.backends["faster-whisper"].shown == []
    assert loader.backends["faster-whisper"].pieces[0].likely_language is None


def test_speech_without_words_is_counted_and_told(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "detect_speech", lambda _: (SpeechRegion(1.0, 3.0),))
    monkeypatch.setattr(
        FakeBackend, "transcribe", lambda self, pieces: [Transcript((), "en", self.model_version) for _ in pieces]
    )
    answer = WhisperSTT("some/model").transcribe(SILENCE)
    assert answer["speech_seconds_without_words"] == 2.0
    assert answer["notes"][-1] == "no words were recognized in 2.0 s of detected speech: 1.0-3.0 s"


def test_without_speech_the_text_is_empty(loader: Loader) -> None:
    answer = WhisperSTT("some/model").transcribe(SILENCE)
    assert (answer["text"], answer["segments"], answer["language"]) == ("", [], "und")
    assert answer["model_version"] == "faster-whisper:fake:float32"


def test_a_language_that_is_not_known_is_refused_before_decoding(loader: Loader) -> None:
    with pytest.raises(LanguageUnsupported):
        WhisperSTT("some/model").transcribe("/no/such/file.wav", "xx")


def test_a_real_file_is_cut_into_pieces_at_its_pauses(loader: Loader) -> None:
    answer = WhisperSTT("some/model").transcribe(DIALOGUE)
    assert answer["duration"] == pytest.approx(55.9, abs=0.1)
    pieces = loader.backends["faster-whisper"].pieces
    assert len(pieces) >= 2
    assert all(len(piece.samples) <= 480_000 for piece in pieces)
    assert answer["text"] == " ".join(["heard"] * len(pieces))


def test_paths_bytes_and_files_are_the_same_sound(loader: Loader) -> None:
    stt = WhisperSTT("some/model")
    answers = [
        stt.transcribe(audio)
        for audio in (DIALOGUE, str(DIALOGUE), DIALOGUE.read_bytes(), BytesIO(DIALOGUE.read_bytes()))
    ]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["segments"]


@pytest.mark.usefixtures("spoken_from_1_to_3_s")
@pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.uint8])
def test_samples_of_any_rate_and_type_become_the_same_tone(loader: Loader, rate_hz: int, dtype: type) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4 * rate_hz) / rate_hz)
    if dtype == np.uint8:
        samples = np.round(tone * 128 + 128).astype(np.uint8)
    else:
        samples = (tone * np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else tone).astype(dtype)
    assert WhisperSTT("some/model").transcribe((samples, rate_hz))["duration"] == 4.0
    [piece] = loader.backends["faster-whisper"].pieces
    assert piece.samples.dtype == np.float32
    expected = 0.5 * np.sin(2 * np.pi * 440 * (0.8 + np.arange(len(piece.samples)) / 16_000))
    assert np.abs(piece.samples - expected)[800:-800].max() < 0.01


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((2, 16_000), np.float32), "one channel"),
        ((np.zeros(100, np.float32), 0), "no sample rate"),
        (np.zeros(100, np.complex64), "no sound"),
        (np.array(["a"]), "no sound"),
        (b"not a media file", "."),
    ],
)
def test_what_is_no_sound_is_refused(loader: Loader, audio: module.Audio, message: str) -> None:
    with pytest.raises(AudioExtractionError, match=message):
        WhisperSTT("some/model").transcribe(audio)


def test_empty_and_broken_samples_are_silence(loader: Loader) -> None:
    stt = WhisperSTT("some/model")
    assert stt.transcribe(np.zeros(0, np.float32))["duration"] == 0.0
    assert stt.transcribe(np.full(16_000, np.nan, np.float32))["text"] == ""


def test_the_package_offers_it_without_loading_anything_ahead() -> None:
    assert serve_app.WhisperSTT is WhisperSTT
    assert "WhisperSTT" in dir(serve_app)
    with pytest.raises(AttributeError, match="no attribute 'Whisper'"):
        _ = serve_app.Whisper
    code = "import sys, serve_app; assert not {'numpy', 'torch', 'scipy'} & set(sys.modules), 'loaded too much'"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
