"""Songs on disk as the network sees them: spectrograms and strokes, in shards that come while training runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.models.drums.audio_file import level_gain
from serve_app.models.drums.bands import log_bands
from serve_app.models.drums.network import LABELS
from training.drums.articulations import ARTICULATIONS
from training.drums.kits import Split
from training.drums.songs import Hit, Song, make_song

SECONDS = 30.0
SONGS_IN_SHARD = 10
# What a stroke counts as: to be found; or neither that nor a mistake (grace strokes, which annotators seldom mark, and
# strokes of which it is unsure whether they can be heard).
SURE, UNSURE = 0, 1

# Seeds of the songs; those of validation are of the split "train", but no song is trained on.
_SEEDS: dict[str, tuple[Split, int]] = {"train": ("train", 1), "validation": ("train", 2), "held_out": ("held_out", 3)}
# What decides how songs sound, by name: shards made by other versions of these are other shards.
_SOURCES = ("training/drums/*.py", "serve_app/models/drums/audio_file.py", "serve_app/models/drums/bands.py")
_NOT_SOURCES = {"__main__.py", "batches.py", "evaluate.py", "loops.py", "matching.py", "train.py"}
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Example:
    """A song as the network sees it; strokes in order of time.

    Attributes:
        bands: (frames, bands) float16, of the levelled song.
        times_s: (strokes,) float64.
        kinds: (strokes,) int8, `SURE` or `UNSURE`.
        labels: (strokes,) int8, of `LABELS`.
        articulations: (strokes,) int8, of `ARTICULATIONS`.
        velocities: (strokes,) float32.
        levels_db: (strokes,) float32: of the stroke alone, relative to full scale of the levelled song.
        beats_s: (beats,) float64.
        about: `bpm`, `kit` and all of the song's recipe.
    """

    bands: np.ndarray
    times_s: np.ndarray
    kinds: np.ndarray
    labels: np.ndarray
    articulations: np.ndarray
    velocities: np.ndarray
    levels_db: np.ndarray
    beats_s: np.ndarray
    about: dict[str, Any]

    def strokes_of(self, label: str, kind: int = SURE) -> np.ndarray:
        """Return which strokes are of a label and a kind: their indices, (n,)."""
        return np.flatnonzero((self.labels == LABELS.index(label)) & (self.kinds == kind))


_PER_STROKE = {
    "times_s": np.float64,
    "kinds": np.int8,
    "labels": np.int8,
    "articulations": np.int8,
    "velocities": np.float32,
    "levels_db": np.float32,
}


def to_example(song: Song) -> Example:
    """Return what is kept of a song."""
    gain = level_gain(song.samples)
    bands = log_bands(song.samples * np.float32(gain)).astype(np.float16)
    hits: list[Hit] = sorted((*song.hits, *song.faint), key=lambda hit: hit.time_s)
    faint = set(map(id, song.faint))
    strokes = {
        "times_s": [hit.time_s for hit in hits],
        "kinds": [UNSURE if hit.grace or id(hit) in faint else SURE for hit in hits],
        "labels": [LABELS.index(hit.label) for hit in hits],
        "articulations": [ARTICULATIONS.index(hit.articulation) for hit in hits],
        "velocities": [hit.velocity for hit in hits],
        "levels_db": [hit.level_db + 20.0 * np.log10(max(gain, 1e-9)) for hit in hits],
    }
    arrays = {name: np.array(values, dtype=_PER_STROKE[name]) for name, values in strokes.items()}
    about = {"bpm": song.bpm, "kit": song.kit, **song.recipe}
    return Example(bands=bands, beats_s=np.asarray(song.beats_s, dtype=np.float64), about=about, **arrays)


def build(folder: Path, part: str, num_shards: int, seed: int = 0, *, first: int = 0) -> None:
    """Make the shards that are not there yet; may be killed at any moment, and run beside the training.

    Args:
        folder: where shards are kept.
        part: train, validation or held_out.
        num_shards: of `SONGS_IN_SHARD` songs each.
        seed: of all songs.
        first: number of the first shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    split, part_seed = _SEEDS[part]
    version = sources_version()
    for number in range(first, first + num_shards):
        path = folder / f"{part}-{version}-{number:05}.npz"
        if not path.exists():
            rngs = (np.random.default_rng((seed, part_seed, number, song)) for song in range(SONGS_IN_SHARD))
            write(path, [to_example(make_song(rng, split, seconds=SECONDS)) for rng in rngs])


def write(path: Path, examples: Sequence[Example]) -> None:
    """Write a shard, at once or not at all."""
    arrays: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in examples]) for name in _PER_STROKE}
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        np.savez(
            file,
            bands=np.concatenate([each.bands for each in examples]),
            num_frames=np.array([len(each.bands) for each in examples]),
            num_strokes=np.array([len(each.times_s) for each in examples]),
            beats_s=np.concatenate([each.beats_s for each in examples]),
            num_beats=np.array([len(each.beats_s) for each in examples]),
            about=np.array([json.dumps(each.about, default=str) for each in examples]),
            **arrays,
        )
    partial.replace(path)


def read(path: Path) -> Iterator[Example]:
    """Return the songs of a shard."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    frames, strokes, beats = (np.cumsum([0, *arrays[f"num_{kind}"]]) for kind in ("frames", "strokes", "beats"))
    for index, about in enumerate(arrays["about"]):
        own = slice(strokes[index], strokes[index + 1])
        yield Example(
            bands=arrays["bands"][frames[index] : frames[index + 1]],
            beats_s=arrays["beats_s"][beats[index] : beats[index + 1]],
            about=json.loads(str(about)),
            **{name: arrays[name][own] for name in _PER_STROKE},
        )


def shard_paths(folder: Path, part: str) -> list[Path]:
    """Return the finished shards of a part, whatever version of the songs they are of, oldest first."""
    return sorted(folder.glob(f"{part}-*.npz"), key=lambda path: (path.stat().st_mtime, path.name))


def sources_version() -> str:
    """Return a short hash of all that decides how songs sound, but for what is installed."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(_ROOT.glob(pattern)):
            if path.name not in _NOT_SOURCES:
                digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
