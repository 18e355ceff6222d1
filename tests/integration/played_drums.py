"""A plain rock beat, and what is struck when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.integration.recordings import write_audio

RATE_HZ = 48_000
BPM = 120.0


@dataclass(frozen=True)
class Played:
    """A recording, and when each drum is struck in it."""

    path: Path
    strokes_s: dict[str, list[float]]
    duration_s: float


def _stroke(drum: str, rng: np.random.Generator) -> np.ndarray:
    """Return a plain drum sound, (n,)."""
    time_s = np.arange(int(0.3 * RATE_HZ)) / RATE_HZ
    if drum == "kick":
        return np.sin(2 * np.pi * (50 * time_s - 60 * 0.03 * np.exp(-time_s / 0.03))) * np.exp(-time_s / 0.08)
    noise = rng.normal(0, 0.4, len(time_s))
    if drum == "snare":
        return (0.6 * np.sin(2 * np.pi * 190 * time_s) + noise) * np.exp(-time_s / 0.06)
    return np.diff(noise, 2, prepend=[0, 0]) * 0.4 * np.exp(-time_s / 0.03)


def play(path: Path, num_beats: int, channels: int, codec: str) -> Played:
    """Write rock at 120: kick on one and three, snare on two and four, hi-hat in eighths."""
    rng = np.random.default_rng(5)
    duration_s = 1.0 + num_beats * 60 / BPM
    samples = np.zeros(int((duration_s + 0.5) * RATE_HZ))
    strokes_s: dict[str, list[float]] = {"kick": [], "snare": [], "hihat": []}
    for eighth in range(2 * num_beats):
        time_s = 0.5 + eighth * 30 / BPM
        for drum in ["hihat"] if eighth % 2 else ["hihat", "kick" if eighth % 4 == 0 else "snare"]:
            strokes_s[drum].append(time_s)
            sound = _stroke(drum, rng)
            start = round(time_s * RATE_HZ)
            samples[start : start + len(sound)] += 0.4 * sound
    samples = samples[: int(duration_s * RATE_HZ)].clip(-1, 1).astype(np.float32)
    layout = "mono" if channels == 1 else "stereo"
    write_audio(path, np.stack([samples] * channels), RATE_HZ, codec, layout)
    return Played(path, strokes_s, duration_s)
