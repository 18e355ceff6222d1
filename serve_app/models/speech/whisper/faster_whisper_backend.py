"""`FasterWhisperBackend`: Whisper in CTranslate2, the fastest of the three on CPUs, and the only one with int8.

Torch is not loaded. Encodings stay on their device; parts of a batch are copied through the host's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ctranslate2
import numpy as np
from ctranslate2 import DataType, Device, StorageView
from numpy.typing import NDArray

from serve_app.errors import ModelLoadingError
from serve_app.models.devices import ctranslate2_device
from serve_app.models.gpu_memory import loading_errors
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.batched_backend import BatchedWhisper
from serve_app.models.speech.whisper.checkpoint import WhisperCheckpoint
from serve_app.models.speech.whisper.decoding_rules import SEED, Hypothesis
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.models.speech.whisper.spoken_words import TIME_PRECISION_S, TokenTimes
from serve_app.sentences import Sentence

_PROPOSED_TOKENS = 16  # of one greedy search while sampling: half a sentence, mostly accepted


class FasterWhisperBackend(BatchedWhisper[StorageView]):
    """A Whisper in CTranslate2's form, in any number format that CTranslate2 has for the device.

    Raises:
        ModelLoadingError: the folder is broken, or there is no such device or number format.
        GpuMemoryError: the model does not fit.
    """

    name = BackendName.FASTER_WHISPER
    usual_beam_size = 2  # the search takes all windows of a batch together, so that a second hypothesis costs little

    def __init__(self, checkpoint: WhisperCheckpoint, converted: Path, options: WhisperOptions) -> None:
        device, index = ctranslate2_device(options.device)
        compute_type = options.chosen_compute_type or ("float16" if device == "cuda" else "float32")
        usable = ctranslate2.get_supported_compute_types(device, index)
        if compute_type not in usable:
            raise ModelLoadingError(
                Sentence(
                    "CTranslate2 can't compute in {compute_type} on this {device} device; set the compute type to one "
                    "of {usable}",
                    compute_type=compute_type,
                    device=device,
                    usable=", ".join(sorted(usable)),
                )
            )
        with loading_errors(
            Sentence(
                "loading {model} from {path} with {name}", model=checkpoint.name, path=converted, name="CTranslate2"
            )
        ):
            self._model = ctranslate2.models.Whisper(
                str(converted),
                device=device,
                device_index=index,
                compute_type=compute_type,
                intra_threads=options.num_threads,
                inter_threads=1,
            )
        super().__init__(checkpoint, options, number_format=self._model.compute_type)

    def _encode(self, features: NDArray[np.float32]) -> StorageView:
        if self._model.device != "cpu" or len(features) == 1:
            return self._model.encode(StorageView.from_array(features))
        # on a CPU one after the other: attention over several windows leaves the caches, and takes a fifth longer
        # (docs/models/whisper.md)
        alone = [_on_host(self._model.encode(StorageView.from_array(own))) for own in np.split(features, len(features))]
        return StorageView.from_array(np.concatenate(alone))

    def _take(self, encoded: StorageView, rows: Sequence[int]) -> StorageView:
        # the model moves it to its own device and number format
        return StorageView.from_array(np.ascontiguousarray(_on_host(encoded)[list(rows)]))

    def _language_probabilities(self, encoded: StorageView) -> NDArray[np.float32]:
        found = [dict(ranked) for ranked in self._model.detect_language(encoded)]
        return np.array([[row.get(f"<|{code}|>", 0.0) for code in self.tokens.language_ids] for row in found], "f4")

    def _generate(
        self, encoded: StorageView, prompts: Sequence[Sequence[int]], beam_size: int, temperature: float
    ) -> list[Hypothesis]:
        if temperature:
            return [self._sampled(encoded, list(prompt), temperature) for prompt in prompts]
        results = self._model.generate(
            encoded,
            [list(prompt) for prompt in prompts],
            beam_size=beam_size,
            max_length=_max_length(self.tokens.room_after(prompts[0]), prompts[0]),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=list(self.tokens.suppressed),
        )
        return [
            Hypothesis(
                tuple(result.sequences_ids[0]),
                # the score is a sum with the end, divided by the number of tokens without it
                result.scores[0] * len(result.sequences_ids[0]) / (len(result.sequences_ids[0]) + 1),
                result.no_speech_prob,
            )
            for result in results
        ]

    def _sampled(self, encoded: StorageView, prompt: list[int], temperature: float) -> Hypothesis:
        """Draw one answer, always the same for a window.

        CTranslate2's own sampling can't be repeated: it seeds each of its threads once. Here its greedy search proposes
        some tokens and returns their logits. The largest of logits / temperature + Gumbel noise is a sample of their
        distribution. After the first token that differs from the proposed one, the search begins again.
        """
        noise = np.random.default_rng(SEED)
        room = self.tokens.room_after(prompt)
        tokens: list[int] = []
        total, no_speech = 0.0, 0.0
        while len(tokens) < room:
            [result] = self._model.generate(
                encoded,
                [[*prompt, *tokens]],  # CTranslate2 returns the tokens after the prompt again
                beam_size=1,
                max_length=_max_length(min(room, len(tokens) + _PROPOSED_TOKENS), prompt),
                return_logits_vocab=True,
                return_no_speech_prob=True,
                suppress_blank=False,
                suppress_tokens=list(self.tokens.suppressed),
            )
            no_speech = result.no_speech_prob
            num_known = len(tokens)
            proposed = [*result.sequences_ids[0], self.tokens.end_of_text]
            for view, likeliest in list(zip(result.logits[0], proposed, strict=False))[num_known:]:
                logits = _on_host(view).astype(np.float64)
                if not tokens:
                    logits[list(self.tokens.suppressed_at_begin)] = -np.inf
                chosen = int(np.argmax(logits / temperature + noise.gumbel(size=len(logits))))
                total += float(logits[chosen] - np.logaddexp.reduce(logits))
                if chosen == self.tokens.end_of_text:
                    return Hypothesis(tuple(tokens), total / (len(tokens) + 1), no_speech)
                tokens.append(chosen)
                if chosen != likeliest:
                    break
            if len(tokens) == num_known:  # nothing was proposed
                break
        return Hypothesis(tuple(tokens), total / (len(tokens) + 1), no_speech)

    def _align(
        self, encoded: StorageView, start: Sequence[int], texts: Sequence[Sequence[int]], num_frames: Sequence[int]
    ) -> list[TokenTimes]:
        results = self._model.align(encoded, list(start), [list(text) for text in texts], list(num_frames))
        return [_token_times(result) for result in results]


def _max_length(room: int, prompt: Sequence[int]) -> int:
    """Return CTranslate2's bound: new tokens take at most half of it, and at most what the prompt leaves."""
    return max(2 * room, room + len(prompt))


def _on_host(encoded: StorageView) -> NDArray[np.float32]:
    host = encoded.to_device(Device.cpu) if encoded.device != "cpu" else encoded
    return np.asarray(host if host.dtype == DataType.float32 else host.to(DataType.float32))


def _token_times(result: ctranslate2.models.WhisperAlignmentResult) -> TokenTimes:
    path = np.asarray(result.alignments)  # (steps, 2): token, frame
    begins = np.concatenate(([True], np.diff(path[:, 0]) > 0))
    return TokenTimes((path[begins, 1] * TIME_PRECISION_S).tolist(), result.text_token_probs)
