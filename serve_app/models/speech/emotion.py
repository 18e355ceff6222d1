"""`SpeechEmotionRecognizer`: emotions of speech, by any audio-classification model of the Hugging Face hub."""

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
from serve_app.models.pretrained import load_whole
from serve_app.models.weights import fetch_weights, weights_name
from serve_app.results import SAMPLE_RATE_HZ, LabelScores, SpeechRegion
from serve_app.sentences import Sentence

MIN_REGION_S = 0.25  # a short syllable
# The first part of a longer region is classified: attention grows with the square of the length, and a recogniser's
# segments are at most this long.
MAX_REGION_S = 30.0
_MAX_BATCH = 8
_MAX_BATCH_S = 60.0  # with padding


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
            num_threads: threads of torch in this process; None leaves them as they are.

        Raises:
            ModelLoadingError: it can't be fetched, is no classifier of 16 kHz audio, or lacks weights.
            GpuMemoryError: it does not fit.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self._device = torch_device(device)
        folder = fetch_weights(model_id, cache_dir, hf_token)
        network = load_whole(AutoModelForAudioClassification, folder, Sentence("The emotion model"))
        try:
            self._extractor = AutoFeatureExtractor.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # each of the library's classes raises its own kinds
            raise ModelLoadingError(
                Sentence(
                    "The emotion model {model_id} has no usable preprocessor_config.json ({kind}: {reason}); copy "
                    "it from the model it was made of",
                    model_id=model_id,
                    kind=type(error).__name__,
                    reason=str(error),
                )
            ) from error
        config = network.config
        if self._extractor.sampling_rate != SAMPLE_RATE_HZ:
            raise ModelLoadingError(
                Sentence(
                    "The emotion model {model_id} takes {sampling_rate} Hz; name one made for 16 kHz",
                    model_id=model_id,
                    sampling_rate=self._extractor.sampling_rate,
                )
            )
        if config.problem_type == "regression" or config.num_labels < 2:
            raise ModelLoadingError(
                Sentence(
                    "The emotion model {model_id} predicts degrees, not classes; name one that has labels such as "
                    "'happy'",
                    model_id=model_id,
                )
            )
        self.labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
        self.model_version = f"transformers:{weights_name(model_id)}:float32"
        self._is_multi_label = config.problem_type == "multi_label_classification"
        # Only these extractors keep lengths. Networks with group normalisation were trained without a mask: with
        # padding, the answer would depend on the other clips of the batch.
        self._keeps_lengths = isinstance(self._extractor, Wav2Vec2FeatureExtractor)
        self._can_pad = (
            bool(getattr(self._extractor, "return_attention_mask", False))
            and getattr(config, "feat_extract_norm", None) != "group"
        )
        with loading_errors(
            Sentence("moving the emotion model {model} to {device}", model=model_id, device=self._device)
        ):
            self._network = network.to(self._device)

    def recognize(
        self,
        samples: NDArray[np.float32],
        regions: Sequence[SpeechRegion],
        *,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[LabelScores | None]:
        """Return one answer for each region, in their order; None for less than 0.25 s inside the file.

        The first 30 s of a region are classified, or the model's window where that is shorter. An answer does not
        depend on its batch. Probabilities add up to 1, except for a model of several labels at once
        (`multi_label_classification`): each of its labels has its own.

        Args:
            samples: (n,) of the whole file, at 16 kHz.
            regions: in any order; they may overlap.
            should_stop: called before each batch; True ends the call.

        Raises:
            GpuMemoryError: the device has too little memory even for one region.
            ProcessingError: the model failed, or `should_stop` returned True.
        """
        clips = []
        for region in regions:
            start = max(0, round(region.start_s * SAMPLE_RATE_HZ))
            end = min(round(region.end_s * SAMPLE_RATE_HZ), start + round(MAX_REGION_S * SAMPLE_RATE_HZ))
            clips.append(samples[start : max(start, end)])
        answers: list[LabelScores | None] = [None] * len(clips)
        for batch in self._batches([len(clip) for clip in clips]):
            if should_stop():
                raise ProcessingError(Sentence("emotion recognition was stopped, as its caller asked"))
            for index, scores in zip(batch, self._probabilities([clips[index] for index in batch]), strict=True):
                by_label = dict(zip(self.labels, scores.tolist(), strict=True))
                answers[index] = LabelScores(self.labels[int(scores.argmax())], by_label)
        return answers

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yield indices of clips by batch, longest first, so that too little memory shows at once."""
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
        # outside the handler, where the error no longer keeps the batch on the GPU
        middle = len(clips) // 2
        return np.concatenate((self._probabilities(clips[:middle]), self._probabilities(clips[middle:])))

    def _classify(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        padding = {"padding": True} if self._keeps_lengths else {}
        inputs = self._extractor(list(clips), sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", **padding)
        with gpu_errors(Sentence("recognizing emotion")), torch.inference_mode():
            logits = self._network(**inputs.to(self._device)).logits.float()  # (clips, labels)
            found = torch.sigmoid(logits) if self._is_multi_label else torch.softmax(logits, dim=-1)
            scores: NDArray[np.float32] = found.cpu().numpy()
        if not np.isfinite(scores).all():
            raise ProcessingError(Sentence("the emotion model's answer is not numbers; its weights are damaged"))
        return scores
