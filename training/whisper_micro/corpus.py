"""The pool of spoken utterances that training windows are made of: shards on disk, written while training reads.

A shard is `NUMBER.npy` (all samples, int16) beside `NUMBER.pickle` (words, sounds and voices), which is written last.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.whisper_micro import grammar
from training.whisper_micro.flite_festival import speak_festival_all
from training.whisper_micro.grammar import Kind, Language, Split
from training.whisper_micro.speech import Speech
from training.whisper_micro.synthesis import finish, speak
from training.whisper_micro.voices import Voice, VoiceSplit, draw_voice

SHARD_UTTERANCES = 1000
SHARE_KOREAN = 0.27  # its words are longer and its voices fewer
SHARE_FREE = 0.45
RUN = 4  # utterances of one voice that follow each other, so that a window may hold one speaker or several
_FULL_SCALE = 32_767


def build(folder: Path, num_shards: int, seed: int = 0) -> None:
    """Write the shards that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num_shards):
        if not _index(folder, number).exists():
            _write(folder, number, make(np.random.default_rng((seed, number)), SHARD_UTTERANCES, "train", "train"))


def make(rng: np.random.Generator, num: int, split: Split, voices: VoiceSplit) -> list[Speech]:
    """Return utterances in runs of one voice and one language."""
    requests: list[tuple[str, Language, Voice]] = []
    while len(requests) < num:
        language: Language = "ko" if rng.random() < SHARE_KOREAN else "en"
        voice = draw_voice(rng, language, voices)
        for _ in range(RUN):
            kind: Kind = "free" if rng.random() < SHARE_FREE else "grammar"
            requests.append((grammar.draw(rng, language, kind, split), language, voice))
    festival = [(text, voice) for text, _, voice in requests if voice.family == "festival"]
    spoken = iter(speak_festival_all(festival) if festival else ())
    return [
        finish(next(spoken), text, language, voice) if voice.family == "festival" else speak(text, language, voice)
        for text, language, voice in requests[:num]
    ]


def _index(folder: Path, number: int) -> Path:
    return folder / f"{number:04}.pickle"


def _write(folder: Path, number: int, speeches: list[Speech]) -> None:
    samples = np.concatenate([speech.samples for speech in speeches])
    np.save(folder / f"{number:04}.npy", np.round(samples.clip(-1, 1) * _FULL_SCALE).astype(np.int16))
    ends = np.cumsum([speech.samples.size for speech in speeches])
    silent = [replace(speech, samples=np.empty(0, np.float32)) for speech in speeches]
    partial = folder / f"{number:04}.part"
    partial.write_bytes(pickle.dumps((ends, silent)))
    partial.rename(_index(folder, number))


class Pool:
    """Random access to the shards that are there; `refresh` finds new ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: dict[str, tuple[np.ndarray, np.ndarray, list[Speech]]] = {}
        self._by_language: dict[str, list[tuple[str, int]]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Open the shards that have been written since."""
        for path in sorted(self._folder.glob("*.pickle")):
            if path.stem in self._shards:
                continue
            ends, speeches = pickle.loads(path.read_bytes())
            self._shards[path.stem] = (np.load(path.with_suffix(".npy"), mmap_mode="r"), ends, speeches)
            for at, speech in enumerate(speeches):
                self._by_language.setdefault(speech.language, []).append((path.stem, at))

    def speeches(self) -> Iterator[Speech]:
        """Yield what is known of all utterances, without their samples."""
        for _, _, speeches in self._shards.values():
            yield from speeches

    def draw(self, rng: np.random.Generator, language: str) -> Iterator[Speech]:
        """Yield utterances of a language without end: runs of one voice half of the time, else one by one."""
        places = self._by_language[language]
        while True:
            first = int(rng.integers(len(places)))
            for at in range(first, min(first + (RUN if rng.random() < 0.5 else 1), len(places))):
                yield self._read(*places[at])

    def _read(self, shard: str, at: int) -> Speech:
        samples, ends, speeches = self._shards[shard]
        start = ends[at - 1] if at else 0
        return replace(speeches[at], samples=samples[start : ends[at]].astype(np.float32) / _FULL_SCALE)
