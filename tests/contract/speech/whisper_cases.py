"""What the tests of this folder share beside fixtures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serve_app.models.speech.backends import BackendName

WHISPERS = (BackendName.FASTER_WHISPER, BackendName.TRANSFORMERS, BackendName.OPENAI_WHISPER)


@dataclass(frozen=True)
class Utterance:
    """Held-out synthetic speech with its truth; `words`: (word, start_s, end_s)."""

    file: str
    language: str
    text: str
    words: tuple[tuple[str, float, float], ...]
    samples: np.ndarray
