"""`ConversationClustering`: joins local speakers, numbered anew in each chunk, to the speakers of a recording.

Average-linkage agglomeration of cosine similarities, as pyannote's, which also uses the chunks themselves:

- Chunks overlap by nine tenths, so the times at which a local speaker speaks identify them in the next chunk. Runs of
  one local speaker are joined into atoms first: less noise in each vector, and a quarter of the number.
- The segmentation network distinguishes two voices in one chunk far better than an embedding that was trained on few
  speakers. Clusters that often occur in the same chunk therefore resist merging (`conflict_penalty`).

The thresholds were chosen on conversations of held-out speakers, wide-band and telephone together
(`training/speaker_embedding/tuning.py`; the table is in docs/models/speaker-embedding.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyannote.audio.pipelines.clustering import BaseClustering
from pyannote.core import SlidingWindowFeature
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array


@dataclass(frozen=True, slots=True)
class ClusteringRule:
    """The thresholds.

    Attributes:
        stop_similarity: clusters less alike than this are different speakers.
        conflict_penalty: subtracted from the similarity where every chunk of the smaller cluster has the other, too.
        brevity_bonus: added to the similarity for each e-fold of the smaller cluster's speech below ten seconds: the
            mean of little speech is inexact, so that even one voice may seem two.
        min_clean_s: a local speaker must speak alone for this long in a chunk to help find the clusters.
        min_speaker_s: a cluster that speaks for less than this is not a speaker of its own.
        atom_chunks: the most chunks in an atom.
    """

    stop_similarity: float = 0.33
    conflict_penalty: float = 0.06
    brevity_bonus: float = 0.12
    min_clean_s: float = 1.0
    min_speaker_s: float = 3.0
    atom_chunks: int = 6


_FULL_S = 10.0  # more speech does not improve the mean of a cluster's vectors
_BRIEFEST_S = 0.5  # a syllable or two: below this the bonus for brevity does not grow
# Agglomeration keeps a few square matrices: 64 MB each at this size. Longer recordings take two rounds.
_MAX_AT_ONCE = 4000
_FIRST_ROUND = 1500
_SURE_SIMILARITY = 0.6  # the first round merges atoms at least this alike
# Two local speakers of adjacent chunks are one where they share at least this part of the time that either speaks.
_MIN_AGREEMENT = 0.7


@dataclass(frozen=True, slots=True)
class Atoms:
    """Parts to be clustered.

    Attributes:
        sums: (atoms, dimension) sums of unit vectors.
        weights: (atoms,) how many vectors were added.
        speech_s: (atoms,) how long each speaks; a moment in several chunks counts once.
        slots: for each atom, its chunks and local speakers: two integer arrays.
    """

    sums: np.ndarray
    weights: np.ndarray
    speech_s: np.ndarray
    slots: list[tuple[np.ndarray, np.ndarray]]

    def merged(self, groups: list[np.ndarray]) -> Atoms:
        """Return one atom for each group of these."""
        return Atoms(
            np.stack([self.sums[group].sum(axis=0) for group in groups]),
            np.array([self.weights[group].sum() for group in groups]),
            np.array([self.speech_s[group].sum() for group in groups]),
            [
                (np.concatenate([self.slots[i][0] for i in group]), np.concatenate([self.slots[i][1] for i in group]))
                for group in groups
            ],
        )


class ConversationClustering(BaseClustering):
    """Clusters the local speakers of all chunks, in place of pyannote's clusterings."""

    expects_num_clusters = False

    def __init__(self, rule: ClusteringRule = ClusteringRule()) -> None:
        super().__init__(metric="cosine")
        self.rule = rule

    def __call__(  # type: ignore[override]  # pyannote's own hint forgets two of the three
        self,
        embeddings: np.ndarray,
        segmentations: SlidingWindowFeature | None = None,
        num_clusters: int | None = None,
        min_clusters: int | None = None,
        max_clusters: int | None = None,
        **_: Any,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return clusters and similarities of local speakers, and the clusters' centroids.

        Args:
            embeddings: (chunks, local speakers, dimension); NaN where a local speaker is not active.
            segmentations: (chunks, frames, local speakers), 0 or 1.
            num_clusters: how many there are, if known; then the other two are ignored.
            min_clusters: at least this many, if there are as many atoms.
            max_clusters: at most this many.

        Returns:
            Clusters, (chunks, local speakers), -2 where inactive; similarities, (chunks, local speakers, clusters);
            centroids, (clusters, dimension), unit length.
        """
        assert segmentations is not None
        windows = segmentations.sliding_window
        active = np.nan_to_num(segmentations.data).astype(np.float32)
        frame_s = windows.duration / active.shape[1]
        atoms = find_atoms(embeddings, active, frame_s, round(windows.step / frame_s), self.rule)
        num_chunks, num_local, dimension = embeddings.shape
        if not atoms.slots:
            hard = np.where(active.sum(axis=1) > 0, 0, -2).astype(np.int16)
            return hard, np.ones((num_chunks, num_local, 1)), np.zeros((1, dimension))
        atoms = _shortened(atoms, self.rule)
        merges = agglomerate(atoms, self.rule)
        groups = choose_groups(
            merges, atoms.speech_s, self.rule, num_clusters or min_clusters or 1, num_clusters or max_clusters or np.inf
        )
        speakers = atoms.merged(groups)
        centroids = _unit(speakers.sums)
        similarities = _unit(np.nan_to_num(embeddings)) @ centroids.T
        return assign(similarities, active), similarities, centroids


def find_atoms(embeddings: np.ndarray, active: np.ndarray, frame_s: float, shift: int, rule: ClusteringRule) -> Atoms:
    """Return runs of local speakers that are one speaker in successive chunks and speak alone for long enough.

    Where nobody speaks alone for `rule.min_clean_s`, every local speaker with an embedding is used. `shift`: frames
    between the starts of two chunks.
    """
    alone_s = (active * (active.sum(axis=2, keepdims=True) == 1)).sum(axis=1) * frame_s
    embedded = np.isfinite(embeddings[..., 0])
    usable = embedded & (alone_s >= rule.min_clean_s)
    if not usable.any():
        usable = embedded
    num_chunks, _, num_local = active.shape
    atom_of = np.full((num_chunks, num_local), -1)
    members: list[list[tuple[int, int]]] = []
    before = predecessors(active, shift)
    for chunk in range(num_chunks):
        for local in np.flatnonzero(usable[chunk]).tolist():
            atom = atom_of[chunk - 1, before[chunk, local]] if before[chunk, local] >= 0 else -1
            if atom < 0 or len(members[atom]) >= rule.atom_chunks:
                atom = len(members)
                members.append([])
            atom_of[chunk, local] = atom
            members[atom].append((chunk, local))
    slots = [(np.array([c for c, _ in own]), np.array([s for _, s in own])) for own in members]
    vectors = _unit(np.nan_to_num(embeddings))
    sums = np.array([vectors[slot].sum(axis=0) for slot in slots]).reshape(len(slots), embeddings.shape[2])
    # a moment lies in as many chunks as steps fit into one
    spoken_s = active.sum(axis=1) * (shift * frame_s / active.shape[1])
    speech_s = np.array([float(spoken_s[slot].sum()) for slot in slots])
    return Atoms(sums, np.array([float(len(chunks)) for chunks, _ in slots]), speech_s, slots)


def predecessors(active: np.ndarray, shift: int) -> np.ndarray:
    """Return each local speaker's number in the chunk before, (chunks, local speakers); -1: not there.

    Args:
        active: (chunks, frames, local speakers), 0 or 1.
        shift: frames between the starts of two chunks.
    """
    num_chunks, num_frames, num_local = active.shape
    before = np.full((num_chunks, num_local), -1)
    for chunk in range(1, num_chunks):
        for local, earlier in _links(active[chunk - 1, shift:], active[chunk, : num_frames - shift]).items():
            before[chunk, local] = earlier
    return before


def agglomerate(atoms: Atoms, rule: ClusteringRule) -> list[tuple[int, int, float]]:
    """Return the merges in order of average linkage: (kept, absorbed, similarity less penalty)."""
    count = len(atoms.slots)
    products = (atoms.sums @ atoms.sums.T).astype(np.float32)
    conflicts = _conflicts(atoms)
    weights = atoms.weights.astype(np.float32).copy()
    lengths = np.array([len(chunks) for chunks, _ in atoms.slots], np.float32)
    speech_s = atoms.speech_s.astype(np.float32).copy()
    alive = np.ones(count, bool)

    def row(index: int) -> np.ndarray:
        scores = products[index] / (weights[index] * weights)
        scores -= rule.conflict_penalty * conflicts[index] / np.minimum(lengths[index], lengths)
        smaller_s = np.clip(np.minimum(speech_s[index], speech_s), _BRIEFEST_S, _FULL_S)
        scores += rule.brevity_bonus * np.log(_FULL_S / smaller_s)
        scores[~alive] = -np.inf
        scores[index] = -np.inf
        return scores

    best = np.full(count, -np.inf, np.float32)
    partner = np.zeros(count, np.int64)

    def pair_up(index: int) -> np.ndarray:
        scores = row(index)
        partner[index] = scores.argmax()
        best[index] = scores[partner[index]]
        return scores

    for index in range(count):
        pair_up(index)
    merges: list[tuple[int, int, float]] = []
    for _ in range(count - 1):
        kept = int(best.argmax())
        absorbed = int(partner[kept])
        merges.append((kept, absorbed, float(best[kept])))
        for sums in (products, conflicts, weights, lengths, speech_s):
            sums[kept] += sums[absorbed]
        for matrix in (products, conflicts):
            matrix[:, kept] += matrix[:, absorbed]
        alive[absorbed] = False
        best[absorbed] = -np.inf
        scores = pair_up(kept)
        stale = alive & ((partner == kept) | (partner == absorbed))
        stale[kept] = False
        better = alive & (scores > best) & ~stale
        best[better], partner[better] = scores[better], kept
        for orphan in np.flatnonzero(stale).tolist():
            pair_up(orphan)
    return merges


def choose_groups(
    merges: list[tuple[int, int, float]], sizes_s: np.ndarray, rule: ClusteringRule, least: float, most: float
) -> list[np.ndarray]:
    """Return the groups of atoms that are speakers, between `least` and `most` of them where that is possible.

    The merges are followed until the next falls below the threshold; groups too short to be a speaker are left out
    (`assign` gives their atoms to the nearest speaker). Where the number of speakers is out of bounds, the last stage
    of the merging with the bound's number of speakers is used instead.
    """
    count = len(sizes_s)
    groups = _large(_groups_after(merges, _num_above(merges, rule.stop_similarity), count), sizes_s, rule.min_speaker_s)
    if least <= len(groups) <= most:
        return groups
    bound = int(least if len(groups) < least else most)
    for min_speaker_s in (rule.min_speaker_s, 0.0):
        counts = _speaker_counts(merges, sizes_s, min_speaker_s)
        stages = np.flatnonzero(counts == bound)
        if len(stages):
            return _large(_groups_after(merges, int(stages[-1]), count), sizes_s, min_speaker_s)
    return groups if len(groups) > bound else _groups_after(merges, 0, count)


def assign(similarities: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Return each active local speaker's cluster; those of one chunk differ where there are enough clusters."""
    spoken = active.sum(axis=1)  # (chunks, local speakers)
    num_clusters = similarities.shape[2]
    hard = np.where(spoken > 0, similarities.argmax(axis=2), -2).astype(np.int16)
    if num_clusters == 1:
        return hard
    for chunk in range(len(hard)):
        present = np.flatnonzero(spoken[chunk] > 0)
        if len(np.unique(hard[chunk, present])) == len(present):
            continue
        # two local speakers are nearest to the same cluster: a longer speaker's similarity weighs more
        claims = similarities[chunk, present] * np.minimum(spoken[chunk, present] / active.shape[1], 1.0)[:, None]
        rows, columns = linear_sum_assignment(claims, maximize=True)
        hard[chunk, present[rows]] = columns
    return hard


def _shortened(atoms: Atoms, rule: ClusteringRule) -> Atoms:
    """Merge the likest atoms, block by block in time, until the others fit into square matrices."""
    while len(atoms.slots) > _MAX_AT_ONCE:
        groups: list[np.ndarray] = []
        for first in range(0, len(atoms.slots), _FIRST_ROUND):
            block = np.arange(first, min(first + _FIRST_ROUND, len(atoms.slots)))
            merges = agglomerate(atoms.merged(list(block[:, None])), rule)
            # a round that merges nothing would repeat for ever
            num_merges = max(_num_above(merges, _SURE_SIMILARITY), len(block) // 2)
            groups += [block[group] for group in _groups_after(merges, num_merges, len(block))]
        atoms = atoms.merged(groups)
    return atoms


def _num_above(merges: list[tuple[int, int, float]], similarity: float) -> int:
    return next((n for n, merge in enumerate(merges) if merge[2] < similarity), len(merges))


def _groups_after(merges: list[tuple[int, int, float]], num_merges: int, count: int) -> list[np.ndarray]:
    members: list[list[int]] = [[index] for index in range(count)]
    for kept, absorbed, _ in merges[:num_merges]:
        members[kept] += members[absorbed]
        members[absorbed] = []
    return [np.array(own) for own in members if own]


def _large(groups: list[np.ndarray], sizes_s: np.ndarray, min_speaker_s: float) -> list[np.ndarray]:
    totals_s = np.array([sizes_s[group].sum() for group in groups])
    large = np.flatnonzero(totals_s >= min_speaker_s)
    if not len(large):
        large = np.array([totals_s.argmax()])
    return [groups[index] for index in large]


def _speaker_counts(merges: list[tuple[int, int, float]], sizes_s: np.ndarray, min_speaker_s: float) -> np.ndarray:
    """Return how many groups are large enough to be a speaker after 0, 1, 2, ... merges."""
    totals_s = sizes_s.astype(float).copy()
    counts = [int((totals_s >= min_speaker_s).sum())]
    for kept, absorbed, _ in merges:
        before = int(totals_s[kept] >= min_speaker_s) + int(totals_s[absorbed] >= min_speaker_s)
        totals_s[kept] += totals_s[absorbed]
        counts.append(counts[-1] - before + int(totals_s[kept] >= min_speaker_s))
    return np.array(counts)


def _conflicts(atoms: Atoms) -> np.ndarray:
    """Return in how many chunks two atoms both occur, (atoms, atoms); 0 on the diagonal."""
    chunks = np.concatenate([chunks for chunks, _ in atoms.slots])
    owners = np.repeat(np.arange(len(atoms.slots)), [len(chunks) for chunks, _ in atoms.slots])
    occurs = csr_array((np.ones(len(chunks), np.float32), (owners, chunks)))  # duplicates are summed
    conflicts = (occurs @ occurs.T).toarray()
    np.fill_diagonal(conflicts, 0.0)
    return conflicts


def _links(earlier: np.ndarray, later: np.ndarray) -> dict[int, int]:
    """Return the later chunk's local speakers and their numbers in the earlier; both (shared frames, speakers)."""
    both = later.T @ earlier
    either = later.sum(axis=0)[:, None] + earlier.sum(axis=0)[None] - both
    agreement = both / np.maximum(either, 1.0)
    return {
        int(one): int(agreement[one].argmax())
        for one in range(len(agreement))
        if agreement[one].max() >= _MIN_AGREEMENT and agreement[:, agreement[one].argmax()].argmax() == one
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
