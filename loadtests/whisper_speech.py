"""Recordings whose words and times are known: held-out speech of training.whisper_micro, laid out on disk as FLAC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from serve_app.scoring import TimedWord, align, timed_words
from training.whisper_micro.synthesis import SAMPLE_RATE_HZ, Span
from training.whisper_micro.utterances import held_out_utterances

_BLOCK = 4096  # samples of a FLAC frame
# Utterances bring 0.2 to 1.1 s of silence of their own: 0.3 to 3 s together.
_EXTRA_PAUSE_S = (0.1, 1.9)
_CLIP_PAUSE_S = (0.0, 0.4)


@dataclass(frozen=True, slots=True)
class Recording:
    """A file and what is said in it.

    Attributes:
        path: of the file.
        duration_s: of the audio.
        words: with their times in the file.
        utterances: (start_s, end_s) of each, with the silence around it that it was made with.
    """

    path: Path
    duration_s: float
    words: tuple[Span, ...]
    utterances: tuple[tuple[float, float], ...]

    @property
    def text(self) -> str:
        """Return all words."""
        return " ".join(word.name for word in self.words)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How what was heard differs from what was said.

    Attributes:
        num_words: said.
        num_errors: words heard as others, not heard, or not said.
        start_errors_s: distance of the starts of words heard rightly.
        wrong_at_s: where the errors lie: the time of the word that was said, else of the one that was heard.
        is_insertion: of each error: nobody said that word.
    """

    num_words: int
    num_errors: int
    start_errors_s: NDArray[np.float64]
    wrong_at_s: NDArray[np.float64]
    is_insertion: NDArray[np.bool_]

    @property
    def word_error_rate(self) -> float:
        """Share of the words; NaN without any."""
        return self.num_errors / self.num_words if self.num_words else float("nan")


class FlacWriter:
    """Writes 16-bit mono FLAC at 16 kHz piece by piece: hours of it need no memory."""

    def __init__(self, path: Path) -> None:
        self._container = av.open(str(path), "w", format="flac")
        stream = self._container.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono")
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._stream.format = av.AudioFormat("s16")
        self._kept = np.empty(0, np.int16)
        self._num_encoded = 0
        self.num_samples = 0

    @property
    def duration_s(self) -> float:
        """What was written so far, in seconds."""
        return self.num_samples / SAMPLE_RATE_HZ

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append (n,) samples."""
        self.num_samples += samples.size
        whole = np.round(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
        self._kept = np.concatenate([self._kept, whole])
        while self._kept.size >= _BLOCK:
            self._encode(self._kept[:_BLOCK])
            self._kept = self._kept[_BLOCK:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._kept.size:
            self._encode(self._kept)
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def _encode(self, block: NDArray[np.int16]) -> None:
        frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        frame.pts, frame.time_base = self._num_encoded, Fraction(1, SAMPLE_RATE_HZ)
        self._num_encoded += block.size
        self._container.mux(self._stream.encode(frame))


def write_clips(folder: Path, num: int, seconds: float, seed: int) -> list[Recording]:
    """Write English clips of exactly that length, each with as many whole utterances as find room."""
    folder.mkdir(parents=True, exist_ok=True)
    speech = _utterances(seed, _CLIP_PAUSE_S)
    recordings, waiting = [], next(speech)
    limit = round(seconds * SAMPLE_RATE_HZ)
    for number in range(num):
        laid: list[tuple[NDArray[np.float32], tuple[Span, ...]]] = []
        room = limit
        while waiting[0].size <= room or not laid:
            laid.append((waiting[0][:room], waiting[1]))
            room = max(0, room - waiting[0].size)
            waiting = next(speech)
        laid.append((np.zeros(room, np.float32), ()))
        recordings.append(_write(folder / f"clip-{number:03d}.flac", iter(laid)))
    return recordings


def write_long(path: Path, minutes: float, seed: int) -> Recording:
    """Write English speech of many voices with pauses of 0.3 to 3 s, at least that long."""
    return _write(path, _until(_utterances(seed, _EXTRA_PAUSE_S), minutes * 60))


def compare(spoken: list[TimedWord], heard: list[TimedWord]) -> Agreement:
    """Compare words in a band of time, so that hours of them need no table of all against all.

    Both are cut where nobody speaks for a while in either, which alignment would not cross anyway.
    """
    starts_s: list[float] = []
    wrong: list[tuple[float, bool]] = []
    for said, got in _stretches(spoken, heard):
        for i, j in align(said, got):
            word = None if i is None else said[i]
            other = None if j is None else got[j]
            if word and other and word.word == other.word:
                starts_s.append(abs(word.start_s - other.start_s))
            elif word:
                wrong.append((word.start_s, False))
            elif other:
                wrong.append((other.start_s, True))
    return Agreement(
        len(spoken),
        len(wrong),
        np.array(starts_s),
        np.array([at_s for at_s, _ in wrong]),
        np.array([is_insertion for _, is_insertion in wrong], dtype=bool),
    )


def spoken_words(words: tuple[Span, ...], offset_s: float = 0.0) -> list[TimedWord]:
    """Return true words as they are compared."""
    return timed_words((word.name, word.start_s + offset_s, None) for word in words)


_FEWEST_WORDS = 200  # of a stretch: some 20,000 comparisons more than of words alone


def _stretches(spoken: list[TimedWord], heard: list[TimedWord]) -> Iterator[tuple[list[TimedWord], list[TimedWord]]]:
    """Yield runs of both that end in the longest pause of the truth among the words that follow."""
    first = first_heard = 0
    while first < len(spoken):
        stop = len(spoken)
        if stop - first > 2 * _FEWEST_WORDS:
            candidates = range(first + _FEWEST_WORDS, first + 2 * _FEWEST_WORDS)
            stop = max(candidates, key=lambda index: spoken[index].start_s - spoken[index - 1].start_s)
        stop_heard = first_heard
        until_s = float("inf") if stop == len(spoken) else spoken[stop].start_s - 0.3
        while stop_heard < len(heard) and heard[stop_heard].start_s < until_s:
            stop_heard += 1
        yield spoken[first:stop], heard[first_heard:stop_heard]
        first, first_heard = stop, stop_heard
    if first_heard < len(heard):
        yield [], heard[first_heard:]


def _utterances(seed: int, pause_s: tuple[float, float]) -> Iterator[tuple[NDArray[np.float32], tuple[Span, ...]]]:
    """Yield utterances, each with a pause behind it; the voice changes from one to the next."""
    rng = np.random.default_rng(seed)
    for utterance in held_out_utterances(10**9, "en", seed):
        pause = np.zeros(round(rng.uniform(*pause_s) * SAMPLE_RATE_HZ), np.float32)
        yield np.concatenate([utterance.samples, pause]), utterance.words


def _until(
    speech: Iterator[tuple[NDArray[np.float32], tuple[Span, ...]]], seconds: float
) -> Iterator[tuple[NDArray[np.float32], tuple[Span, ...]]]:
    length_s = 0.0
    while length_s < seconds:
        samples, words = next(speech)
        length_s += samples.size / SAMPLE_RATE_HZ
        yield samples, words


def _write(path: Path, speech: Iterator[tuple[NDArray[np.float32], tuple[Span, ...]]]) -> Recording:
    words: list[Span] = []
    utterances: list[tuple[float, float]] = []
    with FlacWriter(path) as flac:
        for samples, own in speech:
            offset_s = flac.duration_s
            flac.write(samples)
            if own:
                words += [word.moved(offset_s) for word in own]
                utterances.append((offset_s, flac.duration_s))
        duration_s = flac.duration_s
    return Recording(path, duration_s, tuple(words), tuple(utterances))
