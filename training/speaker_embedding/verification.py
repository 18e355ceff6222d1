"""Equal error rate on speakers that were not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch.nn import functional

from serve_app.models.diarization.embedding import SpeakerEmbedding, SpeakerNetwork
from training.speaker_embedding import data
from training.speaker_embedding.speakers import Speaker

CROP_S = 2.5
_AT_ONCE = 20
_CROPS_PER_SPEAKER = 4
_CONDITIONS = {
    "clean": (0,),
    "room and noise": (1, 3, 5),
    "telephone": (7,),
    "mixed": tuple(range(len(data.CONDITIONS))),
}

# Takes (batch, 1, samples) and returns (batch, dimension): a model, or pyannote's wrapper of one.
Embed = Callable[[torch.Tensor], torch.Tensor | np.ndarray]


@dataclass(frozen=True, slots=True)
class VerificationSet:
    """Crops that do not overlap, per condition: (speakers x crops, 1, samples)."""

    waveforms: dict[str, torch.Tensor]
    speakers: np.ndarray


def prepare(speakers: tuple[Speaker, ...], seed: int = 5) -> VerificationSet:
    """Cut each speaker's utterance into crops and put every crop into its own room or on its own line.

    There is one utterance of each speaker, so both sides of a same-speaker pair come from one session: the rate is
    optimistic, and comparable only with rates measured in the same way.
    """
    rng = np.random.default_rng(seed)
    voices = [speaker.load() for speaker in speakers]
    crop = int(CROP_S * data.augment.SAMPLE_RATE_HZ)
    labels: list[int] = []
    waveforms: dict[str, list[torch.Tensor]] = {name: [] for name in _CONDITIONS}
    for label, voice in enumerate(voices):
        count = min(_CROPS_PER_SPEAKER, voice.size // crop)
        for start in np.linspace(0, voice.size - crop, count).astype(int):
            labels.append(label)
            for name, indices in _CONDITIONS.items():
                condition = data.CONDITIONS[int(rng.choice(indices))]
                samples = condition(rng, voice[start : start + crop], voices)
                waveforms[name].append(torch.from_numpy(np.ascontiguousarray(samples, np.float32))[None])
    return VerificationSet({name: torch.stack(crops) for name, crops in waveforms.items()}, np.array(labels))


def own_embedding(network: SpeakerNetwork) -> Embed:
    """Return a network in training as what embeds waveforms."""
    model = SpeakerEmbedding(network.shape)
    model.network = network
    return model.eval()


def equal_error_rates(embed: Embed, prepared: VerificationSet) -> dict[str, float]:
    """Return the equal error rate, in percent, of cosine scores within each condition."""
    rates = {}
    for name, waveforms in prepared.waveforms.items():
        with torch.inference_mode():
            parts = [torch.as_tensor(embed(part)) for part in waveforms.split(_AT_ONCE)]
        vectors = functional.normalize(torch.cat(parts)).numpy()
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
