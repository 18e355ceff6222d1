"""Drum transcription: from a recording to kick, snare and hi-hat as General MIDI.

The names below are loaded when they are first used: importing a module of this package does not load torch by itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_app.models.drums.config import InferenceConfig
    from serve_app.models.drums.transcription import DrumFiles, drum_wav_to_midi, transcribe_drums

__all__ = ["DrumFiles", "InferenceConfig", "drum_wav_to_midi", "transcribe_drums"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "config" if name == "InferenceConfig" else "transcription"
    return getattr(import_module(f"{__name__}.{module}"), name)
