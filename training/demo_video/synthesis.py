"""Speech with exact word times, by Debian's flite (`apt-get install flite`), through its C library.

The command line prints phones without their words; the library's utterance holds both, so that a word's start is the
end of the phone before its first one, and its end that of its last.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass

import numpy as np
import soxr

SAMPLE_RATE_HZ = 16_000
VOICES = ("rms", "slt", "awb", "kal16")  # American man, American woman, Scottish man, a diphone robot
_FULL_SCALE = 32768


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word of the text as it is written there, without punctuation, and when it is spoken."""

    word: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """One text, spoken: 16 kHz mono float32, from the first word's start to the last one's end, and a little more."""

    samples: np.ndarray
    words: tuple[SpokenWord, ...]


class _Wave(ctypes.Structure):
    """cst_wave of flite's cst_wave.h."""

    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class Synthesizer:
    """Speaks with flite's voices; loads each once.

    Raises:
        OSError: if flite's shared libraries are not installed.
    """

    def __init__(self) -> None:
        self._flite = _library("libflite.so.1")
        self._flite.flite_init()
        for name in ("cmulex", "usenglish"):
            _library(f"libflite_{name}.so.1")
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        for name, result, arguments in (
            ("flite_synth_text", pointer, [text, pointer]),
            ("utt_relation", pointer, [pointer, text]),
            ("relation_head", pointer, [pointer]),
            ("item_next", pointer, [pointer]),
            ("utt_wave", ctypes.POINTER(_Wave), [pointer]),
            ("flite_ffeature_string", text, [pointer, text]),
            ("flite_ffeature_float", ctypes.c_float, [pointer, text]),
            ("delete_utterance", None, [pointer]),
        ):
            function = getattr(self._flite, name)
            function.restype, function.argtypes = result, arguments
        self._voices: dict[str, int] = {}

    def speak(self, text: str, voice: str) -> Utterance:
        """Speak a text; ValueError if flite reads it in other words than are written (digits, abbreviations)."""
        utterance = self._flite.flite_synth_text(text.encode(), self._voice(voice))
        try:
            wave = self._flite.utt_wave(utterance).contents
            samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).astype(np.float32) / _FULL_SCALE
            samples = soxr.resample(samples, wave.sample_rate, SAMPLE_RATE_HZ)
            words = _as_written(text, self._words(utterance))
        finally:
            self._flite.delete_utterance(utterance)
        return _trimmed(samples, words)

    def _voice(self, name: str) -> int:
        if name not in self._voices:
            register = getattr(_library(f"libflite_cmu_us_{name}.so.1"), f"register_cmu_us_{name}")
            register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
            self._voices[name] = register(None)
        return self._voices[name]

    def _words(self, utterance: int) -> list[SpokenWord]:
        flite, words = self._flite, []
        item = flite.relation_head(flite.utt_relation(utterance, b"Word"))
        while item:
            words.append(
                SpokenWord(
                    flite.flite_ffeature_string(item, b"name").decode(),
                    flite.flite_ffeature_float(item, b"R:SylStructure.daughter1.daughter1.R:Segment.p.end"),
                    flite.flite_ffeature_float(item, b"R:SylStructure.daughtern.daughtern.R:Segment.end"),
                )
            )
            item = flite.item_next(item)
        return words


def _library(name: str) -> ctypes.CDLL:
    return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)  # the voices look their lexicon up among what is loaded


def _as_written(text: str, words: list[SpokenWord]) -> tuple[SpokenWord, ...]:
    """Join flite's words ("it", "'s") into those of the text ("it's"), by their letters."""
    written, left = [], list(words)
    for token in text.split():
        letters, parts = _letters(token), []
        while letters and left and letters.startswith(_letters(left[0].word)):
            parts.append(left.pop(0))
            letters = letters.removeprefix(_letters(parts[-1].word))
        if letters:
            raise ValueError(f"flite reads {token!r} of {text!r} as {[word.word for word in words]}")
        if parts:
            written.append(SpokenWord(token.strip('.,;:!?"()'), parts[0].start_s, parts[-1].end_s))
    return tuple(written)


def _letters(token: str) -> str:
    return re.sub(r"[^a-z]", "", token.lower())


def _trimmed(samples: np.ndarray, words: tuple[SpokenWord, ...], margin_s: float = 0.05) -> Utterance:
    """Cut away flite's silence before the first word and after the last, but for a margin in which sounds fade."""
    first = round(max(0.0, words[0].start_s - margin_s) * SAMPLE_RATE_HZ)
    last = round((words[-1].end_s + margin_s) * SAMPLE_RATE_HZ)
    start_s = first / SAMPLE_RATE_HZ
    moved = (SpokenWord(word.word, word.start_s - start_s, word.end_s - start_s) for word in words)
    return Utterance(samples[first:last], tuple(moved))
