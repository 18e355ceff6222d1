"""`LocalPipeline`: pyannote's SpeakerDiarization on given networks; nothing is fetched from a hub."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pyannote.audio.core.inference import Inference
from pyannote.audio.core.model import Model
from pyannote.audio.core.plda import PLDA
from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
from pyannote.core import SlidingWindowFeature

from serve_app.models.diarization.clustering import ClusteringRule, ConversationClustering, predecessors
from serve_app.models.diarization.networks import is_powerset

# Chosen on conversations of held-out speakers (docs/models/speaker-embedding.md has the table).
SEGMENTATION_STEP = 0.1
SEGMENTATION_THRESHOLD = 0.5
# Windows at once, of segmentation and embedding. On a CPU more than four leave the caches (docs/models/diarization.md).
_CPU_BATCHES = (4, 4)
_GPU_BATCHES = (16, 32)
# A local speaker who speaks alone for less than this in a chunk gets the embedding of all of their speech in it.
_MIN_CLEAN_S = 0.5
# A local speaker with less speech is not embedded: a syllable does not identify a voice.
_MIN_ACTIVE_S = 0.15
# A local speaker who is in the chunk before, too, keeps that chunk's embedding for this long: most of the speech is the
# same. Not if the speech then was less than this part of the speech now, of which four seconds are enough.
_REUSE_S = 3.0
_WORTH_RATIO = 0.7
_ENOUGH_S = 4.0


class LocalPipeline(SpeakerDiarization):
    """SpeakerDiarization on given networks.

    Three things differ from the parent: most local speakers are not embedded, because they are not active or were
    embedded in a chunk before; `ConversationClustering` finds the clusters; and the frames are put together without a
    Python loop over them, in memory that does not grow with chunks times speakers.
    """

    def __init__(self, segmentation: Model, embedding: Model, rule: ClusteringRule) -> None:
        # the parent fetches a PLDA from the hub where none is given; our clustering does not use it
        super().__init__(
            segmentation=segmentation,
            segmentation_step=SEGMENTATION_STEP,
            segmentation_batch_size=_CPU_BATCHES[0],
            embedding=embedding,
            embedding_batch_size=_CPU_BATCHES[1],
            embedding_exclude_overlap=True,
            plda=PLDA.__new__(PLDA),
            clustering="AgglomerativeClustering",
        )
        self.clustering = ConversationClustering(rule)
        self._expects_num_speakers = False
        parameters = {"min_duration_off": 0.0}
        if not is_powerset(segmentation):  # there a frame has one class: no threshold is used
            parameters["threshold"] = SEGMENTATION_THRESHOLD
        self.instantiate({"segmentation": parameters})

    def to(self, device: torch.device) -> LocalPipeline:
        """Move the networks to a device, and set the batch sizes for it."""
        self.segmentation_batch_size, self.embedding_batch_size = _CPU_BATCHES if device.type == "cpu" else _GPU_BATCHES
        super().to(device)
        return self

    def get_embeddings(
        self,
        file: Any,
        binary_segmentations: SlidingWindowFeature,
        exclude_overlap: bool = False,
        hook: Callable[..., None] | None = None,
    ) -> np.ndarray:
        """Return embeddings, (chunks, local speakers, dimension); NaN where a speaker is hardly active."""
        if self.training and (cached := file.get("training_cache/embeddings")) is not None:
            return cached
        windows = binary_segmentations.sliding_window
        active = np.nan_to_num(binary_segmentations.data).astype(np.float32)  # (chunks, frames, speakers)
        num_chunks, num_frames, num_speakers = active.shape
        frames_per_s = num_frames / windows.duration
        clean = active * (active.sum(axis=2, keepdims=True) < 2) if exclude_overlap else active
        enough = clean.sum(axis=1) >= _MIN_CLEAN_S * frames_per_s
        masks = np.where(enough[:, None, :], clean, active).transpose(0, 2, 1)  # (chunks, speakers, frames)
        speech_s = masks.sum(axis=2) / frames_per_s
        speech_s[speech_s < _MIN_ACTIVE_S] = 0.0
        before = predecessors(active, round(windows.step * frames_per_s))
        source = embedded_slots(speech_s, before, round(_REUSE_S / windows.step))
        chunks, speakers = np.nonzero(source == np.arange(source.size).reshape(source.shape))
        vectors = np.full((num_chunks * num_speakers, self._embedding.dimension), np.nan, np.float32)
        samples = file["waveform"][0]
        size = round(windows.duration * self._embedding.sample_rate)
        total = -(-len(chunks) // self.embedding_batch_size)
        for number in range(total):
            rows = slice(number * self.embedding_batch_size, (number + 1) * self.embedding_batch_size)
            batch = torch.zeros(len(chunks[rows]), 1, size)
            for row, chunk in enumerate(chunks[rows]):
                first = round(windows[int(chunk)].start * self._embedding.sample_rate)
                piece = samples[first : first + size]
                batch[row, 0, : len(piece)] = piece
            mask = torch.from_numpy(masks[chunks[rows], speakers[rows]])
            vectors[source[chunks[rows], speakers[rows]]] = self._embedding(batch, masks=mask)
            if hook is not None:
                hook("embeddings", None, total=total, completed=number + 1)
        embeddings = np.where((source >= 0)[..., None], vectors[source], np.nan).astype(np.float32)
        if self.training:
            file["training_cache/embeddings"] = embeddings
        return embeddings

    def reconstruct(
        self, segmentations: SlidingWindowFeature, hard_clusters: np.ndarray, count: SlidingWindowFeature
    ) -> SlidingWindowFeature:
        """Return the discrete diarization, (frames, clusters): in each frame the `count` most active clusters.

        The result is the parent's: a cluster's activation in a chunk is that of its most active local speaker, and
        chunks are added up. One cluster at a time and without a loop over frames: a 4-hour file takes seconds.
        """
        num_clusters = max(int(hard_clusters.max()) + 1, int(count.data.max()))
        columns = []
        for cluster in range(num_clusters):
            own = hard_clusters == cluster  # (chunks, local speakers)
            scores = np.where(own[:, None, :], segmentations.data, 0.0).max(axis=2, keepdims=True)
            summed = Inference.aggregate(
                SlidingWindowFeature(scores.astype(np.float32), segmentations.sliding_window),
                count.sliding_window,
                missing=0.0,
                skip_average=True,
            )
            columns.append(summed.data[:, 0])
        activations = np.stack(columns, axis=1)
        num_frames = min(len(activations), len(count.data))
        activations, wanted = activations[:num_frames], count.data[:num_frames]
        ranks = np.argsort(np.argsort(-activations, axis=1, kind="stable"), axis=1)
        return SlidingWindowFeature((ranks < wanted).astype(np.float32), count.sliding_window)

    def apply(
        self,
        file: Any,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        hook: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Diarize `{"waveform": (1, samples), "sample_rate": 16000}` without the parent's warnings."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().apply(file, num_speakers, min_speakers, max_speakers, hook, **kwargs)


def embedded_slots(speech_s: np.ndarray, before: np.ndarray, reuse_chunks: int) -> np.ndarray:
    """Return whose embedding each local speaker gets, (chunks, local speakers): chunk x number of speakers + speaker.

    A local speaker gets an embedding of their own, or that of the same speaker in one of the `reuse_chunks` - 1 chunks
    before, where they spoke about as long. -1: none, as there is no speech.

    Args:
        speech_s: (chunks, local speakers) speech that can be embedded.
        before: (chunks, local speakers) each one's number in the chunk before; -1: not there.
        reuse_chunks: how many successive chunks may share an embedding.
    """
    num_speakers = speech_s.shape[1]
    source = np.full(speech_s.shape, -1)
    for chunk, speaker in zip(*np.nonzero(speech_s), strict=True):
        own = chunk * num_speakers + speaker
        source[chunk, speaker] = own
        if before[chunk, speaker] < 0:
            continue
        earlier = source[chunk - 1, before[chunk, speaker]]
        if earlier < 0 or chunk - earlier // num_speakers >= reuse_chunks:
            continue
        if speech_s.flat[earlier] >= _WORTH_RATIO * min(speech_s[chunk, speaker], _ENOUGH_S):
            source[chunk, speaker] = earlier
    return source
