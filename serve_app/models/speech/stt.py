"""`WhisperSTT`: speech to text in one Python object, without Ray or HTTP; exported as `serve_app.WhisperSTT`.

from serve_app import WhisperSTT

stt = WhisperSTT("openai/whisper-small")
print(stt.transcribe("talk.mp4")["text"])
print(stt.transcribe("talk.mp4", language="ko", backend="transformers")["text"])  # both stay loaded
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import AudioExtractionError, GpuMemoryError, InvalidRequest, ModelLoadingError
from serve_app.languages import language_code
from serve_app.media.decode import decode_audio
from serve_app.media.samples import MAX_DURATION_S, DecodedAudio
from serve_app.models.speech.backends import MAX_PIECE_S, BackendName
from serve_app.models.speech.joining import join_transcripts, without_repetition
from serve_app.models.speech.pieces import recognizer_pieces, speech_inside
from serve_app.models.speech.voice_activity import detect_speech
from serve_app.models.speech.whisper.backend import SpeechPiece, language_windows, likely_language
from serve_app.models.speech.whisper.loading import LoadedWhisper, load_whisper
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.results import SAMPLE_RATE_HZ, Segment, Transcript
from serve_app.sentences import Sentence, joined

Audio = str | Path | bytes | BinaryIO | NDArray[Any] | tuple[NDArray[Any], int]

WHISPER_BACKENDS = tuple(name for name in BackendName if name.is_whisper)


class WhisperSTT:
    """One Whisper checkpoint in any of its backends; each that was used stays loaded.

    The constructor loads the first of `backends` that loads, the others are loaded on first use.

    It reads no environment variables: pass the attributes of `Settings.from_environment()` to follow the service's
    (`stt_device or device`, `stt_compute_type`, `models_dir`, `hf_token`). Any thread may call it; a backend runs one
    call at a time.

    Args:
        model_path: a name of the catalog (`whisper-base`) or of a size (`large-v3-turbo`), Hugging Face id, folder (in
            Hugging Face or CTranslate2 form), `.pt` file of openai-whisper, URL, or `embedded:whisper-micro`; or
            several, of which the first that loads is used.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:N", "mps".
        compute_type: number format; None: float16 on a GPU, float32 on a CPU.
        backends: names that may be used, in the order in which they are tried where a call names none.
        beam_size: hypotheses kept while decoding; 1: greedy; None: 2 for faster-whisper, 1 for the others.
        num_threads: CPU threads; None: one for each core that the process may use.
        cache_dir: for downloaded and converted checkpoints; None: `~/.local/state/serve_app/models`.
        hf_token: opens gated models on the Hugging Face hub.

    Attributes:
        backend: name of the backend that transcribed last; before the first call that of the loaded one, which is used
            where a call names none.

    Raises:
        InvalidRequest: `backends` is empty, or has a name that is no Whisper backend's.
        ModelLoadingError: none of `backends` can be loaded. It is a RuntimeError.
    """

    def __init__(
        self,
        model_path: str | Path | Sequence[str | Path],
        device: str = "auto",
        *,
        compute_type: str | None = None,
        backends: Sequence[str] | None = None,
        beam_size: int | None = None,
        num_threads: int | None = None,
        cache_dir: str | Path | None = None,
        hf_token: str | None = None,
    ) -> None:
        specs = [model_path] if isinstance(model_path, str | Path) else model_path
        self.models = tuple(str(spec) for spec in specs)
        self.backends = tuple(_whisper_backend(name) for name in (WHISPER_BACKENDS if backends is None else backends))
        if not self.backends:
            raise InvalidRequest(
                Sentence("backends is empty; name at least one of {names}", names=", ".join(WHISPER_BACKENDS))
            )
        self._options = WhisperOptions(
            cache_dir=Path(cache_dir or Path.home() / ".local/state/serve_app/models"),
            device=device,
            compute_type=compute_type,
            num_threads=num_threads or _usable_cores(),
            beam_size=beam_size,
            hf_token=hf_token,
        )
        self._loaded: dict[BackendName, LoadedWhisper] = {}
        self._loading = threading.Lock()
        self.backend = self.load()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the loaded backends, in the order of their loading."""
        return tuple(self._loaded)

    def load(self, backend: str | None = None) -> str:
        """Load a backend, by default the first of `backends` that loads, and return its name.

        Raises:
            InvalidRequest: it is none of `backends`.
            ModelLoadingError: it, or none of `backends`, can be loaded.
        """
        return str(self._backend(backend)[0])

    def transcribe(
        self, audio: Audio, language: str | None = "auto", backend: str | None = None, *, prompt: str | None = None
    ) -> dict[str, Any]:
        """Transcribe a recording of any length.

        Args:
            audio: path of a media file, its bytes, an open binary file, samples (n,) at 16 kHz, or (samples, rate).
                Samples are mono: floats within ±1, or integers of any width.
            language: code or English name, such as `ko`, `ko-KR` or `Korean`; "auto" or None: detected in three parts
                of the speech; a part that is surely in another language keeps that one.
            backend: its name; None: the first of `backends` that loads.
            prompt: text that the recording continues, or whose spelling it shares.

        Returns:
            `text`, `language`, `duration` in seconds, `segments` (dicts with `start`, `end`, `text` and `words`, each
            of which has `word`, `start`, `end`, `confidence`), `backend`, `model_version`, `notes`,
            `speech_seconds_without_words`.

        Raises:
            AudioExtractionError: it has no usable audio.
            GpuMemoryError: the GPU has too little memory left.
            InvalidRequest: `backend` is none of `backends`.
            LanguageUnsupported: the checkpoint was not made for the language.
            ModelLoadingError: the backend can't be loaded.
            ProcessingError: the model failed.
        """
        language = language_code(language)
        name, loaded, notes = self._backend(backend)
        loaded.backend.check_language(language)
        decoded = _decoded(audio)
        speech = detect_speech(decoded.samples)
        regions = recognizer_pieces(speech, decoded.duration_s, MAX_PIECE_S)
        likely = None
        if language == "auto" and len(regions) > 1 and loaded.backend.can_detect_languages:
            samples = [SpeechPiece(decoded.cut(part)) for part in language_windows(regions)]
            likely, _ = likely_language(loaded.backend.detect_languages(samples))
        pieces = [
            SpeechPiece(
                decoded.cut(region),
                region.start_s,
                language,
                prompt,
                speech=speech_inside(speech, region),
                likely_language=likely,
            )
            for region in regions
        ]
        transcripts: list[Transcript] = []
        before: Transcript | None = None
        for transcript in loaded.backend.transcribe(pieces):
            transcripts.append(without_repetition(before, transcript))
            before = transcripts[-1] if transcripts[-1].segments else before
        self.backend = str(name)
        whole = join_transcripts(transcripts, language=language, notes=(*notes, *decoded.notes), speech=speech)
        return {
            "text": " ".join(segment.text for segment in whole.segments),
            "language": whole.language,
            "duration": round(decoded.duration_s, 3),
            "segments": [_segment_as_dict(segment) for segment in whole.segments],
            "backend": str(name),
            "model_version": whole.model_version or loaded.backend.model_version,
            "notes": list(whole.notes),
            "speech_seconds_without_words": round(whole.speech_without_words_s or 0.0, 3),
        }

    def _backend(self, name: str | None) -> tuple[BackendName, LoadedWhisper, tuple[str, ...]]:
        """Return a loaded backend, and notes on the backends and models that were tried before it."""
        if name is not None:
            wanted = _whisper_backend(name)
            if wanted not in self.backends:
                raise InvalidRequest(
                    Sentence(
                        "The backend {name} is not enabled; enabled: {names}",
                        name=name,
                        names=", ".join(self.backends),
                    )
                )
            loaded = self._load(wanted)
            return wanted, loaded, loaded.notes
        failures: list[str] = []
        for candidate in self.backends:
            try:
                loaded = self._load(candidate)
            except (ModelLoadingError, GpuMemoryError) as error:
                failures.append(Sentence("{name} was not used: {reason}", name=candidate, reason=error.detail))
            else:
                return candidate, loaded, (*failures, *loaded.notes)
        raise ModelLoadingError(Sentence("No backend can be loaded. {reasons}", reasons=joined(" ", failures)))

    def _load(self, name: BackendName) -> LoadedWhisper:
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = load_whisper(name, self.models, self._options)
            return self._loaded[name]


def _whisper_backend(name: str) -> BackendName:
    if name not in WHISPER_BACKENDS:
        raise InvalidRequest(
            Sentence(
                "There is no Whisper backend '{name}'; choose one of {names}",
                name=name,
                names=", ".join(WHISPER_BACKENDS),
            )
        )
    return BackendName(name)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decoded(audio: Audio) -> DecodedAudio:
    if isinstance(audio, np.ndarray):
        return _from_samples(audio, SAMPLE_RATE_HZ)
    if isinstance(audio, tuple):
        return _from_samples(*audio)
    if isinstance(audio, bytes):
        return decode_audio(BytesIO(audio))
    return decode_audio(str(audio) if isinstance(audio, Path) else audio)


def _from_samples(samples: NDArray[Any], rate_hz: int) -> DecodedAudio:
    if samples.ndim != 1:
        raise AudioExtractionError(
            Sentence("The samples have the shape {shape}; pass one channel, (n,)", shape=samples.shape)
        )
    if rate_hz <= 0 or rate_hz != int(rate_hz):
        raise AudioExtractionError(Sentence("{rate} Hz is no sample rate; pass a positive integer", rate=rate_hz))
    if len(samples) > MAX_DURATION_S * rate_hz:
        raise AudioExtractionError(
            Sentence("The samples last longer than {hours:.0f} hours; cut them", hours=MAX_DURATION_S / 3600)
        )
    if np.issubdtype(samples.dtype, np.integer):
        limits = np.iinfo(samples.dtype)
        middle = (int(limits.max) + int(limits.min) + 1) // 2  # 128 for 8 bits, which are unsigned
        samples = (samples.astype(np.float32) - middle) / (int(limits.max) - middle + 1)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise AudioExtractionError(
            Sentence("Samples of type {kind} are no sound; pass floats or integers", kind=samples.dtype)
        )
    samples = np.nan_to_num(samples.astype(np.float32, copy=False), nan=0.0, posinf=1.0, neginf=-1.0)
    if rate_hz != SAMPLE_RATE_HZ and len(samples):
        import librosa  # brings numba: seconds

        samples = librosa.resample(samples, orig_sr=int(rate_hz), target_sr=SAMPLE_RATE_HZ)
    return DecodedAudio(samples, len(samples) / SAMPLE_RATE_HZ)


def _segment_as_dict(segment: Segment) -> dict[str, Any]:
    return {
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        "words": [
            {
                "word": word.word,
                "start": round(word.start_s, 3),
                "end": round(word.end_s, 3),
                "confidence": None if word.confidence is None else round(word.confidence, 4),
            }
            for word in segment.words
        ],
    }
