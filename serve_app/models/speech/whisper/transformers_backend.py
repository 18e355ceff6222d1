"""`TransformersBackend`: Whisper in Hugging Face transformers.

It calls `GenerationMixin.generate`: `WhisperForConditionalGeneration.generate` encodes again, decodes long files in its
own way, and takes one prompt for all pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, WhisperForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.generation.logits_process import (
    LogitsProcessorList,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)
from transformers.modeling_outputs import BaseModelOutput

from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper.cross_attention import AlignmentHead, head_of, outputs_of
from serve_app.models.speech.whisper.decoding_rules import Hypothesis
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.models.speech.whisper.torch_backend import TorchWhisper, seeded


@dataclass(frozen=True, slots=True)
class EncodedPieces:
    """A batch's encoding."""

    states: Tensor  # (pieces, 1500, width)
    projected: DynamicCache  # keys and values of cross-attention, filled by the decoder's first call

    def fresh_cache(self) -> EncoderDecoderCache:
        """Return a cache without tokens that shares the projections."""
        return EncoderDecoderCache(DynamicCache(), self.projected)


class TransformersBackend(TorchWhisper[EncodedPieces]):
    """A Whisper in transformers; its path is a Hugging Face folder."""

    name = BackendName.TRANSFORMERS

    def __init__(self, checkpoint: WhisperCheckpoint, path: Path, options: WhisperOptions) -> None:
        super().__init__(checkpoint, path, options)
        end = self.tokens.end_of_text
        # the checkpoint's generation settings become processors; transformers would warn of those left in the model
        self._model.generation_config = GenerationConfig(
            eos_token_id=end, bos_token_id=end, pad_token_id=end, decoder_start_token_id=self.tokens.start_of_transcript
        )
        self._suppress = SuppressTokensLogitsProcessor(self.tokens.suppressed, device=str(self._device))

    def _load(self, path: Path) -> WhisperForConditionalGeneration:
        return WhisperForConditionalGeneration.from_pretrained(
            path, dtype=self._dtype, attn_implementation="sdpa", local_files_only=True, use_safetensors=True
        )

    @torch.inference_mode()
    def _encode(self, features: NDArray[np.float32]) -> EncodedPieces:
        inputs = torch.from_numpy(features).to(self._device, self._dtype)
        return EncodedPieces(self._model.get_encoder()(inputs).last_hidden_state, DynamicCache())

    @torch.inference_mode()
    def _take(self, encoded: EncodedPieces, rows: Sequence[int]) -> EncodedPieces:
        return EncodedPieces(encoded.states[list(rows)], DynamicCache())

    @torch.inference_mode()
    def _language_probabilities(self, encoded: EncodedPieces) -> NDArray[np.float32]:
        prompt = [[self.tokens.start_of_transcript]] * len(encoded.states)
        states, _ = self._decode(encoded, prompt)
        logits = self._model.proj_out(states[:, 0])[:, list(self.tokens.language_ids.values())]
        return logits.float().softmax(dim=-1).cpu().numpy()

    @torch.inference_mode()
    def _generate(
        self, encoded: EncodedPieces, prompts: Sequence[Sequence[int]], beam_size: int, temperature: float
    ) -> list[Hypothesis]:
        start_at = list(prompts[0]).index(self.tokens.start_of_transcript)
        states, _ = self._decode(encoded, [prompt[: start_at + 1] for prompt in prompts])
        at_start = self._model.proj_out(states[:, -1]).float().softmax(dim=-1)
        no_speech = at_start[:, self.tokens.no_speech].tolist()
        if beam_size > 1 or temperature:
            answers = [
                self._search_one(encoded.states[row : row + 1], prompt, beam_size, temperature)
                for row, prompt in enumerate(prompts)
            ]
        else:
            answers = self._greedy_search(encoded, prompts)
        return [
            Hypothesis(tokens, logprob, nothing) for (tokens, logprob), nothing in zip(answers, no_speech, strict=True)
        ]

    def _attend(
        self, encoded: EncodedPieces, tokens: Sequence[Sequence[int]]
    ) -> tuple[list[AlignmentHead], Callable[[int, slice], Tensor]]:
        layers = {layer: self._model.model.decoder.layers[layer].encoder_attn.q_proj for layer, _ in self._heads}
        with outputs_of(layers) as queries:
            states, cache = self._decode(encoded, tokens)
        projected: Any = cache.cross_attention_cache.layers
        heads = [
            AlignmentHead(head_of(queries[layer], head, self._num_heads), projected[layer].keys[:, head])
            for layer, head in self._heads
        ]
        return heads, lambda row, tokens: self._model.proj_out(states[row, tokens])

    def _decode(self, encoded: EncodedPieces, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, EncoderDecoderCache]:
        """Return the decoder's states, (pieces, tokens, width), and its cache."""
        cache = encoded.fresh_cache()
        output = self._model.get_decoder()(
            input_ids=torch.tensor([list(own) for own in tokens], device=self._device),
            encoder_hidden_states=encoded.states,
            past_key_values=cache,
            use_cache=True,
        )
        return output.last_hidden_state, cache

    def _greedy_search(
        self, encoded: EncodedPieces, prompts: Sequence[Sequence[int]]
    ) -> list[tuple[tuple[int, ...], float]]:
        chosen = _ChosenLogProbabilities()
        processors = LogitsProcessorList([*self._processors(len(prompts[0])), chosen])
        sequences = self._search(encoded.states, prompts, processors, encoded.fresh_cache())
        logprobs = torch.stack(chosen.steps, dim=1).tolist()
        answers = []
        for sequence, own in zip(sequences, logprobs, strict=True):
            tokens = self._until_end(sequence)
            answers.append((tokens, sum(own[: len(tokens) + 1]) / (len(tokens) + 1)))
        return answers

    def _search_one(
        self, states: Tensor, prompt: Sequence[int], beam_size: int, temperature: float
    ) -> tuple[tuple[int, ...], float]:
        """Search or sample for one window. One more pass gives its log probability: `output_scores` would keep the
        scores of every step, beam and id, 0.5 GB a window.
        """
        processors: Any = LogitsProcessorList(self._processors(len(prompt)))
        if temperature:
            with seeded(self._device):
                [sequence] = self._search(
                    states, [prompt], processors, do_sample=True, temperature=temperature, top_k=0
                )
        else:
            [sequence] = self._search(
                states, [prompt], processors, num_beams=beam_size, early_stopping=True, renormalize_logits=True
            )
        tokens = self._until_end(sequence)
        everything = [*prompt, *tokens]
        ended = len(tokens) < self.tokens.room_after(prompt)
        targets = [*tokens, self.tokens.end_of_text] if ended else list(tokens)
        hidden, _ = self._decode(EncodedPieces(states, DynamicCache()), [everything])
        ids = torch.tensor([everything], device=self._device)
        total = 0.0
        for step, target in enumerate(targets):
            position = len(prompt) + step
            logits = self._model.proj_out(hidden[:, position - 1]).float()
            total += float(processors(ids[:, :position], logits).log_softmax(dim=-1)[0, target])
        return tokens, total / (len(tokens) + 1)

    def _search(
        self,
        states: Tensor,
        prompts: Sequence[Sequence[int]],
        processors: LogitsProcessorList,
        past_key_values: EncoderDecoderCache | None = None,
        **settings: Any,
    ) -> list[list[int]]:
        """Return the tokens generated after the prompts."""
        end = self.tokens.end_of_text
        config = GenerationConfig(
            eos_token_id=end,
            bos_token_id=end,
            pad_token_id=end,
            decoder_start_token_id=self.tokens.start_of_transcript,
            max_new_tokens=self.tokens.room_after(prompts[0]),
            **settings,
        )
        sequences: Any = GenerationMixin.generate(
            self._model,
            logits_processor=processors,
            generation_config=config,
            encoder_outputs=BaseModelOutput(last_hidden_state=states),  # type: ignore[arg-type]
            # a mask over the frames is needed where padding and end are the same token
            attention_mask=torch.ones(states.shape[:2], dtype=torch.long, device=self._device),
            decoder_input_ids=torch.tensor([list(prompt) for prompt in prompts], device=self._device),
            past_key_values=past_key_values,
        )
        return sequences[:, len(prompts[0]) :].tolist()

    def _processors(self, begin: int) -> list[LogitsProcessor]:
        # as in the other libraries, no window begins with a space alone, or ends at once
        return [self._suppress, SuppressTokensAtBeginLogitsProcessor(self.tokens.suppressed_at_begin, begin)]

    def _until_end(self, sequence: list[int]) -> tuple[int, ...]:
        end = self.tokens.end_of_text
        return tuple(sequence[: sequence.index(end)] if end in sequence else sequence)


class _ChosenLogProbabilities(LogitsProcessor):
    """Keeps the log probability of each step's likeliest token, which greedy search chooses."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps.append(scores.float().log_softmax(dim=-1).amax(dim=-1))
        return scores
