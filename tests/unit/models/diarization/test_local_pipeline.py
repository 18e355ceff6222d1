import numpy as np
import pytest
import torch
from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
from pyannote.core import SlidingWindow, SlidingWindowFeature

from serve_app.models.diarization.local_pipeline import LocalPipeline


@pytest.fixture(scope="module")
def pipeline():
    return LocalPipeline()


def test_frames_are_put_together_as_pyannote_does(pipeline):
    rng = np.random.default_rng(0)
    scores = rng.random((9, 293, 3)).astype(np.float32)
    segmentations = SlidingWindowFeature(scores, SlidingWindow(duration=5.0, step=0.5, start=0.0))
    # Every cluster somewhere in every chunk: where activations tie at nothing, either answer is as good.
    clusters = np.stack([rng.permutation(3) for _ in range(9)])
    clusters[4, 1] = -2
    count = pipeline.speaker_count(
        SlidingWindowFeature((scores > 0.6).astype(np.float32), segmentations.sliding_window),
        pipeline._segmentation.model.receptive_field,
        warm_up=(0.0, 0.0),
    )
    ours = pipeline.reconstruct(segmentations, clusters, count)
    theirs = SpeakerDiarization.reconstruct(pipeline, segmentations, clusters, count)
    frames = min(len(ours.data), len(theirs.data))
    assert abs(len(ours.data) - len(theirs.data)) <= 1
    assert np.array_equal(ours.data[:frames], theirs.data[:frames])


def test_only_active_speakers_are_embedded(pipeline):
    masks = np.zeros((2, 293, 3), np.float32)
    masks[0, :200, 1] = 1.0
    masks[1, 100:104, 0] = 1.0
    segmentations = SlidingWindowFeature(masks, SlidingWindow(duration=5.0, step=0.5, start=0.0))
    file = {"waveform": torch.randn(1, 88_000, generator=torch.Generator().manual_seed(0))}
    seen = []

    def hook(step, artifact, total, completed):
        seen.append((completed, total))

    embeddings = pipeline.get_embeddings(file, segmentations, hook=hook)
    assert np.argwhere(np.isfinite(embeddings[..., 0])).tolist() == [[0, 1]]
    assert seen == [(1, 1)]
