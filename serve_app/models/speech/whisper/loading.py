"""`load_whisper`: a backend with the first of the configured models that can be loaded."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from serve_app.errors import ModelLoadingError, ServeAppError
from serve_app.models.speech.whisper.backend import WHISPER_MICRO, BackendName, WhisperBackend
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint, open_checkpoint
from serve_app.models.speech.whisper.checkpoint_files import Form
from serve_app.models.speech.whisper.conversion import in_hugging_face_form, to_ctranslate2, to_openai
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.models.weights import fetch_weights, weights_name


@dataclass(frozen=True, slots=True)
class LoadedWhisper:
    """A backend that is ready.

    Attributes:
        backend: the loaded model.
        spec: which of the configured models it is.
        notes: one sentence for each model before it in the configuration that could not be loaded.
    """

    backend: WhisperBackend
    spec: str
    notes: tuple[str, ...]


def load_whisper(backend: BackendName | str, models: Sequence[str], options: WhisperOptions) -> LoadedWhisper:
    """Load the first of the models that can be loaded, in their order: a smaller size behind each larger one.

    Whatever keeps a model from being loaded counts: it can't be fetched, is no Whisper, is broken, or the device has no
    memory for it.

    Args:
        models: what `serve_app.models.weights.fetch_weights` takes.

    Raises:
        ModelLoadingError: none could be; tells the reason for each.
    """
    name = BackendName(backend)
    failures: list[str] = []
    for spec in models:
        try:
            loaded = _load_one(name, spec, options)
        except Exception as error:  # whatever a library makes of a model that is unknown to it
            failures.append(f"{weights_name(spec)} could not be loaded ({_reason(error)})")
        else:
            notes = tuple(f"{failure}: {weights_name(spec)} is used instead" for failure in failures)
            return LoadedWhisper(loaded, spec, notes)
        _release_memory()  # here, where the error is gone, and with it the frames that held half a model
    if not failures:
        raise ModelLoadingError(f"No model is configured for {name}; name one, e.g. {WHISPER_MICRO}")
    raise ModelLoadingError(f"{name} has no model that works: {'; '.join(failures)}")


def _load_one(name: BackendName, spec: str, options: WhisperOptions) -> WhisperBackend:
    if spec == WHISPER_MICRO and options.beam_size is None:
        options = replace(options, beam_size=1)  # more hypotheses make more errors of it
    path = fetch_weights(spec, options.cache_dir, options.hf_token, options.model_mirror)
    checkpoint = open_checkpoint(path, name=weights_name(spec), cache_dir=options.cache_dir)
    return _LOADERS[name](checkpoint, options)


def _load_faster_whisper(checkpoint: WhisperCheckpoint, options: WhisperOptions) -> WhisperBackend:
    from serve_app.models.speech.whisper.faster_whisper_backend import FasterWhisperBackend

    folder = checkpoint.folder  # CTranslate2 converts between number formats while it loads
    if checkpoint.form is not Form.CTRANSLATE2:
        folder = to_ctranslate2(checkpoint, options.cache_dir, options.chosen_compute_type)
    return FasterWhisperBackend(checkpoint, folder, options)


def _load_transformers(checkpoint: WhisperCheckpoint, options: WhisperOptions) -> WhisperBackend:
    from serve_app.models.speech.whisper.transformers_backend import TransformersBackend

    return TransformersBackend(in_hugging_face_form(checkpoint, options.cache_dir), options)


def _load_openai_whisper(checkpoint: WhisperCheckpoint, options: WhisperOptions) -> WhisperBackend:
    from serve_app.models.speech.whisper.openai_backend import OpenAIWhisperBackend

    is_openai = checkpoint.form is Form.OPENAI
    path = checkpoint.weights[0] if is_openai else to_openai(checkpoint, options.cache_dir)
    return OpenAIWhisperBackend(checkpoint, path, options)


# Each imports its library only when it is asked for: seconds and hundreds of megabytes.
_LOADERS: Mapping[BackendName, Callable[[WhisperCheckpoint, WhisperOptions], WhisperBackend]] = {
    BackendName.FASTER_WHISPER: _load_faster_whisper,
    BackendName.TRANSFORMERS: _load_transformers,
    BackendName.OPENAI_WHISPER: _load_openai_whisper,
}


def _reason(error: Exception) -> str:
    """Return what went wrong in one line."""
    text = error.detail if isinstance(error, ServeAppError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def _release_memory() -> None:
    """Give back what a failed attempt took, on the GPU too, before a smaller model is tried."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
