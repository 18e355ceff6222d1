"""`OpenAIWhisperBackend`: Whisper by OpenAI's own package, the reference of the others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import whisper
from numpy.typing import NDArray
from torch import Tensor
from whisper.decoding import DecodingOptions, DecodingResult, DecodingTask
from whisper.model import LayerNorm, Whisper

from serve_app.models.devices import torch_device
from serve_app.models.gpu_memory import loading_errors
from serve_app.models.speech.whisper.backend import BackendName
from serve_app.models.speech.whisper.batched_backend import BatchedWhisper
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper.cross_attention import (
    AlignmentHead,
    head_of,
    outputs_of,
    text_probabilities,
    token_times,
)
from serve_app.models.speech.whisper.decoding_rules import Hypothesis
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.models.speech.whisper.spoken_words import TokenTimes
from serve_app.models.speech.whisper.torch_placement import dtype_name, free_memory, seeded, torch_dtype

# The package's decoder returns the logits of every token and id: 0.2 MB a token.
_MAX_LOGIT_ROWS = 600


class OpenAIWhisperBackend(BatchedWhisper[Tensor]):
    """A Whisper in OpenAI's package. Sets torch's number of CPU threads for the whole process.

    Args:
        converted: the `.pt` file: `dims` and `model_state_dict`.
        options: device, number format (float32, float16, bfloat16) and threads.

    Raises:
        ModelLoadingError: the device or number format is not to be had, or the file is broken.
        GpuMemoryError: the model does not fit.
    """

    name = BackendName.OPENAI_WHISPER

    def __init__(self, checkpoint: WhisperCheckpoint, converted: Path, options: WhisperOptions) -> None:
        self._device = torch_device(options.device)
        self._dtype = torch_dtype(options, self._device)
        torch.set_num_threads(options.num_threads)
        with loading_errors(f"loading {checkpoint.name} from {converted} with openai-whisper"):
            model = whisper.load_model(str(converted), device="cpu")
            self._model = _in_number_format(model, self._dtype).eval().to(self._device)
        super().__init__(checkpoint, options, number_format=dtype_name(self._dtype))
        self._heads = checkpoint.alignment_heads
        self._num_heads = int(self._model.dims.n_text_head)
        self._language_ids = self.tokens.language_ids

    def _free_memory(self) -> None:
        free_memory(self._device)

    @torch.inference_mode()
    def _encode(self, features: NDArray[np.float32]) -> Tensor:
        return self._model.encoder(torch.from_numpy(features).to(self._device, self._dtype))

    def _take(self, encoded: Tensor, rows: Sequence[int]) -> Tensor:
        return encoded[list(rows)]

    @torch.inference_mode()
    def _language_probabilities(self, encoded: Tensor) -> NDArray[np.float32]:
        start = torch.full((len(encoded), 1), self.tokens.start_of_transcript, device=self._device)
        logits = self._model.logits(start, encoded)[:, 0, list(self._language_ids.values())]
        return logits.float().softmax(dim=-1).cpu().numpy()

    @torch.inference_mode()
    def _generate(
        self, encoded: Tensor, prompts: Sequence[Sequence[int]], beam_size: int, temperature: float
    ) -> list[Hypothesis]:
        if beam_size == 1:
            with seeded(self._device) if temperature else nullcontext():
                results = _Task(self._model, prompts, self._options(None, prompts[0], temperature)).run(encoded)
        else:  # the package repeats tokens for the beams, but not the audio: it can search for one piece at a time
            options = self._options(beam_size, prompts[0])
            results = []
            for row, prompt in enumerate(prompts):
                results += _Task(self._model, [prompt], options).run(encoded[row : row + 1])
        return [Hypothesis(tuple(own.tokens), float(own.avg_logprob), float(own.no_speech_prob)) for own in results]

    def _options(self, beam_size: int | None, prompt: Sequence[int], temperature: float = 0.0) -> DecodingOptions:
        return DecodingOptions(
            task="transcribe",
            language="en",  # the prompts say which
            temperature=temperature,
            sample_len=self.tokens.room_after(prompt),
            beam_size=beam_size,
            suppress_tokens=list(self.tokens.suppressed),
            without_timestamps=True,
            fp16=self._dtype == torch.float16,
        )

    @torch.inference_mode()
    def _align(
        self, encoded: Tensor, start: Sequence[int], texts: Sequence[Sequence[int]], num_frames: Sequence[int]
    ) -> list[TokenTimes]:
        length = len(start) + 2 + max(map(len, texts))
        at_once = max(1, _MAX_LOGIT_ROWS // length)
        times: list[TokenTimes] = []
        for first in range(0, len(texts), at_once):
            rows = slice(first, first + at_once)
            times += self._align_at_once(encoded[rows], start, texts[rows], num_frames[rows])
        return times

    def _align_at_once(
        self, encoded: Tensor, start: Sequence[int], texts: Sequence[Sequence[int]], num_frames: Sequence[int]
    ) -> list[TokenTimes]:
        end = self.tokens.end_of_text
        sequences = [[*start, self.tokens.no_timestamps, *text, end] for text in texts]
        length = max(map(len, sequences))
        tokens = torch.tensor([[*own, *[end] * (length - len(own))] for own in sequences], device=self._device)
        layers = {layer: self._model.decoder.blocks[layer].cross_attn for layer, _ in self._heads}
        with (
            outputs_of({layer: attention.query for layer, attention in layers.items()}) as queries,
            outputs_of({layer: attention.key for layer, attention in layers.items()}) as keys,
        ):
            logits = self._model.logits(tokens, encoded)
        heads = [
            AlignmentHead(head_of(queries[layer], head, self._num_heads), head_of(keys[layer], head, self._num_heads))
            for layer, head in self._heads
        ]
        return [
            token_times(
                heads,
                row,
                num_start_tokens=len(start),
                probabilities=text_probabilities(logits[row, len(start) :], text, end),
                num_frames=frames,
            )
            for row, (text, frames) in enumerate(zip(texts, num_frames, strict=True))
        ]


class _Task(DecodingTask):
    """The package's decoding of pieces that are encoded already, each with a prompt of its own.

    `whisper.decode` takes one language and one prompt for all pieces; these three methods are where it applies them.
    """

    def __init__(self, model: Whisper, prompts: Sequence[Sequence[int]], options: DecodingOptions) -> None:
        self._prompts = prompts
        super().__init__(model, options)

    def run(self, mel: Tensor) -> list[DecodingResult]:
        return super().run(mel)

    def _get_initial_tokens(self) -> tuple[int, ...]:
        return tuple(self._prompts[0])

    def _get_audio_features(self, mel: Tensor) -> Tensor:
        return mel

    def _detect_language(self, audio_features: Tensor, tokens: Tensor) -> tuple[list[str | None], Any]:
        tokens[:] = torch.tensor([list(prompt) for prompt in self._prompts])
        return [self.options.language] * len(audio_features), None


def _in_number_format(model: Whisper, dtype: torch.dtype) -> Whisper:
    """Convert the weights once; the package would convert them at every step. Its LayerNorm computes in float32."""
    if dtype != torch.float32:
        for module in model.modules():
            if not isinstance(module, LayerNorm):
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(dtype)
    return model
