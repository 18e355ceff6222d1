"""Equal error rate on speakers that were not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch.nn import functional

from serve_app.models.diarization.features import SpeechFeatures
from serve_app.models.diarization.network import SpeakerNetwork
from training.speaker_embedding import data
from training.speaker_embedding.speakers import Speaker

CROP_S = 2.5
_CROPS_PER_SPEAKER = 4
_CONDITIONS = {
    "clean": (0,),
    "room and noise": (1, 3, 5),
    "telephone": (7,),
    "mixed": tuple(range(len(data.CONDITIONS))),
}


@dataclass(frozen=True, slots=True)
class VerificationSet:
    """Features of crops that do not overlap, per condition: (speakers x crops, frames, features)."""

    features: dict[str, torch.Tensor]
    speakers: np.ndarray


def prepare(speakers: tuple[Speaker, ...], seed: int = 5) -> VerificationSet:
    """Cut each speaker's utterance into crops and put every crop into its own room or on its own line.

    There is one utterance of each speaker, so both sides of a same-speaker pair come from one session: the rate is
    optimistic, and comparable only with rates measured in the same way.
    """
    rng = np.random.default_rng(seed)
    extract = SpeechFeatures()
    voices = [speaker.load() for speaker in speakers]
    crop = int(CROP_S * data.augment.SAMPLE_RATE_HZ)
    labels: list[int] = []
    features: dict[str, list[torch.Tensor]] = {name: [] for name in _CONDITIONS}
    for label, voice in enumerate(voices):
        count = min(_CROPS_PER_SPEAKER, voice.size // crop)
        for start in np.linspace(0, voice.size - crop, count).astype(int):
            labels.append(label)
            for name, indices in _CONDITIONS.items():
                condition = data.CONDITIONS[int(rng.choice(indices))]
                samples = condition(rng, voice[start : start + crop], voices)
                features[name].append(extract(torch.from_numpy(np.ascontiguousarray(samples, np.float32))[None])[0])
    return VerificationSet({name: torch.stack(crops) for name, crops in features.items()}, np.array(labels))


def equal_error_rates(network: SpeakerNetwork, prepared: VerificationSet) -> dict[str, float]:
    """Return the equal error rate, in percent, of cosine scores within each condition."""
    rates = {}
    for name, features in prepared.features.items():
        with torch.inference_mode():
            vectors = functional.normalize(network(features, torch.ones(features.shape[:2]))).numpy()
        pairs = np.array(list(combinations(range(len(vectors)), 2)))
        scores = np.einsum("pd,pd->p", vectors[pairs[:, 0]], vectors[pairs[:, 1]])
        rates[name] = equal_error_rate(scores, prepared.speakers[pairs[:, 0]] == prepared.speakers[pairs[:, 1]])
    return rates


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> float:
    """Return the rate, in percent, at which false acceptances are as frequent as false rejections."""
    ranked = same[np.argsort(-scores, kind="stable")]
    accepted = np.cumsum(~ranked) / max((~ranked).sum(), 1)
    rejected = 1.0 - np.cumsum(ranked) / max(ranked.sum(), 1)
    crossing = int(np.argmin(np.abs(accepted - rejected)))
    return float(50.0 * (accepted[crossing] + rejected[crossing]))
