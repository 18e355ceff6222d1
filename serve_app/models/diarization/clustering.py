"""Clusters of local speakers: interim."""

from __future__ import annotations

import numpy as np
from pyannote.audio.pipelines.clustering import BaseClustering
from scipy.cluster.hierarchy import fcluster, linkage


class ConversationClustering(BaseClustering):
    expects_num_clusters = False

    def __init__(self, threshold: float = 0.6, min_clean_s: float = 1.0) -> None:
        super().__init__(metric="cosine")
        self.threshold = threshold

    def __call__(
        self, embeddings, segmentations=None, num_clusters=None, min_clusters=None, max_clusters=None, **kwargs
    ):
        active = segmentations.data
        clean = (active * (active.sum(axis=2, keepdims=True) == 1)).sum(axis=1)
        train = (clean >= 0.2 * active.shape[1]) & np.isfinite(embeddings[..., 0])
        if train.sum() < 2:
            train = np.isfinite(embeddings[..., 0])
        x = embeddings[train]
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        hard = np.zeros(embeddings.shape[:2], np.int8)
        if len(x) < 2:
            return hard, None, np.zeros((1, embeddings.shape[-1]))
        tree = linkage(x, "average", metric="cosine")
        if num_clusters:
            labels = fcluster(tree, num_clusters, "maxclust") - 1
        else:
            labels = fcluster(tree, self.threshold, "distance") - 1
            sizes = np.bincount(labels)
            large = np.flatnonzero(sizes >= 8)
            if len(large) == 0:
                large = [int(sizes.argmax())]
            cent = np.stack([x[labels == k].mean(0) for k in large])
            labels = (x @ (cent / np.linalg.norm(cent, axis=1, keepdims=True)).T).argmax(1)
        cent = np.stack([x[labels == k].mean(0) for k in range(labels.max() + 1)])
        cent /= np.linalg.norm(cent, axis=1, keepdims=True)
        e = np.nan_to_num(embeddings)
        hard = (e @ cent.T).argmax(2)
        hard[train] = labels
        return hard, None, cent
