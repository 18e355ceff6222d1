"""Training batches: windows as spectrograms, token rows with what each should look at, and sounds frame by frame."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from whisper.audio import log_mel_spectrogram
from whisper.tokenizer import Tokenizer, get_tokenizer

from training.whisper_micro.augment import Places, mask
from training.whisper_micro.checkpoint import NUM_TIMESTAMPS
from training.whisper_micro.corpus import SHARE_KOREAN, Pool
from training.whisper_micro.grammar import LANGUAGES, vocabulary
from training.whisper_micro.speech import SAMPLE_RATE_HZ
from training.whisper_micro.windows import WINDOW_S, Layout, Window, lay

FRAME_S = 0.02  # of the encoder; a timestamp's unit as well
IGNORED = -100
PHONE_SETS = ("espeak", "cmu")
NUM_PHONES = (128, 48)  # at most; the first is silence
FULL_FRAMES = 3000
Shape = Literal["short", "middle", "full"]

_SILENCE = 0
_SHARE_SILENT, _SHARE_PROMPTED, _SHARE_TIMED = 0.03, 0.08, 0.5
_SHARE_MASKED = 0.3
_SHARE_LATE = 0.6
_SHARE_FLOOR = 0.4  # of pads with the spectrogram's floor (transformers); the others are zero (openai, faster-whisper)
_PAD_FRAMES_HEARD = 25  # encoder frames after the end whose sound is learnt (silence); the rest teaches nothing more
_LOOK_BACK, _LOOK_AHEAD = 2, 4  # frames that a word's interval is widened by


class Rows:
    """The tokens in use, as rows of the embedding: words' tokens, special ones, timestamps, and one for all others."""

    def __init__(self) -> None:
        self.tokenizer: Tokenizer = get_tokenizer(True)
        self.words = {
            word: tuple(self.tokenizer.encode(" " + word)) for language in LANGUAGES for word in vocabulary(language)
        }
        tokenizer = self.tokenizer
        specials = [tokenizer.eot, tokenizer.sot, *map(tokenizer.to_language_token, LANGUAGES)]
        specials += [tokenizer.transcribe, tokenizer.sot_prev, tokenizer.no_speech, tokenizer.no_timestamps]
        texts = sorted(set(itertools.chain.from_iterable(self.words.values())))
        stamps = range(tokenizer.timestamp_begin, tokenizer.timestamp_begin + NUM_TIMESTAMPS)
        self.ids = [*texts, *specials, *stamps]
        self.num_texts = len(texts)
        self.of = {token: row for row, token in enumerate(self.ids)}

    @property
    def num(self) -> int:
        """Return the number of rows, the one for unused ids included."""
        return len(self.ids) + 1

    @cached_property
    def sot(self) -> int:
        """Return the row of the start of a transcript."""
        return self.of[self.tokenizer.sot]

    def language(self, language: str) -> int:
        """Return the row of a language."""
        return self.of[self.tokenizer.to_language_token(language)]

    def special(self, name: str) -> int:
        """Return the row of a special token, by its name in openai-whisper's tokenizer."""
        return self.of[getattr(self.tokenizer, name)]

    def word(self, word: str) -> list[int]:
        """Return the rows of a word."""
        return [self.of[token] for token in self.words[word]]

    def stamp(self, time_s: float) -> int:
        """Return the row of a time."""
        return self.of[self.tokenizer.timestamp_begin + _frame(time_s)]


@dataclass(frozen=True, slots=True)
class Example:
    """One window.

    Attributes:
        mels: (80, frames), float32; frames is even.
        inputs, targets: rows, (tokens,); targets that teach nothing are IGNORED.
        looks: encoder frames that a target is heard in, first and after the last, (tokens, 2); -1 where it has none.
        phones: for each set, (frames / 2,) indices, IGNORED where unknown.
        offset: encoder frames of silence before the window that are left out. Positions and timestamps count them, so
            that a window of 3 s teaches what is otherwise learnt from 30 s only.
    """

    mels: np.ndarray
    inputs: np.ndarray
    targets: np.ndarray
    looks: np.ndarray
    phones: tuple[np.ndarray, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples side by side; attributes as those of `Example`, with the batch first."""

    mels: Tensor
    inputs: Tensor
    targets: Tensor
    looks: Tensor
    phones: tuple[Tensor, ...]
    offsets: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return it on a device."""
        return Batch(
            self.mels.to(device, non_blocking=True),
            self.inputs.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            self.looks.to(device, non_blocking=True),
            tuple(labels.to(device, non_blocking=True) for labels in self.phones),
            self.offsets.to(device, non_blocking=True),
        )


class ExampleMaker:
    """Makes examples of windows; holds the rows and the sounds met so far, which are numbered as they come."""

    def __init__(self, rows: Rows, phones: dict[str, dict[str, int]] | None = None) -> None:
        self.rows = rows
        self.phones = phones or phone_numbers()

    def make(
        self, rng: np.random.Generator, window: Window, prompt: tuple[str, ...] = (), may_begin_late: bool = False
    ) -> Example:
        """Return the example: with timestamps half of the time, with a prompt where one is given."""
        mels = log_mel_spectrogram(torch.from_numpy(window.samples)).numpy()
        mels = mels[:, : mels.shape[1] // 2 * 2]
        timed = window.cut_off or rng.random() < _SHARE_TIMED
        latest = (FULL_FRAMES - mels.shape[1]) // 2
        offset = int(rng.integers(latest + 1)) if may_begin_late and rng.random() < _SHARE_LATE else 0
        inputs, targets, looks = self._tokens(rng, window, timed, prompt, offset)
        return Example(mels, inputs, targets, looks, self._sounds(window, mels.shape[1] // 2), offset)

    def _tokens(
        self, rng: np.random.Generator, window: Window, timed: bool, prompt: tuple[str, ...], offset: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, none = self.rows, (-1, -1)
        language = window.utterances[0].language if window.utterances else LANGUAGES[rng.integers(len(LANGUAGES))]
        sequence: list[tuple[int, tuple[int, int]]] = []  # row, look
        if prompt:
            sequence.append((rows.special("sot_prev"), none))
            sequence += [(row, none) for word in prompt for row in rows.word(word)]
        unlearnt = len(sequence)  # the prompt, and the start that follows it, are given
        sequence += [(rows.sot, none), (rows.language(language), none), (rows.special("transcribe"), none)]
        if not timed:
            sequence.append((rows.special("no_timestamps"), none))
        for index, speech in enumerate(window.utterances):
            goes_on = window.cut_off and index == len(window.utterances) - 1
            if timed:
                sequence.append(self._stamp(speech.words[0].start_s, offset))
            if goes_on and index:
                break  # its start alone: where the next window begins
            for word in speech.words:
                look = (_frame(word.start_s) - _LOOK_BACK, _frame(word.end_s) + _LOOK_AHEAD)
                if word.end_s <= WINDOW_S:
                    sequence += [(row, look) for row in rows.word(word.name)]
            if timed and not goes_on:
                sequence.append(self._stamp(speech.words[-1].end_s, offset))
        if timed and not window.utterances:
            sequence.append((rows.stamp(0.0), none))
        sequence.append((rows.special("eot"), none))
        inputs = np.array([row for row, _ in sequence[:-1]])
        targets = np.array([row for row, _ in sequence[1:]])
        looks = np.array([look for _, look in sequence[1:]])
        targets[:unlearnt] = IGNORED
        if not timed:
            targets[unlearnt + 2] = IGNORED  # whether there are timestamps is never for the model to say
        if not window.utterances:
            targets[unlearnt] = rows.special("no_speech")
        return inputs, targets, looks

    def _stamp(self, time_s: float, offset: int) -> tuple[int, tuple[int, int]]:
        frame = _frame(time_s)
        return self.rows.stamp(time_s + offset * FRAME_S), (frame - _LOOK_AHEAD, frame + _LOOK_AHEAD)

    def _sounds(self, window: Window, num_frames: int) -> tuple[np.ndarray, ...]:
        labels = {name: np.full(num_frames, IGNORED) for name in PHONE_SETS}
        for name in PHONE_SETS:  # silence is silence to both
            labels[name][:] = _SILENCE
        for speech in window.utterances:
            start, end = _frame(speech.phones[0].start_s), _frame(speech.phones[-1].end_s)
            for name in PHONE_SETS:
                labels[name][start:end] = _SILENCE if name == speech.phone_set else IGNORED
            numbers = self.phones[speech.phone_set]
            for phone in speech.phones:
                begin, finish = round(phone.start_s / FRAME_S), round(phone.end_s / FRAME_S)
                labels[speech.phone_set][begin:finish] = numbers.get(phone.name, IGNORED)
        return tuple(labels[name] for name in PHONE_SETS)


def phone_numbers() -> dict[str, dict[str, int]]:
    """Return an empty table of sounds; see `learn_phones`."""
    return {name: {} for name in PHONE_SETS}


def learn_phones(pool: Pool) -> dict[str, dict[str, int]]:
    """Number the sounds of the utterances that are there; rarer ones that come later are left unlabelled."""
    met: dict[str, set[str]] = {name: set() for name in PHONE_SETS}
    for speech in pool.speeches():
        met[speech.phone_set].update(phone.name for phone in speech.phones)
    return {
        name: {phone: 1 + index for index, phone in enumerate(sorted(met[name])[: most - 1])}
        for name, most in zip(PHONE_SETS, NUM_PHONES, strict=True)
    }


@dataclass(frozen=True, slots=True)
class Mixture:
    """How much of the compute each shape of window gets, by progress of the training (0 to 1)."""

    stages: tuple[tuple[float, dict[Shape, float]], ...] = (
        (0.10, {"short": 0.86, "middle": 0.12, "full": 0.02}),
        (0.22, {"short": 0.75, "middle": 0.20, "full": 0.05}),
        (0.40, {"short": 0.65, "middle": 0.28, "full": 0.07}),
        (0.55, {"short": 0.40, "middle": 0.40, "full": 0.20}),
        (1.01, {"short": 0.20, "middle": 0.40, "full": 0.40}),
    )

    def draw(self, rng: np.random.Generator, progress: float) -> Shape:
        """Return the shape of the next batch."""
        shares = next(shares for until, shares in self.stages if progress < until)
        # the batches of all shapes take about the same time
        names = tuple(shares)
        return names[int(rng.choice(len(names), p=list(shares.values())))]


_BATCH_FRAMES = {"short": 7000, "middle": 6000, "full": 2 * FULL_FRAMES}  # pads included
_SORTED_TOGETHER = {"short": 100, "middle": 24, "full": 2}  # examples that are put into batches by their length
_MIDDLE = Layout(lead_s=(0.0, 1.0), gap_s=(0.1, 1.5), trail_s=(0.0, 1.0))
_SHORT = Layout()


class Batches(IterableDataset):
    """An endless stream of batches, made beside the training; a different one in every worker.

    Args:
        folder: of the pool.
        progress: of the training, 0 to 1, shared with it.
        phones: numbers of the sounds.
        seed: of the stream.
    """

    def __init__(
        self, folder: Path, progress: Synchronized, phones: dict[str, dict[str, int]], mixture: Mixture, seed: int
    ) -> None:
        super().__init__()
        self._folder, self._progress, self._phones = folder, progress, phones
        self._mixture, self._seed = mixture, seed

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        worker = get_worker_info()
        rng = np.random.default_rng((self._seed, worker.id if worker else 0))
        pool, places, maker = Pool(self._folder), Places(rng), ExampleMaker(Rows(), self._phones)
        ready: dict[Shape, list[Batch]] = {"short": [], "middle": [], "full": []}
        for number in itertools.count(1):
            if number % 200 == 0:
                pool.refresh()
            shape = self._mixture.draw(rng, self._progress.value)
            if not ready[shape]:
                examples = [self._example(rng, pool, places, maker, shape) for _ in range(_SORTED_TOGETHER[shape])]
                ready[shape] = [collate(rng, group, shape) for group in by_length(examples, _BATCH_FRAMES[shape])]
                rng.shuffle(ready[shape])
            yield ready[shape].pop()

    def _example(
        self, rng: np.random.Generator, pool: Pool, places: Places, maker: ExampleMaker, shape: Shape
    ) -> Example:
        if rng.random() < _SHARE_SILENT:
            example = maker.make(rng, silent_window(rng, places))
        else:
            language = "ko" if rng.random() < SHARE_KOREAN else "en"
            window = draw_window(rng, pool, language, shape)
            sounding = Window(places.sound(rng, window.samples), window.utterances, window.cut_off)
            prompted = rng.random() < _SHARE_PROMPTED
            prompt = tuple(next(pool.draw(rng, language)).text.split()) if prompted else ()
            example = maker.make(rng, sounding, prompt, may_begin_late=shape != "full")
        if rng.random() < _SHARE_MASKED:
            mask(rng, example.mels)
        return example


def draw_window(rng: np.random.Generator, pool: Pool, language: str, shape: Shape) -> Window:
    """Return a window of a shape: one utterance; some, up to 6 to 20 s; up to 30 s: one, some, or as many as fit."""
    speeches = pool.draw(rng, language)
    if shape == "short":
        return lay(rng, itertools.islice(speeches, 1), _SHORT)
    if shape == "middle":
        layout = Layout(_MIDDLE.lead_s, _MIDDLE.gap_s, _MIDDLE.trail_s, max_s=rng.uniform(6.0, 20.0))
        return lay(rng, itertools.islice(speeches, int(rng.integers(2, 8))), layout)
    draw = rng.random()
    if draw < 0.2:
        return lay(rng, itertools.islice(speeches, 1), _SHORT)
    if draw < 0.4:
        return lay(rng, itertools.islice(speeches, int(rng.integers(2, 6))), _MIDDLE)
    return lay(rng, itertools.islice(speeches, 20), _MIDDLE, cut_off=draw > 0.85)


def silent_window(rng: np.random.Generator, places: Places) -> Window:
    """Return silence or noise, in which nobody speaks."""
    num = int(rng.uniform(1.0, 6.0) * SAMPLE_RATE_HZ)
    if rng.random() < 0.3:
        return Window(np.zeros(num, np.float32), ())
    noise = rng.standard_normal(num).astype(np.float32) if rng.random() < 0.4 else places.noise(rng, num)
    return Window((noise * 10 ** (rng.uniform(-60, -12) / 20)).astype(np.float32), ())


def by_length(examples: list[Example], max_frames: int) -> list[list[Example]]:
    """Return groups of about the same length, each of at most that many frames when padded, or of one example."""
    groups: list[list[Example]] = [[]]
    for example in sorted(examples, key=lambda each: each.mels.shape[1]):
        if groups[-1] and example.mels.shape[1] * (len(groups[-1]) + 1) > max_frames:
            groups.append([])
        groups[-1].append(example)
    return groups


def collate(rng: np.random.Generator, examples: list[Example], shape: Shape) -> Batch:
    """Pad examples to a batch, each spectrogram with either of the two values that Whisper's users pad with."""
    frames = FULL_FRAMES if shape == "full" else max(example.mels.shape[1] for example in examples)
    length = max(example.inputs.size for example in examples)
    num = len(examples)
    mels = np.zeros((num, examples[0].mels.shape[0], frames), np.float32)
    inputs, targets = np.zeros((num, length), np.int64), np.full((num, length), IGNORED)
    looks = np.full((num, length, 2), -1)
    phones = tuple(np.full((num, frames // 2), IGNORED) for _ in PHONE_SETS)
    for index, example in enumerate(examples):
        end = example.mels.shape[1]
        mels[index, :, :end] = example.mels
        if rng.random() < _SHARE_FLOOR:
            mels[index, :, end:] = example.mels.max() - 2.0
        inputs[index, : example.inputs.size] = example.inputs
        targets[index, : example.targets.size] = example.targets
        looks[index, : example.looks.shape[0]] = example.looks
        for all_labels, labels in zip(phones, example.phones, strict=True):
            all_labels[index, : end // 2] = labels
            all_labels[index, end // 2 : end // 2 + _PAD_FRAMES_HEARD] = _SILENCE
    return Batch(
        torch.from_numpy(mels),
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        torch.from_numpy(looks),
        tuple(map(torch.from_numpy, phones)),
        torch.tensor([example.offset for example in examples]),
    )


def _frame(time_s: float) -> int:
    return min(round(time_s / FRAME_S), NUM_TIMESTAMPS - 1)
