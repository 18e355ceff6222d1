"""`OpenAIWhisperBackend`: Whisper in OpenAI's own package, the reference for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from whisper.decoding import DecodingOptions, DecodingTask
from whisper.model import LayerNorm, ModelDimensions, Whisper

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.cross_attention import AlignmentHead, head_of, outputs_of
from serve_app.models.speech.whisper.decoding_rules import Hypothesis
from serve_app.models.speech.whisper.openai_reader import load_openai
from serve_app.models.speech.whisper.spoken_words import TokenTimes
from serve_app.models.speech.whisper.torch_backend import TorchWhisper, seeded
from serve_app.sentences import Sentence

# The package's decoder returns the logits of every token and id, 0.2 MB a token.
_MAX_LOGIT_ROWS = 600


class OpenAIWhisperBackend(TorchWhisper[Tensor]):
    """A Whisper in OpenAI's package; its path is a `.pt` file with `dims` and `model_state_dict`."""

    name = BackendName.OPENAI_WHISPER

    def _load(self, path: Path) -> Whisper:
        dims, state = load_openai(path)
        try:
            model = Whisper(ModelDimensions(**dims))
            model.load_state_dict(state)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ModelLoadingError(
                Sentence(
                    "{path} is no Whisper of its dims ({kind}: {reason})",
                    path=path,
                    kind=type(error).__name__,
                    reason=str(error),
                )
            ) from error
        # Convert the weights once; the package would do so at every step. Its LayerNorm computes in float32.
        for module in model.modules():
            if not isinstance(module, LayerNorm):
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(self._dtype)
        return model

    @torch.inference_mode()
    def _encode(self, features: NDArray[np.float32]) -> Tensor:
        return self._model.encoder(torch.from_numpy(features).to(self._device, self._dtype))

    def _take(self, encoded: Tensor, rows: Sequence[int]) -> Tensor:
        return encoded[list(rows)]

    @torch.inference_mode()
    def _language_probabilities(self, encoded: Tensor) -> NDArray[np.float32]:
        start = torch.full((len(encoded), 1), self.tokens.start_of_transcript, device=self._device)
        logits = self._model.logits(start, encoded)[:, 0, list(self.tokens.language_ids.values())]
        return logits.float().softmax(dim=-1).cpu().numpy()

    @torch.inference_mode()
    def _generate(
        self, encoded: Tensor, prompts: Sequence[Sequence[int]], beam_size: int, temperature: float
    ) -> list[Hypothesis]:
        if beam_size == 1:
            with seeded(self._device) if temperature else nullcontext():
                results = _Task(self._model, prompts, self._options(None, prompts[0], temperature)).run(encoded)
        else:  # the package repeats tokens for the beams, but not the audio: it searches one piece at a time
            options = self._options(beam_size, prompts[0])
            results = []
            for row, prompt in enumerate(prompts):
                results += _Task(self._model, [prompt], options).run(encoded[row : row + 1])
        return [Hypothesis(tuple(own.tokens), float(own.avg_logprob), float(own.no_speech_prob)) for own in results]

    def _options(self, beam_size: int | None, prompt: Sequence[int], temperature: float = 0.0) -> DecodingOptions:
        return DecodingOptions(
            task="transcribe",
            language="en",  # the prompts have the real one
            temperature=temperature,
            sample_len=self.tokens.room_after(prompt),
            beam_size=beam_size,
            suppress_tokens=list(self.tokens.suppressed),
            without_timestamps=True,
            fp16=self._dtype == torch.float16,
        )

    def _align(
        self, encoded: Tensor, start: Sequence[int], texts: Sequence[Sequence[int]], num_frames: Sequence[int]
    ) -> list[TokenTimes]:
        at_once = max(1, _MAX_LOGIT_ROWS // (len(start) + 2 + max(map(len, texts))))
        times: list[TokenTimes] = []
        for first in range(0, len(texts), at_once):
            rows = slice(first, first + at_once)
            times += super()._align(encoded[rows], start, texts[rows], num_frames[rows])
        return times

    def _attend(
        self, encoded: Tensor, tokens: Sequence[Sequence[int]]
    ) -> tuple[list[AlignmentHead], Callable[[int, slice], Tensor]]:
        layers = {layer: self._model.decoder.blocks[layer].cross_attn for layer, _ in self._heads}
        with (
            outputs_of({layer: attention.query for layer, attention in layers.items()}) as queries,
            outputs_of({layer: attention.key for layer, attention in layers.items()}) as keys,
        ):
            logits = self._model.logits(torch.tensor(tokens, device=self._device), encoded)
        heads = [
            AlignmentHead(head_of(queries[layer], head, self._num_heads), head_of(keys[layer], head, self._num_heads))
            for layer, head in self._heads
        ]
        return heads, lambda row, tokens: logits[row, tokens]


class _Task(DecodingTask):
    """The package's decoding, for encoded pieces with a prompt each; `whisper.decode` takes one prompt for all."""

    def __init__(self, model: Whisper, prompts: Sequence[Sequence[int]], options: DecodingOptions) -> None:
        self._prompts = prompts
        super().__init__(model, options)

    def _get_initial_tokens(self) -> tuple[int, ...]:
        return tuple(self._prompts[0])

    def _get_audio_features(self, mel: Tensor) -> Tensor:
        return mel

    def _detect_language(self, audio_features: Tensor, tokens: Tensor) -> tuple[list[str | None], Any]:
        tokens[:] = torch.tensor([list(prompt) for prompt in self._prompts])
        return [self.options.language] * len(audio_features), None
