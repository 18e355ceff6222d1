"""Features of every training speaker, at several speeds and in several conditions, on disk.

A speed is a class of its own: a voice played 9 % faster is another voice. A condition is not: the network must learn
that a voice on the telephone is the same voice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from serve_app.models.diarization.embedding import NUM_FEATURES, SpeechFeatures
from training.speaker_embedding import augment
from training.speaker_embedding.speakers import Speaker

SPEEDS = (1.0, 0.92, 1.09, 0.84, 1.19)

Condition = Callable[[np.random.Generator, np.ndarray, list[np.ndarray]], np.ndarray]


def _noisy(rng: np.random.Generator, samples: np.ndarray, voices: list[np.ndarray], low_db: float = 3.0) -> np.ndarray:
    if rng.random() < 0.3:
        noise = augment.babble(rng, voices, samples.size, int(rng.integers(3, 8)))
    else:
        noise = augment.coloured_noise(rng, samples.size)
    return augment.add_noise(samples, noise, rng.uniform(low_db, 25.0))


def _room(rng: np.random.Generator, samples: np.ndarray, voices: list[np.ndarray]) -> np.ndarray:
    return augment.convolve(augment.equalize(rng, samples), augment.room_response(rng))


def _far(rng: np.random.Generator, samples: np.ndarray, voices: list[np.ndarray]) -> np.ndarray:
    wet = augment.convolve(augment.equalize(rng, samples), augment.room_response(rng, (0.3, 1.0)))
    return _noisy(rng, wet, voices, 5.0)


def _line(rng: np.random.Generator, samples: np.ndarray, voices: list[np.ndarray]) -> np.ndarray:
    if rng.random() < 0.5:
        samples = augment.convolve(samples, augment.room_response(rng, (0.1, 0.4)))
    if rng.random() < 0.4:
        samples = _noisy(rng, samples, voices, 8.0)
    return augment.telephone(rng, augment.equalize(rng, samples))


def _microphone(rng: np.random.Generator, samples: np.ndarray, voices: list[np.ndarray]) -> np.ndarray:
    return augment.compress(rng, augment.equalize(rng, samples, 10.0))


def _machine(rng: np.random.Generator, samples: np.ndarray, voices: list[np.ndarray]) -> np.ndarray:
    return _noisy(rng, augment.compress(rng, augment.low_pass(rng, augment.equalize(rng, samples))), voices, 8.0)


def _noise(rng: np.random.Generator, samples: np.ndarray, voices: list[np.ndarray]) -> np.ndarray:
    return _noisy(rng, augment.equalize(rng, samples), voices)


def _clean(rng: np.random.Generator, samples: np.ndarray, voices: list[np.ndarray]) -> np.ndarray:
    return samples


# A third are narrow-band, so that the telephone is no special case.
CONDITIONS: tuple[Condition, ...] = (
    _clean,
    _noise,
    _noise,
    _room,
    _room,
    _far,
    _far,
    _line,
    _line,
    _line,
    _microphone,
    _machine,
)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Built features.

    Attributes:
        frames: (all frames, NUM_FEATURES) float16, mapped from disk.
        starts: (classes, conditions) index of each recording's first frame.
        lengths: (classes, conditions) number of frames of each.
    """

    frames: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @property
    def num_classes(self) -> int:
        """Return speakers times speeds."""
        return int(self.starts.shape[0])


def build(speakers: tuple[Speaker, ...], folder: Path, seed: int = 11, processes: int = 1) -> Corpus:
    """Build the corpus, or open it where it was built from the same speakers before."""
    marker = folder / "corpus.json"
    identity = {
        "speakers": [s.path.name for s in speakers],
        "speeds": list(SPEEDS),
        "seed": seed,
        "frame": NUM_FEATURES,
    }
    identity["conditions"] = [condition.__name__ for condition in CONDITIONS]
    if not (marker.exists() and json.loads(marker.read_text()) == identity):
        folder.mkdir(parents=True, exist_ok=True)
        voices = [s.load() for s in speakers]
        num_classes = len(speakers) * len(SPEEDS)
        lengths = np.zeros((num_classes, len(CONDITIONS)), np.int64)
        workers = ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), initializer=_begin_worker, initargs=(voices, seed)
        )
        with open(folder / "frames.f16", "wb") as file, workers:
            for index, recordings in enumerate(workers.map(_features_of_class, range(num_classes), chunksize=4)):
                lengths[index] = [len(recording) for recording in recordings]
                for recording in recordings:
                    recording.tofile(file)
                if index % 100 == 0:
                    print(f"features: {index} of {num_classes} classes", flush=True)
        np.save(folder / "lengths.npy", lengths)
        marker.write_text(json.dumps(identity))
    return open_corpus(folder)


def open_corpus(folder: Path) -> Corpus:
    """Return a corpus that was built."""
    lengths = np.load(folder / "lengths.npy")
    starts = (np.cumsum(lengths.ravel()) - lengths.ravel()).reshape(lengths.shape)
    frames = np.memmap(folder / "frames.f16", np.float16, "r").reshape(-1, NUM_FEATURES)
    return Corpus(frames, starts, lengths)


_voices: list[np.ndarray] = []  # of a worker process
_seed = 0


def _begin_worker(voices: list[np.ndarray], seed: int) -> None:
    global _voices, _seed
    _voices, _seed = voices, seed
    torch.set_num_threads(1)


def _features_of_class(index: int) -> list[np.ndarray]:
    voices = _voices
    rng = np.random.default_rng((_seed, index))
    speed = SPEEDS[index // len(voices)]
    voice = voices[index % len(voices)]
    voice = voice if speed == 1.0 else augment.change_speed(voice, speed)
    extract = SpeechFeatures()
    recordings = []
    for condition in CONDITIONS:
        samples = condition(rng, voice, voices)
        with torch.inference_mode():
            frames = extract(torch.from_numpy(np.ascontiguousarray(samples, np.float32))[None])[0]
        recordings.append(frames.half().numpy())
    return recordings
