"""`SpeechEmotionRecognizer`: how speech sounds, by any audio-classification model of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, Wav2Vec2FeatureExtractor

from serve_app.errors import GpuMemoryError, ModelLoadingError, ProcessingError
from serve_app.models.devices import torch_device
from serve_app.models.gpu_memory import gpu_errors, loading_errors
from serve_app.models.speech.pretrained import load_whole
from serve_app.models.weights import fetch_weights, weights_name
from serve_app.results import SAMPLE_RATE_HZ, LabelScores, SpeechRegion

# Nobody's mood can be told from less than a short syllable.
MIN_REGION_S = 0.25
# Of a longer region the first 30 s are looked at: attention grows with the square, and a recogniser's segments, of
# which the regions are, are at most that long.
MAX_REGION_S = 30.0

_MAX_BATCH = 8
# Padding included: one region of the greatest length, or several shorter ones.
_MAX_BATCH_S = 60.0


class SpeechEmotionRecognizer:
    """Classify stretches of speech. An instance is for one thread at a time.

    Attributes:
        labels: the classes, as the model's configuration names them.
        model_version: "transformers:<model>:<number format>".
    """

    def __init__(
        self,
        model_id: str,
        *,
        device: str = "auto",
        num_threads: int | None = None,
        cache_dir: Path,
        hf_token: str | None = None,
    ) -> None:
        """Load the model.

        Args:
            model_id: Hugging Face id, or a local folder.
            device: as in `models.devices`.
            num_threads: threads that torch may use in this process; None leaves them as they are.

        Raises:
            ModelLoadingError: it can't be had, is no classifier of 16 kHz sound, or is not whole.
            GpuMemoryError: it does not fit.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self._device = torch_device(device)
        folder = fetch_weights(model_id, cache_dir, hf_token)
        network = load_whole(AutoModelForAudioClassification, folder, "The emotion model")
        try:
            self._extractor = AutoFeatureExtractor.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # each of the library's classes raises its own kinds
            raise ModelLoadingError(
                f"The emotion model {model_id} has no usable preprocessor_config.json ({type(error).__name__}: "
                f"{error}); copy it from the model it was made of"
            ) from error
        config = network.config
        if self._extractor.sampling_rate != SAMPLE_RATE_HZ:
            raise ModelLoadingError(
                f"The emotion model {model_id} takes {self._extractor.sampling_rate} Hz; name one made for 16 kHz"
            )
        if config.problem_type == "regression" or config.num_labels < 2:
            raise ModelLoadingError(
                f"The emotion model {model_id} tells degrees, not classes; name one that has labels such as 'happy'"
            )
        self.labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
        self.model_version = f"transformers:{weights_name(model_id)}:float32"
        self._is_multi_label = config.problem_type == "multi_label_classification"
        # Only these extractors leave lengths as they are. Networks with group normalisation were trained without a
        # mask: padding changes what they hear, so that the answer would depend on the neighbours in the batch.
        self._keeps_lengths = isinstance(self._extractor, Wav2Vec2FeatureExtractor)
        self._can_pad = (
            bool(getattr(self._extractor, "return_attention_mask", False))
            and getattr(config, "feat_extract_norm", None) != "group"
        )
        with loading_errors(f"moving the emotion model {model_id} to {self._device}"):
            self._network = network.to(self._device)

    def recognize(
        self,
        samples: NDArray[np.float32],
        regions: Sequence[SpeechRegion],
        *,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[LabelScores | None]:
        """Return one answer for each region, in their order.

        None stands for a region that has less than 0.25 s inside the file. Of a region longer than 30 s the first
        30 s are looked at; a model with a shorter window of its own looks at that. Regions are batched by length; an
        answer does not depend on its batch. Probabilities add up to 1, but for a model of several labels at once
        (`multi_label_classification`), where each is one of its own.

        Args:
            samples: (n,) at 16 kHz: the whole file; regions are read without copying it.
            regions: in any order; they may overlap.
            should_stop: asked before each batch; True ends the call.

        Raises:
            GpuMemoryError: the device has no memory left, for one region alone too.
            ProcessingError: the model failed, or `should_stop` answered True.
        """
        clips = [_clip(samples, region) for region in regions]
        answers: list[LabelScores | None] = [None] * len(clips)
        for batch in self._batches([len(clip) for clip in clips]):
            if should_stop():
                raise ProcessingError("emotion recognition was stopped, as its caller asked")
            for index, scores in zip(batch, self._probabilities([clips[index] for index in batch]), strict=True):
                by_label = dict(zip(self.labels, scores.tolist(), strict=True))
                answers[index] = LabelScores(self.labels[int(scores.argmax())], by_label)
        return answers

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yield indices of clips that go together, longest first: what fails for memory fails at once."""
        batch: list[int] = []
        most = _MAX_BATCH if self._can_pad or not self._keeps_lengths else 1
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            if lengths[index] < MIN_REGION_S * SAMPLE_RATE_HZ:
                break
            if batch and (len(batch) == most or (len(batch) + 1) * lengths[batch[0]] > _MAX_BATCH_S * SAMPLE_RATE_HZ):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _probabilities(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return (clips, labels); a batch that does not fit into the GPU's memory is halved."""
        try:
            return self._classify(clips)
        except GpuMemoryError:
            if len(clips) == 1:
                raise
        middle = len(clips) // 2
        return np.concatenate((self._probabilities(clips[:middle]), self._probabilities(clips[middle:])))

    def _classify(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        padding = {"padding": True} if self._keeps_lengths else {}
        inputs = self._extractor(list(clips), sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", **padding)
        with gpu_errors("recognizing emotion"), torch.inference_mode():
            logits = self._network(**inputs.to(self._device)).logits.float()  # (clips, labels)
            found = torch.sigmoid(logits) if self._is_multi_label else torch.softmax(logits, dim=-1)
            scores: NDArray[np.float32] = found.cpu().numpy()
        if not np.isfinite(scores).all():
            raise ProcessingError("the emotion model's answer is not numbers; its weights are damaged")
        return scores


def _clip(samples: NDArray[np.float32], region: SpeechRegion) -> NDArray[np.float32]:
    """Return a region's samples, at most 30 s, inside the file."""
    start = max(0, round(region.start_s * SAMPLE_RATE_HZ))
    end = min(round(region.end_s * SAMPLE_RATE_HZ), start + round(MAX_REGION_S * SAMPLE_RATE_HZ))
    return samples[start : max(start, end)]
