"""The recordings: who they are, which speakers are held out, and their samples."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE_HZ = 16_000
# Speakers never trained on: the first half tunes thresholds and the stopping rule, the second half only reports.
NUM_TUNE = 20
NUM_REPORT = 20
# An utterance shorter than this can't be cut into turns, so it may only be trained on.
_MIN_HELD_OUT_S = 9.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """One speaker and the one utterance there is of them."""

    speaker_id: str
    gender: str
    path: Path

    def load(self) -> np.ndarray:
        """Return the utterance, (samples,) float32 at 16 kHz, peak 0.5."""
        samples, rate = soundfile.read(self.path, dtype="float32")
        assert rate == SAMPLE_RATE_HZ, f"{self.path}: {rate} Hz"
        return samples * (0.5 / max(float(np.abs(samples).max()), 1e-6))


@dataclass(frozen=True, slots=True)
class Split:
    """Speakers by use; no speaker is in two of them."""

    train: tuple[Speaker, ...]
    tune: tuple[Speaker, ...]
    report: tuple[Speaker, ...]


def list_speakers(folder: Path) -> list[Speaker]:
    """Return every speaker of the folder (SPEAKER-CHAPTER-UTTERANCE.flac and SPEAKERS.TXT), sorted by id."""
    genders = {}
    for line in (folder / "SPEAKERS.TXT").read_text(encoding="utf-8").splitlines():
        if not line.startswith(";"):
            speaker_id, gender = (part.strip() for part in line.split("|")[:2])
            genders[speaker_id] = gender
    return [
        Speaker(path.name.split("-")[0], genders[path.name.split("-")[0]], path)
        for path in sorted(folder.glob("*.flac"))
    ]


def split_speakers(folder: Path, seed: int = 7) -> Split:
    """Return the split: each held-out part has as many women as men."""
    speakers = list_speakers(folder)
    long_enough = [s for s in speakers if soundfile.info(s.path).duration >= _MIN_HELD_OUT_S]
    random.Random(seed).shuffle(long_enough)
    held_out: list[tuple[Speaker, ...]] = []
    for count in (NUM_TUNE, NUM_REPORT):
        chosen: list[Speaker] = []
        for gender in ("F", "M"):
            chosen += [s for s in long_enough if s.gender == gender][: count // 2]
        long_enough = [s for s in long_enough if s not in chosen]
        held_out.append(tuple(sorted(chosen, key=lambda s: s.speaker_id)))
    tune, report = held_out
    train = tuple(s for s in speakers if s not in tune and s not in report)
    return Split(train, tune, report)
