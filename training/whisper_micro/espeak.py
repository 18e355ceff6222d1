"""espeak-ng through its library, which tells when each word and sound begins (`speak_lib.h`)."""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from training.whisper_micro.speech import MissingSynthesizerError, Raw, Span
from training.whisper_micro.voices import Voice

_SYNCHRONOUS, _PHONEME_EVENTS = 2, 1
_RATE, _PITCH = 1, 3
_UTF8 = 1
_LIST_END, _WORD, _PHONEME = 0, 1, 7


class _Event(ctypes.Structure):
    """espeak_EVENT; `name` is a union that holds a phoneme's name."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(slots=True)
class _Heard:
    """What the callback has collected of one text: samples, words (character, sample), phonemes (name, sample)."""

    samples: list[np.ndarray] = field(default_factory=list)
    words: list[tuple[int, int]] = field(default_factory=list)
    phonemes: list[tuple[str, int]] = field(default_factory=list)


class _Library:
    """The library, which has one voice and one callback for the whole process."""

    def __init__(self) -> None:
        try:
            self._espeak = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise MissingSynthesizerError("espeak-ng") from error
        self._rate_hz = self._espeak.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
        self._heard = _Heard()
        self._callback = _Callback(self._collect)  # must outlive this call
        self._espeak.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: Voice) -> Raw:
        self._heard = heard = _Heard()
        if self._espeak.espeak_SetVoiceByName(voice.name.encode()):
            raise MissingSynthesizerError(f"espeak-ng's voice {voice.name}")
        self._espeak.espeak_SetParameter(_PITCH, voice.pitch, 0)
        self._espeak.espeak_SetParameter(_RATE, voice.rate_wpm, 0)
        data = text.encode()
        self._espeak.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
        phones = tuple(self._phones(heard))
        samples = np.concatenate(heard.samples).astype(np.float32) / 32_768
        return Raw(samples, self._rate_hz, _words(text, heard, phones, self._rate_hz), phones)

    def _collect(self, wave: ctypes._Pointer, num_samples: int, events: ctypes._Pointer) -> int:
        if num_samples > 0:
            self._heard.samples.append(np.ctypeslib.as_array(wave, (num_samples,)).copy())
        index = 0
        while (event := events[index]).type != _LIST_END:
            if event.type == _WORD:
                self._heard.words.append((event.text_position - 1, event.sample))
            elif event.type == _PHONEME:
                self._heard.phonemes.append((event.name.decode(), event.sample))
            index += 1
        return 0

    def _phones(self, heard: _Heard) -> list[Span]:
        bounds = [*heard.phonemes, ("_", sum(map(len, heard.samples)))]
        return [
            Span(name, start / self._rate_hz, end / self._rate_hz)
            for (name, start), (_, end) in itertools.pairwise(bounds)
            if not name.startswith("_") and end > start
        ]


@cache
def _library() -> _Library:
    return _Library()


def speak(text: str, voice: Voice) -> Raw:
    """Speak a text of one clause."""
    return _library().speak(text, voice)


def _words(text: str, heard: _Heard, phones: tuple[Span, ...], rate_hz: int) -> tuple[Span, ...]:
    """Return the words: each from its event, or its first sound, to its last sound's end.

    Where espeak reads several words as one ("of the") they share its time by their letters. The first word of Korean
    may have no event: it begins with the sound.
    """
    events = dict(heard.words)
    starts: list[tuple[int, float]] = []  # (index of word, seconds)
    names, position = text.split(), 0
    for index, name in enumerate(names):
        position = text.index(name, position)
        if index == 0:
            starts.append((0, phones[0].start_s))
        elif position in events:
            starts.append((index, events[position] / rate_hz))
        position += len(name)
    words: list[Span] = []
    ends = [*starts[1:], (len(names), phones[-1].end_s)]
    for (first, start_s), (after, limit_s) in zip(starts, ends, strict=True):
        sounds = [phone for phone in phones if start_s - 1e-6 <= phone.start_s < limit_s - 1e-6]
        begin_s, end_s = (sounds[0].start_s, sounds[-1].end_s) if sounds else (start_s, limit_s)
        group = names[first:after]
        bounds = begin_s + (end_s - begin_s) * np.cumsum([0, *map(len, group)]) / sum(map(len, group))
        words += [Span(name, float(bounds[at]), float(bounds[at + 1])) for at, name in enumerate(group)]
    return tuple(words)
