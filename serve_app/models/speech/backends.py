"""`BackendName`: the speech backends that a request may name. Imports nothing heavy."""

from __future__ import annotations

from enum import StrEnum

MAX_PIECE_S = 30.0  # the longest piece that a backend takes: Whisper's window (Radford et al. 2022, section 2.1)


class BackendName(StrEnum):
    """Names for a request's `backend`, in the fixed order in which they are tried; the embedded recogniser is last."""

    FASTER_WHISPER = "faster-whisper"
    TRANSFORMERS = "transformers"
    OPENAI_WHISPER = "openai-whisper"
    POCKETSPHINX = "pocketsphinx"

    @property
    def is_whisper(self) -> bool:
        """Whether it serves the Whisper checkpoint, which all Whisper backends share."""
        return self in (BackendName.FASTER_WHISPER, BackendName.TRANSFORMERS, BackendName.OPENAI_WHISPER)
