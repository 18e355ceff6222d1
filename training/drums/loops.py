"""Real recordings: the loops annotated by hand, which nothing is trained or tuned on (`annotations/README.md`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from serve_app.models.drums.audio_file import read_recording
from serve_app.models.drums.bands import log_bands
from serve_app.models.drums.network import LABELS
from training.drums.articulations import ARTICULATIONS
from training.drums.shards import SURE, UNSURE, Example

_ANNOTATIONS = Path(__file__).parent / "annotations"
# Recordings in which no drum of ours is struck: whatever is found there is found in vain.
_WITHOUT_DRUMS = {
    "3d_printer",
    "drone_g_97",
    "electric",
    "mehackit1",
    "mehackit2",
    "perc1",
    "perc2",
    "safari",
    "weirdo",
}
_PLAYED_AS = {"kick": "kick", "snare": "snare", "hihat": "hihat_closed", "tom": "tom_mid", "cymbal": "ride"}


def loops(folder: Path) -> list[Example]:
    """Return the loops that are in a folder, by name; strokes marked `?` are unsure, levels are not known (0 dB)."""
    found = []
    for path in sorted(folder.glob("loop_*.flac")):
        annotation = _ANNOTATIONS / f"{path.stem}.txt"
        if annotation.exists():
            lines = [line.split("\t") for line in annotation.read_text("utf-8").splitlines()]
        elif path.stem.removeprefix("loop_") in _WITHOUT_DRUMS:
            lines = []
        else:
            continue
        found.append(_example(path, lines))
    return found


def _example(path: Path, lines: list[list[str]]) -> Example:
    recording = read_recording(path)
    samples = np.concatenate(list(recording.blocks)) * np.float32(recording.gain)
    labels = [line[1] for line in lines]
    return Example(
        bands=log_bands(samples).astype(np.float16),
        times_s=np.array([float(line[0]) for line in lines], dtype=np.float64),
        kinds=np.array([UNSURE if "?" in line[2:] else SURE for line in lines], dtype=np.int8),
        labels=np.array([LABELS.index(label) for label in labels], dtype=np.int8),
        articulations=np.array([ARTICULATIONS.index(_PLAYED_AS.get(each, "other")) for each in labels], dtype=np.int8),
        velocities=np.ones(len(lines), np.float32),
        levels_db=np.zeros(len(lines), np.float32),
        beats_s=np.zeros(0),
        about={"bpm": 0.0, "kit": path.stem, "genre": "recorded" if lines else "no drums"},
    )
