"""What is learnt from a window: its spectrogram, token rows and what each should look at, sounds frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from whisper.audio import log_mel_spectrogram

from training.whisper_micro.corpus import Pool
from training.whisper_micro.grammar import LANGUAGES
from training.whisper_micro.rows import FRAME_S, Rows, frame
from training.whisper_micro.windows import WINDOW_S, Window

IGNORED = -100
PHONE_SETS = ("espeak", "cmu")
NUM_PHONES = (128, 48)  # at most; the first is silence
SILENCE = 0
FULL_FRAMES = 3000

_SHARE_TIMED = 0.5
_SHARE_LATE = 0.6
_LOOK_BACK, _LOOK_AHEAD = 2, 4  # frames that a word's interval is widened by


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


class ExampleMaker:
    """Makes examples of windows, with numbers for the sounds as `learn_phones` gives them."""

    def __init__(self, rows: Rows, phones: dict[str, dict[str, int]]) -> None:
        self.rows = rows
        self.phones = phones

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
                look = (frame(word.start_s) - _LOOK_BACK, frame(word.end_s) + _LOOK_AHEAD)
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
        at = frame(time_s)
        return self.rows.stamp(time_s + offset * FRAME_S), (at - _LOOK_AHEAD, at + _LOOK_AHEAD)

    def _sounds(self, window: Window, num_frames: int) -> tuple[np.ndarray, ...]:
        labels = {name: np.full(num_frames, IGNORED) for name in PHONE_SETS}
        for name in PHONE_SETS:  # silence is silence to both
            labels[name][:] = SILENCE
        for speech in window.utterances:
            start, end = frame(speech.phones[0].start_s), frame(speech.phones[-1].end_s)
            for name in PHONE_SETS:
                labels[name][start:end] = SILENCE if name == speech.phone_set else IGNORED
            numbers = self.phones[speech.phone_set]
            for phone in speech.phones:
                begin, finish = round(phone.start_s / FRAME_S), round(phone.end_s / FRAME_S)
                labels[speech.phone_set][begin:finish] = numbers.get(phone.name, IGNORED)
        return tuple(labels[name] for name in PHONE_SETS)


def learn_phones(pool: Pool) -> dict[str, dict[str, int]]:
    """Number the sounds of the utterances that are there; rarer ones that come later are left unlabelled."""
    met: dict[str, set[str]] = {name: set() for name in PHONE_SETS}
    for speech in pool.speeches():
        met[speech.phone_set].update(phone.name for phone in speech.phones)
    return {
        name: {phone: 1 + index for index, phone in enumerate(sorted(met[name])[: most - 1])}
        for name, most in zip(PHONE_SETS, NUM_PHONES, strict=True)
    }
