"""Batches for the training: which windows, how they sound, and how they are put side by side."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from training.whisper_micro.augment import Places, mask
from training.whisper_micro.corpus import SHARE_KOREAN, Pool
from training.whisper_micro.examples import FULL_FRAMES, IGNORED, PHONE_SETS, SILENCE, Example, ExampleMaker
from training.whisper_micro.rows import Rows
from training.whisper_micro.speech import SAMPLE_RATE_HZ
from training.whisper_micro.windows import Layout, Window, lay

Shape = Literal["short", "middle", "full"]

_SHARE_SILENT, _SHARE_PROMPTED = 0.03, 0.08
_SHARE_MASKED = 0.3
_SHARE_FLOOR = 0.4  # of pads with the spectrogram's floor (transformers); the others are zero (openai, faster-whisper)
_PAD_FRAMES_HEARD = 25  # encoder frames after the end whose sound is learnt (silence); the rest teaches nothing more
_BATCH_FRAMES = {"short": 7000, "middle": 6000, "full": 2 * FULL_FRAMES}  # pads included
_SORTED_TOGETHER = {"short": 100, "middle": 24, "full": 2}  # examples that are put into batches by their length
_MIDDLE = Layout(lead_s=(0.0, 1.0), gap_s=(0.1, 1.5), trail_s=(0.0, 1.0))
_SHORT = Layout()


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
            all_labels[index, end // 2 : end // 2 + _PAD_FRAMES_HEARD] = SILENCE
    return Batch(
        torch.from_numpy(mels),
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        torch.from_numpy(looks),
        tuple(map(torch.from_numpy, phones)),
        torch.tensor([example.offset for example in examples]),
    )
