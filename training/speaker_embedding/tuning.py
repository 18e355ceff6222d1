"""Choose the clustering's thresholds on made conversations of the tuning speakers, all places together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from serve_app.models.diarization.clustering import ClusteringRule, ConversationClustering
from serve_app.models.diarization.local_pipeline import LocalPipeline
from training.speaker_embedding.evaluation import Recording, score

# Tried together, as one is worth nothing without the other.
_STOPS = (0.30, 0.34, 0.38, 0.42, 0.46, 0.50, 0.54, 0.58)
_BONUSES = (0.0, 0.03, 0.06, 0.09, 0.12)
# Tried one after the other, twice.
_OTHERS: dict[str, tuple[float, ...]] = {
    "conflict_penalty": (0.0, 0.06, 0.15, 0.3),
    "min_speaker_s": (0.8, 1.2, 2.0, 3.0),
    "brevity_bonus": _BONUSES,
    "stop_similarity": _STOPS,
}
# A wrong number of speakers is as bad as this many points of error rate in one recording.
_WRONG_COUNT_PERCENT = 5.0


@dataclass(frozen=True, slots=True)
class Tried:
    """A rule and how it did, speakers not told.

    Attributes:
        rule: the thresholds.
        error_percent: mean diarization error rate of the recordings.
        count_right: share of the recordings whose number of speakers is right.
    """

    rule: ClusteringRule
    error_percent: float
    count_right: float

    @property
    def cost(self) -> float:
        """Return what is made least."""
        return self.error_percent + _WRONG_COUNT_PERCENT * (1.0 - self.count_right)


def tune(pipeline: LocalPipeline, recordings: Sequence[Recording]) -> list[Tried]:
    """Return every rule that was tried, best first.

    Segmentation and embeddings are computed once and kept in the recordings.
    """
    pipeline.training = True
    rules = pipeline.clustering.rule
    tried: dict[ClusteringRule, Tried] = {}

    def cost(rule: ClusteringRule) -> float:
        if rule not in tried:
            pipeline.clustering = ConversationClustering(rule)
            scores = score(pipeline, recordings, told=False)
            tried[rule] = Tried(
                rule,
                float(np.mean([one.error_rate for one in scores])),
                float(np.mean([one.num_found == one.num_speakers for one in scores])),
            )
        return tried[rule].cost

    best = min(
        (
            replace(rules, stop_similarity=stop, brevity_bonus=bonus)
            for stop, bonus in itertools.product(_STOPS, _BONUSES)
        ),
        key=cost,
    )
    for name, values in (*_OTHERS.items(), *_OTHERS.items()):
        best = min((replace(best, **{name: value}) for value in values), key=cost)
    pipeline.training = False
    pipeline.clustering = ConversationClustering(rules)
    return sorted(tried.values(), key=lambda one: one.cost)
