import numpy as np
import pytest
from pyannote.core import SlidingWindow, SlidingWindowFeature

from serve_app.models.diarization import clustering
from serve_app.models.diarization.clustering import (
    ClusteringRule,
    ConversationClustering,
    agglomerate,
    assign,
    find_atoms,
    predecessors,
)

FRAMES = 100
STEP_S = 0.5


def conversation(turns, voices, num_chunks, noise=0.08, seed=0):
    """Return embeddings, segmentations and truth of chunks of 5 s, for turns of (start, end, speaker)."""
    rng = np.random.default_rng(seed)
    active = np.zeros((num_chunks, FRAMES, 3), np.float32)
    embeddings = np.full((num_chunks, 3, voices.shape[1]), np.nan, np.float32)
    truth = np.full((num_chunks, 3), -1)
    for chunk in range(num_chunks):
        times_s = chunk * STEP_S + (np.arange(FRAMES) + 0.5) * 5.0 / FRAMES
        speaking = {s: np.zeros(FRAMES, bool) for _, _, s in turns}
        for start, end, speaker in turns:
            speaking[speaker] |= (times_s >= start) & (times_s < end)
        heard = [speaker for speaker, mask in speaking.items() if mask.any()][:3]
        for local, speaker in zip(rng.permutation(3), heard, strict=False):
            active[chunk, :, local] = speaking[speaker]
            embeddings[chunk, local] = voices[speaker] + noise * rng.standard_normal(voices.shape[1])
            truth[chunk, local] = speaker
    window = SlidingWindow(start=0.0, duration=5.0, step=STEP_S)
    return embeddings, SlidingWindowFeature(active, window), truth


def voices(count, similarity=0.1, dimension=64, seed=1):
    rng = np.random.default_rng(seed)
    own = np.linalg.qr(rng.standard_normal((dimension, count + 1)))[0].T
    return np.sqrt(similarity) * own[-1] + np.sqrt(1 - similarity) * own[:count]


def alternating(count, seconds, turn_s=3.0):
    return [(t, t + turn_s, int(t / turn_s) % count) for t in np.arange(0.0, seconds, turn_s)]


def partition(hard, truth):
    """Return the number of clusters used, and whether each holds one speaker and each speaker one cluster."""
    pairs = {(int(h), int(t)) for h, t in zip(hard.ravel(), truth.ravel(), strict=True) if t >= 0}
    clusters, speakers = {h for h, _ in pairs}, {t for _, t in pairs}
    return len(clusters), len(pairs) == len(clusters) == len(speakers)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_number_of_speakers_is_found(count):
    embeddings, segmentations, truth = conversation(alternating(count, 60.0), voices(count), 110)
    hard, similarities, centroids = ConversationClustering()(embeddings, segmentations)
    assert partition(hard, truth) == (count, True)
    assert centroids.shape == (count, 64)
    assert similarities.shape == (110, 3, count)
    assert (hard[truth < 0] == -2).all()


@pytest.mark.parametrize("told", [1, 2, 3])
def test_a_told_number_is_kept_whatever_the_threshold_says(told):
    embeddings, segmentations, _ = conversation(alternating(3, 60.0), voices(3, similarity=0.5), 110)
    hard, _, centroids = ConversationClustering()(embeddings, segmentations, num_clusters=told)
    assert len(centroids) == told
    assert hard.max() == told - 1


def test_bounds_move_the_number_no_further_than_they_must():
    embeddings, segmentations, _ = conversation(alternating(3, 60.0), voices(3), 110)
    cluster = ConversationClustering()
    assert len(cluster(embeddings, segmentations, min_clusters=4)[2]) == 4
    assert len(cluster(embeddings, segmentations, max_clusters=2)[2]) == 2
    assert len(cluster(embeddings, segmentations, min_clusters=2, max_clusters=5)[2]) == 3


def test_more_speakers_than_there_are_parts_gives_what_there_is():
    embeddings, segmentations, _ = conversation([(0.0, 4.0, 0)], voices(1), 1)
    hard, _, centroids = ConversationClustering()(embeddings, segmentations, num_clusters=5)
    assert len(centroids) == 1
    assert hard.max() == 0


def test_nobody_active_is_nobody():
    segmentations = SlidingWindowFeature(np.zeros((4, FRAMES, 3)), SlidingWindow(duration=5.0, step=STEP_S, start=0.0))
    hard, _, centroids = ConversationClustering()(np.full((4, 3, 8), np.nan), segmentations)
    assert (hard == -2).all()
    assert centroids.shape == (1, 8)


def test_someone_too_brief_does_not_become_a_speaker():
    turns = [*alternating(2, 60.0), (30.0, 31.2, 2)]
    turns = [t if t[2] == 2 or not 30.0 <= t[0] < 31.0 else (31.2, t[1], t[2]) for t in turns]
    embeddings, segmentations, _ = conversation(turns, voices(3), 110)
    long_enough = ConversationClustering(ClusteringRule(min_speaker_s=8.0))(embeddings, segmentations)[2]
    assert len(long_enough) == 2


def test_voices_heard_at_once_resist_merging():
    pair = voices(2, similarity=0.62)
    rule = ClusteringRule(stop_similarity=0.45, brevity_bonus=0.0, conflict_penalty=0.0)
    embeddings, segmentations, truth = conversation(alternating(2, 40.0, 1.5), pair, 70, noise=0.02)
    assert len(ConversationClustering(rule)(embeddings, segmentations)[2]) == 1
    rule = ClusteringRule(stop_similarity=0.45, brevity_bonus=0.0, conflict_penalty=0.4)
    assert partition(ConversationClustering(rule)(embeddings, segmentations)[0], truth) == (2, True)


def test_atoms_follow_a_speaker_from_chunk_to_chunk():
    embeddings, segmentations, truth = conversation(alternating(2, 30.0), voices(2), 50)
    atoms = find_atoms(embeddings, segmentations.data, 0.05, 10, ClusteringRule(atom_chunks=6))
    assert max(len(chunks) for chunks, _ in atoms.slots) == 6
    for chunks, local in atoms.slots:
        assert len(set(truth[chunks, local])) == 1
        assert list(chunks) == list(range(chunks[0], chunks[0] + len(chunks)))


@pytest.mark.parametrize(("duration_s", "step_s"), [(5.0, 0.5), (10.0, 1.0), (10.0, 2.0)])
def test_what_several_chunks_hear_counts_once(duration_s, step_s):
    """So that the size of a cluster means the same whatever the chunks are."""
    frames = round(duration_s * 20)
    num_chunks = round(60.0 / step_s)
    times_s = np.arange(num_chunks)[:, None] * step_s + (np.arange(frames) + 0.5) / 20
    active = ((times_s >= 20.0) & (times_s < 27.0)).astype(np.float32)[:, :, None]
    embeddings = np.where(active.sum(axis=1)[..., None] > 0, 1.0, np.nan) * np.ones(4)
    atoms = find_atoms(embeddings, active, 0.05, round(step_s * 20), ClusteringRule(min_clean_s=0.0))
    assert atoms.speech_s.sum() == pytest.approx(7.0, rel=0.02)


def test_a_speaker_is_followed_to_the_chunk_before_by_when_they_speak():
    _, segmentations, truth = conversation(alternating(2, 30.0), voices(2), 50)
    before = predecessors(segmentations.data, 10)
    assert (before[0] == -1).all()
    followed = [(chunk, local) for chunk, local in zip(*np.nonzero(before >= 0), strict=True)]
    assert len(followed) > 50
    for chunk, local in followed:
        assert truth[chunk, local] == truth[chunk - 1, before[chunk, local]] >= 0


def test_agglomeration_is_average_linkage_where_nothing_is_penalised():
    from scipy.cluster.hierarchy import fcluster, linkage

    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((40, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    atoms = clustering.Atoms(vectors, np.ones(40), np.ones(40), [(np.array([i]), np.array([0])) for i in range(40)])
    merges = agglomerate(atoms, ClusteringRule(conflict_penalty=0.0, brevity_bonus=0.0))
    groups = clustering._groups_after(merges, 33, 40)
    labels = np.empty(40, int)
    for number, group in enumerate(groups):
        labels[group] = number
    expected = fcluster(linkage(vectors, "average", metric="cosine"), 7, "maxclust")
    assert len({(int(a), int(b)) for a, b in zip(labels, expected, strict=True)}) == 7


def test_two_rounds_find_what_one_finds(monkeypatch):
    embeddings, segmentations, truth = conversation(alternating(3, 120.0), voices(3), 230)
    monkeypatch.setattr(clustering, "_MAX_AT_ONCE", 40)
    monkeypatch.setattr(clustering, "_FIRST_ROUND", 25)
    assert partition(ConversationClustering()(embeddings, segmentations)[0], truth) == (3, True)


def test_local_speakers_of_one_chunk_get_different_clusters():
    active = np.ones((1, FRAMES, 3), np.float32)
    active[0, :, 2] = 0.0
    similarities = np.array([[[0.9, 0.5], [0.8, 0.1], [0.0, 0.0]]])
    assert assign(similarities, active).tolist() == [[1, 0, -2]]
