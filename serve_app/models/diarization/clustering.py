"""`ConversationClustering`: joins local speakers, named anew in every chunk, to the speakers of a recording.

Average-linkage agglomeration of cosine similarities, as pyannote's, with what the chunks themselves tell:

- Chunks overlap by nine tenths, so a local speaker is nearly always recognisable in the next chunk by when they speak.
  Such runs are joined into atoms first: less noise in each vector, and a quarter of the number.
- The segmentation network hears that two voices in one chunk differ, far more surely than an embedding trained on few
  speakers does. Clusters that are often heard in one chunk at once therefore resist merging (`CONFLICT_PENALTY`).

All thresholds were chosen on conversations of held-out speakers, wide-band and telephone together
(`training/speaker_embedding/tuning.py`; the table is in docs/models/speaker-embedding.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyannote.audio.pipelines.clustering import BaseClustering
from pyannote.core import SlidingWindowFeature
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True, slots=True)
class ClusteringRule:
    """The thresholds.

    Attributes:
        stop_similarity: clusters less alike than this are different speakers.
        conflict_penalty: what being heard at once, in every chunk of the smaller cluster, takes off the similarity.
        brevity_bonus: what each e-fold of the smaller cluster's speech below ten seconds adds to the similarity: the
            mean of little speech is known badly, so that even one voice may seem two.
        min_clean_s: a local speaker must be heard alone for this long in a chunk to help find the clusters.
        min_speaker_s: a cluster that speaks for less than this is not a speaker of its own.
        atom_chunks: most chunks that an atom may span.
    """

    stop_similarity: float = 0.33
    conflict_penalty: float = 0.06
    brevity_bonus: float = 0.12
    min_clean_s: float = 1.0
    min_speaker_s: float = 3.0
    atom_chunks: int = 6


# From here on the mean of a cluster's vectors is as well known as it will be.
_FULL_S = 10.0
# A syllable or two: below this the bonus for brevity does not grow.
_BRIEFEST_S = 0.5
# Agglomeration keeps a few square matrices: 64 MB each at this size. Longer recordings are done in two rounds.
_MAX_AT_ONCE = 4000
_FIRST_ROUND = 1500
# In the first round only what is surely one speaker is merged.
_SURE_SIMILARITY = 0.6
# How much of two local speakers' time in adjacent chunks must be the same for them to be one.
_MIN_AGREEMENT = 0.7


@dataclass(frozen=True, slots=True)
class Atoms:
    """Parts to be clustered.

    Attributes:
        sums: (atoms, dimension) sums of unit vectors, each times its weight.
        weights: (atoms,) sums of weights.
        speech_s: (atoms,) how long each speaks; what several chunks hear counts once.
        slots: for each atom, its chunks and local speakers: two integer arrays.
    """

    sums: np.ndarray
    weights: np.ndarray
    speech_s: np.ndarray
    slots: list[tuple[np.ndarray, np.ndarray]]

    def merged(self, groups: list[np.ndarray]) -> Atoms:
        """Return atoms made of groups of these."""
        return Atoms(
            np.stack([self.sums[group].sum(axis=0) for group in groups]),
            np.array([self.weights[group].sum() for group in groups]),
            np.array([self.speech_s[group].sum() for group in groups]),
            [
                (np.concatenate([self.slots[i][0] for i in group]), np.concatenate([self.slots[i][1] for i in group]))
                for group in groups
            ],
        )

    def subset(self, indices: np.ndarray) -> Atoms:
        """Return some of the atoms."""
        return Atoms(
            self.sums[indices], self.weights[indices], self.speech_s[indices], [self.slots[i] for i in indices]
        )


class ConversationClustering(BaseClustering):
    """Cluster local speakers of all chunks; a drop-in for pyannote's clusterings."""

    expects_num_clusters = False

    def __init__(self, rule: ClusteringRule | None = None) -> None:
        super().__init__(metric="cosine")
        self.rule = rule or ClusteringRule()

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
            num_clusters: how many there are, if known; else found, within the other two.
            min_clusters: at least this many, if that many voices can be told apart at all.
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
    """Return runs of local speakers that are one speaker in successive chunks, of those heard alone long enough.

    Where nobody is heard alone for `rule.min_clean_s`, whoever has an embedding at all is taken. `shift` is the number
    of frames between the starts of two chunks.
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
    # As many chunks hear a moment as steps fit into one.
    spoken_s = active.sum(axis=1) * (shift * frame_s / active.shape[1])
    speech_s = np.array([float(spoken_s[slot].sum()) for slot in slots])
    return Atoms(sums, np.array([float(len(chunks)) for chunks, _ in slots]), speech_s, slots)


def predecessors(active: np.ndarray, shift: int) -> np.ndarray:
    """Return who each local speaker is in the chunk before, (chunks, local speakers); -1: nobody who is the same.

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
    """Return all merges, best first as average linkage finds them: (kept, absorbed, similarity less penalty)."""
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
    for index in range(count):
        scores = row(index)
        partner[index] = scores.argmax()
        best[index] = scores[partner[index]]
    merges: list[tuple[int, int, float]] = []
    for _ in range(count - 1):
        kept = int(best.argmax())
        absorbed = int(partner[kept])
        merges.append((kept, absorbed, float(best[kept])))
        for matrix in (products, conflicts):
            matrix[kept] += matrix[absorbed]
            matrix[:, kept] += matrix[:, absorbed]
        weights[kept] += weights[absorbed]
        lengths[kept] += lengths[absorbed]
        speech_s[kept] += speech_s[absorbed]
        alive[absorbed] = False
        best[absorbed] = -np.inf
        scores = row(kept)
        partner[kept] = scores.argmax()
        best[kept] = scores[partner[kept]]
        stale = alive & ((partner == kept) | (partner == absorbed))
        stale[kept] = False
        better = alive & (scores > best) & ~stale
        best[better], partner[better] = scores[better], kept
        for orphan in np.flatnonzero(stale).tolist():
            own = row(orphan)
            partner[orphan] = own.argmax()
            best[orphan] = own[partner[orphan]]
    return merges


def choose_groups(
    merges: list[tuple[int, int, float]], sizes_s: np.ndarray, rule: ClusteringRule, least: float, most: float
) -> list[np.ndarray]:
    """Return the groups of atoms that are speakers, between `least` and `most` of them where that can be.

    The merges are followed until the next falls below the threshold; groups too short to be a speaker are left out
    (what is in them goes to the nearest speaker when all are assigned). Where the number of speakers is out of bounds,
    the last stage of the merging with the bound's number of them is taken instead.
    """
    count = len(sizes_s)
    num_followed = next((n for n, merge in enumerate(merges) if merge[2] < rule.stop_similarity), len(merges))
    groups = _large(_groups_after(merges, num_followed, count), sizes_s, rule.min_speaker_s)
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
    """Return each active local speaker's cluster; in one chunk they get different ones where there are enough."""
    spoken = active.sum(axis=1)  # (chunks, local speakers)
    num_clusters = similarities.shape[2]
    hard = np.where(spoken > 0, similarities.argmax(axis=2), -2).astype(np.int16)
    if num_clusters == 1:
        return hard
    # Only where two local speakers want the same cluster is there anything to settle.
    for chunk in range(len(hard)):
        present = np.flatnonzero(spoken[chunk] > 0)
        wanted = hard[chunk, present]
        if len(np.unique(wanted)) == len(present):
            continue
        # Who speaks longer has the stronger claim.
        claims = similarities[chunk, present] * np.minimum(spoken[chunk, present] / active.shape[1], 1.0)[:, None]
        rows, columns = linear_sum_assignment(claims, maximize=True)
        hard[chunk, present[rows]] = columns
    return hard


def _shortened(atoms: Atoms, rule: ClusteringRule) -> Atoms:
    """Merge what is surely one speaker, block by block in time, until what is left fits into square matrices."""
    while len(atoms.slots) > _MAX_AT_ONCE:
        groups: list[np.ndarray] = []
        for first in range(0, len(atoms.slots), _FIRST_ROUND):
            block = np.arange(first, min(first + _FIRST_ROUND, len(atoms.slots)))
            merges = agglomerate(atoms.subset(block), rule)
            sure = next((n for n, merge in enumerate(merges) if merge[2] < _SURE_SIMILARITY), len(merges))
            # Whatever the voices are like, a round must shorten, or it would not end.
            sure = max(sure, len(block) // 2)
            groups += [block[group] for group in _groups_after(merges, sure, len(block))]
        atoms = atoms.merged(groups)
    return atoms


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
    """Return, after none, one, two, ... merges, how many groups are large enough to be a speaker."""
    totals_s = sizes_s.astype(float).copy()
    counts = [int((totals_s >= min_speaker_s).sum())]
    for kept, absorbed, _ in merges:
        before = int(totals_s[kept] >= min_speaker_s) + int(totals_s[absorbed] >= min_speaker_s)
        totals_s[kept] += totals_s[absorbed]
        counts.append(counts[-1] - before + int(totals_s[kept] >= min_speaker_s))
    return np.array(counts)


def _conflicts(atoms: Atoms) -> np.ndarray:
    """Return in how many chunks two atoms are both heard, (atoms, atoms)."""
    count = len(atoms.slots)
    conflicts = np.zeros((count, count), np.float32)
    by_chunk: dict[int, list[int]] = {}
    for index, (chunks, _) in enumerate(atoms.slots):
        for chunk in chunks:
            by_chunk.setdefault(int(chunk), []).append(index)
    for present in by_chunk.values():
        for one in present:
            for other in present:
                if one != other:
                    conflicts[one, other] += 1.0
    return conflicts


def _links(earlier: np.ndarray, later: np.ndarray) -> dict[int, int]:
    """Return, for local speakers of the later chunk, who they are in the earlier; both (shared frames, speakers)."""
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
