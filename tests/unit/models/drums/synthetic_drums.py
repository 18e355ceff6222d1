"""Drums that are easily told apart, and a network that needs no training to do so."""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import butter, sosfilt
from torch import Tensor, nn

from serve_app.models.drums.bands import band_centers_hz
from serve_app.models.drums.checkpoint import LoadedDrums
from serve_app.models.drums.network import DrumOutput, HyperParameters

RANGES_HZ = {"kick": (40.0, 110.0), "snare": (1_000.0, 3_000.0), "hihat": (6_500.0, 16_000.0)}
DECAYS_S = {"kick": 0.05, "snare": 0.04, "hihat": 0.02}


def stroke(drum: str, rate_hz: int = 44_100) -> np.ndarray:
    """Return a decaying sound within a drum's own band, (n,), its loudest sample 1."""
    low_hz, high_hz = RANGES_HZ[drum]
    time_s = np.arange(int(0.25 * rate_hz)) / rate_hz
    if low_hz > 0.4 * rate_hz:
        return np.zeros(len(time_s))
    if drum == "kick":
        sound = np.sin(2 * np.pi * 65.0 * time_s)
    else:
        edges = [low_hz, min(high_hz, 0.45 * rate_hz)]
        noise = np.random.default_rng(4).standard_normal(len(time_s))
        sound = sosfilt(butter(4, edges, "bandpass", fs=rate_hz, output="sos"), noise)
    sound = sound * np.exp(-time_s / DECAYS_S[drum])
    return sound / np.abs(sound).max()


def render(hits: list[tuple[float, str, float]], duration_s: float, rate_hz: int = 44_100) -> np.ndarray:
    """Return the sound, (n,) float64, of (time_s, drum, amplitude)."""
    end_s = max([duration_s, *(time_s for time_s, _, _ in hits)])
    sound = np.zeros(int((end_s + 1.0) * rate_hz))
    strokes = {drum: stroke(drum, rate_hz) for drum in RANGES_HZ}
    for time_s, drum, amplitude in hits:
        start = round(time_s * rate_hz)
        sound[start : start + len(strokes[drum])] += amplitude * strokes[drum]
    return 0.3 * sound[: int(duration_s * rate_hz)]


def rock(bpm: float, num_beats: int, start_s: float = 0.1, jitter_s: float = 0.0) -> list[tuple[float, str, float]]:
    """Return kick on one and three, snare on two and four, hi-hat in eighths."""
    rng = np.random.default_rng(2)
    hits = []
    for eighth in range(2 * num_beats):
        time_s = start_s + eighth * 30.0 / bpm
        drums = ["hihat"] if eighth % 2 else ["hihat", "kick" if eighth % 4 == 0 else "snare"]
        hits += [(float(time_s + rng.uniform(-jitter_s, jitter_s)), drum, 1.0) for drum in drums]
    return sorted(hits)


class FluxNetwork(nn.Module):
    """Finds a drum where its own band gets louder."""

    def __init__(self, hyper_parameters: HyperParameters) -> None:
        super().__init__()
        centers_hz = band_centers_hz()
        weights = np.zeros((len(centers_hz), len(hyper_parameters.labels)), dtype=np.float32)
        for drum, (low_hz, high_hz) in RANGES_HZ.items():
            own = (centers_hz >= low_hz) & (centers_hz <= high_hz)
            weights[own, hyper_parameters.labels.index(drum)] = 1.0 / own.sum()
        self.weights = nn.Parameter(torch.from_numpy(weights))  # (bands, labels)

    def forward(self, bands: Tensor) -> DrumOutput:
        loudness = (bands - 0.7).clamp(min=0.0) @ self.weights  # (batch, frames, labels)
        # the window sees a stroke coming: one frame later is nearer to when it is struck
        rise = nn.functional.pad(loudness, (0, 0, 0, 1))[:, 1:] - nn.functional.pad(loudness, (0, 0, 3, 0))[:, :-3]
        loudest = nn.functional.max_pool1d(nn.functional.pad(loudness.transpose(1, 2), (0, 4)), 5, 1).transpose(1, 2)
        return DrumOutput(6.0 * rise - 3.0, 20.0 * loudest)


def loaded_drums() -> LoadedDrums:
    hyper_parameters = HyperParameters()
    network = FluxNetwork(hyper_parameters).eval()
    thresholds = dict.fromkeys(hyper_parameters.labels, 0.5)
    return LoadedDrums(network, hyper_parameters, thresholds, "flux (00000000)", {})  # type: ignore[arg-type]
