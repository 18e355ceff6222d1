"""`load_whisper`: loads a backend with the first of the configured models that works."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from serve_app.errors import ModelLoadingError, ServeAppError
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.backend import WHISPER_MICRO
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint, open_checkpoint
from serve_app.models.speech.whisper.checkpoint_files import Form
from serve_app.models.speech.whisper.conversion import in_hugging_face_form, to_ctranslate2, to_openai
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.models.weights import fetch_weights, weights_name
from serve_app.sentences import Sentence, joined

if TYPE_CHECKING:
    from serve_app.models.speech.whisper.batched_backend import BatchedWhisper


@dataclass(frozen=True, slots=True)
class LoadedWhisper:
    """A loaded backend; `spec` is the configured model, `notes` has a sentence for each that failed to load before."""

    backend: BatchedWhisper
    spec: str
    notes: tuple[str, ...]


def load_whisper(backend: BackendName | str, models: Sequence[str], options: WhisperOptions) -> LoadedWhisper:
    """Load the first of the models that can be fetched, is a whole Whisper and fits into memory.

    Args:
        models: as `serve_app.models.weights.fetch_weights` takes them, a smaller size after each larger one.

    Raises:
        ModelLoadingError: no model works; names the reason for each.
    """
    name = BackendName(backend)
    failures: list[str] = []
    for spec in models:
        try:
            loaded = _load_one(name, spec, options)
        except Exception as error:  # the libraries raise many kinds for a model that they don't support
            if isinstance(error, ServeAppError):
                text = error.detail
            else:
                text = " ".join(f"{type(error).__name__}: {error}".split())
            name_of = weights_name(spec)
            failures.append(Sentence("{model} could not be loaded ({reason})", model=name_of, reason=text))
        else:
            notes = tuple(
                Sentence("{failure}: {model} is used instead", failure=failure, model=weights_name(spec))
                for failure in failures
            )
            return LoadedWhisper(loaded, spec, notes)
        _release_memory()  # outside the handler, where the error no longer keeps half a model alive
    if not failures:
        raise ModelLoadingError(
            Sentence(
                "No model is configured for {name}; name one, e.g. {whisper_micro}",
                name=name,
                whisper_micro=WHISPER_MICRO,
            )
        )
    raise ModelLoadingError(
        Sentence("{name} has no model that works: {failures}", name=name, failures=joined("; ", failures))
    )


def _load_one(name: BackendName, spec: str, options: WhisperOptions) -> BatchedWhisper:
    if spec == WHISPER_MICRO and options.beam_size is None:
        options = replace(options, beam_size=1)  # it makes more errors with more hypotheses
    path = fetch_weights(spec, options.cache_dir, options.hf_token, options.model_mirror)
    checkpoint = open_checkpoint(path, name=weights_name(spec), cache_dir=options.cache_dir)
    return _make_backend(name, checkpoint, options)


def _make_backend(name: BackendName, checkpoint: WhisperCheckpoint, options: WhisperOptions) -> BatchedWhisper:
    """Import only the backend's library: each takes seconds and hundreds of megabytes."""
    cache_dir = options.cache_dir
    if name is BackendName.FASTER_WHISPER:
        from serve_app.models.speech.whisper.faster_whisper_backend import FasterWhisperBackend

        folder = checkpoint.folder  # CTranslate2 converts between number formats while it loads
        if checkpoint.form is not Form.CTRANSLATE2:
            folder = to_ctranslate2(checkpoint, cache_dir, options.chosen_compute_type)
        return FasterWhisperBackend(checkpoint, folder, options)
    if name is BackendName.TRANSFORMERS:
        from serve_app.models.speech.whisper.transformers_backend import TransformersBackend

        checkpoint = in_hugging_face_form(checkpoint, cache_dir)
        return TransformersBackend(checkpoint, checkpoint.folder, options)
    if name is BackendName.OPENAI_WHISPER:
        from serve_app.models.speech.whisper.openai_backend import OpenAIWhisperBackend

        path = checkpoint.weights[0] if checkpoint.form is Form.OPENAI else to_openai(checkpoint, cache_dir)
        return OpenAIWhisperBackend(checkpoint, path, options)
    raise AssertionError(f"{name} has no branch here")


def _release_memory() -> None:
    """Free the memory of a failed attempt, on the GPU too."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
