"""Five model systems as one Ray Serve deployment graph."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = ["InferenceConfig", "WhisperSTT", "__version__", "drum_wav_to_midi"]

_LAZY = {  # importing this package must stay cheap
    "InferenceConfig": "serve_app.models.drums.config",
    "WhisperSTT": "serve_app.models.speech.stt",
    "drum_wav_to_midi": "serve_app.models.drums.transcription",
}


def __getattr__(name: str) -> Any:
    """Import what is offered here only when somebody asks for it."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
