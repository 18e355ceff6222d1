"""`TorchWhisper`: the common part of the backends that run in torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from serve_app.errors import ModelLoadingError
from serve_app.models.devices import torch_device
from serve_app.models.gpu_memory import loading_errors
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.batched_backend import BatchedWhisper, Encoded
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper.cross_attention import AlignmentHead, text_probabilities, token_times
from serve_app.models.speech.whisper.decoding_rules import SEED
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.models.speech.whisper.spoken_words import TokenTimes
from serve_app.sentences import Sentence

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class TorchWhisper(BatchedWhisper[Encoded]):
    """A Whisper in torch. Sets torch's number of CPU threads for the whole process.

    Args:
        path: of the checkpoint in the library's form.
        options: device, number format (float32, float16, bfloat16) and threads.

    Raises:
        ModelLoadingError: there is no such device or number format, or the library refuses the checkpoint.
        GpuMemoryError: the model does not fit.
    """

    def __init__(self, checkpoint: WhisperCheckpoint, path: Path, options: WhisperOptions) -> None:
        self._device = torch_device(options.device)
        self._dtype = torch_dtype(options, self._device)
        torch.set_num_threads(options.num_threads)
        with loading_errors(
            Sentence("loading {model} from {path} with {name}", model=checkpoint.name, path=path, name=self.name)
        ):
            self._model: Any = self._load(path).eval().to(self._device)
        super().__init__(checkpoint, options, number_format=str(self._dtype).removeprefix("torch."))
        self._heads = checkpoint.alignment_heads
        self._num_heads = int(checkpoint.config["decoder_attention_heads"])

    @abstractmethod
    def _load(self, path: Path) -> torch.nn.Module:
        """Return the network on the CPU, in the number format."""

    @abstractmethod
    def _attend(
        self, encoded: Encoded, tokens: Sequence[Sequence[int]]
    ) -> tuple[list[AlignmentHead], Callable[[int, slice], Tensor]]:
        """Return the alignment heads' queries and keys for the tokens of each window, which are equally long; and a
        function that returns the logits of a window, (tokens, ids), for a slice of its tokens.
        """

    def _free_memory(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        elif self._device.type == "mps":
            torch.mps.empty_cache()

    @torch.inference_mode()
    def _align(
        self, encoded: Encoded, start: Sequence[int], texts: Sequence[Sequence[int]], num_frames: Sequence[int]
    ) -> list[TokenTimes]:
        end = self.tokens.end_of_text
        length = max(map(len, texts)) + 1  # of a text and its end
        tokens = [[*start, self.tokens.no_timestamps, *text, *[end] * (length - len(text))] for text in texts]
        heads, logits_of = self._attend(encoded, tokens)
        return [
            token_times(
                heads,
                row,
                num_start_tokens=len(start),
                probabilities=text_probabilities(logits_of(row, slice(len(start), len(start) + len(text))), text, end),
                num_frames=frames,
            )
            for row, (text, frames) in enumerate(zip(texts, num_frames, strict=True))
        ]


def torch_dtype(options: WhisperOptions, device: torch.device) -> torch.dtype:
    """Return the configured number format, by default float16 on CUDA and float32 elsewhere.

    Raises:
        ModelLoadingError: a format that only CTranslate2 has.
    """
    chosen = options.chosen_compute_type or ("float16" if device.type == "cuda" else "float32")
    if chosen not in _DTYPES:
        raise ModelLoadingError(
            Sentence(
                "Only the backend {faster_whisper} computes in {chosen}; set the compute type of this one to one "
                "of {dtypes}",
                faster_whisper=BackendName.FASTER_WHISPER,
                chosen=chosen,
                dtypes=", ".join(_DTYPES),
            )
        )
    return _DTYPES[chosen]


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Draw from a fixed seed while the block runs; the process's own generators stay as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(SEED)
        yield
