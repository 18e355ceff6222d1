"""Five model systems as one Ray Serve deployment graph."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "BeverageDetectorInference",
    "InferenceConfig",
    "ReusableClassifierInference",
    "WhisperSTT",
    "__version__",
    "drum_wav_to_midi",
]

_LAZY = {  # importing this package must stay cheap
    "BeverageDetectorInference": ("serve_app.image_inference", "images"),
    "InferenceConfig": ("serve_app.models.drums.config", "drums"),
    "ReusableClassifierInference": ("serve_app.image_inference", "images"),
    "WhisperSTT": ("serve_app.models.speech.stt", "speech"),
    "drum_wav_to_midi": ("serve_app.models.drums.transcription", "drums"),
}


def __getattr__(name: str) -> Any:
    """Import what is offered here only when somebody asks for it."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _LAZY[name]
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} needs {error.name}, which comes with serve_app[{extra}]: pip install 'serve_app[{extra}]'",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
