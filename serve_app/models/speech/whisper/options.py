"""How a Whisper is to be loaded, the same for every backend. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

_LEFT_TO_THE_BACKEND = (None, "default", "auto")


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperOptions:
    """Where and how a Whisper runs.

    Attributes:
        cache_dir: `<state dir>/models`: downloaded, completed and converted checkpoints.
        device: as in `models.devices`: "auto", "cpu", "cuda", "cuda:N", "mps".
        compute_type: number format, by CTranslate2's names; None, "default" and "auto" leave it to the backend.
        num_threads: CPU threads of one call.
        beam_size: hypotheses kept while decoding; 1: greedy; None: what suits the backend, 2 for faster-whisper (fewer
            errors for a few percent more time, docs/models/whisper.md) and 1 for the others, which search window by
            window.
        batch_size: pieces encoded and decoded at once. On 2 cores more than 8 gain nothing; on a GPU 16 pieces of
            large-v3 take 2 GB more than 8.
        hf_token: opens gated models on the Hugging Face hub.
        model_mirror: URL or folder of a mirror of the catalog's models.
    """

    cache_dir: Path
    device: str = "auto"
    compute_type: str | None = None
    num_threads: int = 1
    beam_size: int | None = None
    batch_size: int = 8
    hf_token: str | None = field(default=None, repr=False)
    model_mirror: str | None = field(default=None, repr=False)

    @property
    def chosen_compute_type(self) -> str | None:
        """The number format that the operator insists on; None: float16 on a GPU, float32 on a CPU."""
        return None if self.compute_type in _LEFT_TO_THE_BACKEND else self.compute_type
