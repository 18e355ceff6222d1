import numpy as np
import pytest
import torch
from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
from pyannote.core import SlidingWindow, SlidingWindowFeature

from serve_app.models.diarization.clustering import ClusteringRule
from serve_app.models.diarization.embedding import load_embedding
from serve_app.models.diarization.local_pipeline import LocalPipeline, embedded_slots
from serve_app.models.diarization.networks import load_segmentation


@pytest.fixture(scope="module")
def pipeline():
    return LocalPipeline(load_segmentation(), load_embedding(), ClusteringRule())


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


def _file(seconds, seed=0):
    return {"waveform": torch.randn(1, round(seconds * 16_000), generator=torch.Generator().manual_seed(seed)) * 0.1}


def test_a_speaker_who_goes_on_keeps_an_embedding_for_three_seconds(pipeline):
    masks = np.zeros((14, 293, 3), np.float32)
    masks[:, :, 2] = 1.0
    segmentations = SlidingWindowFeature(masks, SlidingWindow(duration=5.0, step=0.5, start=0.0))
    embeddings = pipeline.get_embeddings(_file(11.5), segmentations)[:, 2]
    for first, last in ((0, 6), (6, 12), (12, 14)):
        assert (embeddings[first:last] == embeddings[first]).all()
    assert not np.allclose(embeddings[0], embeddings[6])


def test_embeddings_do_not_depend_on_the_batch(pipeline, monkeypatch):
    rng = np.random.default_rng(0)
    masks = (rng.random((5, 293, 3)) < 0.4).astype(np.float32)
    segmentations = SlidingWindowFeature(masks, SlidingWindow(duration=5.0, step=0.5, start=0.0))
    together = pipeline.get_embeddings(_file(7.0), segmentations)
    monkeypatch.setattr(pipeline, "embedding_batch_size", 1)
    alone = pipeline.get_embeddings(_file(7.0), segmentations)
    assert np.isfinite(together).all()
    assert np.allclose(together, alone, atol=1e-3)


@pytest.mark.parametrize(("device", "at_once"), [("cuda", (16, 32)), ("cpu", (4, 4))])
def test_a_device_gets_as_many_windows_at_once_as_suit_it(pipeline, monkeypatch, device, at_once):
    monkeypatch.setattr(SpeakerDiarization, "to", lambda self, device: self)
    assert pipeline.to(torch.device(device)) is pipeline
    assert (pipeline.segmentation_batch_size, pipeline.embedding_batch_size) == at_once


def slots(heard_s, before, reuse_chunks=3):
    """Return (chunk, speaker) of whose embedding each gets."""
    source = embedded_slots(np.array(heard_s, np.float32), np.array(before), reuse_chunks)
    num_speakers = source.shape[1]
    return [[None if s < 0 else divmod(int(s), num_speakers) for s in row] for row in source]


def test_who_is_not_followed_is_embedded():
    assert slots([[2, 2], [2, 2]], [[-1, -1], [-1, -1]]) == [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]


def test_who_is_followed_shares_so_many_chunks_embedding():
    before = [[-1, -1], *[[1, 0]] * 4]  # the two swap places in every chunk
    assert slots([[2, 2]] * 5, before) == [
        [(0, 0), (0, 1)],
        [(0, 1), (0, 0)],
        [(0, 0), (0, 1)],
        [(3, 0), (3, 1)],
        [(3, 1), (3, 0)],
    ]


def test_who_is_heard_much_longer_now_is_embedded_anew():
    before = [[-1], [0], [0]]
    assert slots([[1.0], [1.4], [2.0]], before) == [[(0, 0)], [(0, 0)], [(2, 0)]]
    assert slots([[4.0], [6.0], [10.0]], before) == [[(0, 0)]] * 3  # four seconds are enough


def test_who_is_hardly_heard_has_none_and_gives_none():
    assert slots([[0.0], [2.0], [0.0]], [[-1], [0], [0]]) == [[None], [(1, 0)], [None]]


def test_no_local_speaker_at_all():
    assert slots([[0.0, 0.0]], [[-1, -1]]) == [[None, None]]
