"""Choose the clustering's thresholds on made conversations of the tuning speakers, all places together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from serve_app.models.diarization.clustering import ClusteringRule, ConversationClustering
from serve_app.models.diarization.local_pipeline import LocalPipeline
from training.speaker_embedding.evaluation import Recording, score

_GRID = {
    "stop_similarity": (0.27, 0.30, 0.33, 0.36, 0.39, 0.42),
    "brevity_bonus": (0.0, 0.04, 0.08, 0.12, 0.16),
    "conflict_penalty": (0.0, 0.06, 0.12),
    "min_speaker_s": (2.0, 3.0, 4.0),
}


def tune(pipeline: LocalPipeline, recordings: Sequence[Recording]) -> list[tuple[float, ClusteringRule]]:
    """Return every rule of the grid with its mean error rate in percent, speakers not told, best first.

    Segmentation and embeddings are computed once and kept in the recordings.
    """
    pipeline.training = True
    results = []
    for values in itertools.product(*_GRID.values()):
        rule = ClusteringRule(**dict(zip(_GRID, values, strict=True)))
        pipeline.clustering = ConversationClustering(rule)
        scores = score(pipeline, recordings, told=False)
        results.append((float(np.mean([one.error_rate for one in scores])), rule))
    pipeline.training = False
    pipeline.clustering = ConversationClustering()
    return sorted(results, key=lambda result: result[0])
