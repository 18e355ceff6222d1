"""flite through its library and festival through its command line, with the times of words and sounds."""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
import wave
from functools import cache
from pathlib import Path

import numpy as np

from training.demo_video.synthesis import Synthesizer
from training.whisper_micro.speech import MissingSynthesizerError, Raw, Span
from training.whisper_micro.voices import Voice

_PAUSE = "pau"


class _Flite(Synthesizer):
    """The demo video's synthesiser, with the sounds and the stretch as well."""

    def __init__(self) -> None:
        try:
            super().__init__()
        except OSError as error:
            raise MissingSynthesizerError("flite") from error
        self._flite.flite_feat_set_float.restype = None
        self._flite.flite_feat_set_float.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]

    def raw(self, text: str, voice: Voice) -> Raw:
        pointer = self._voice(voice.name)
        # struct cst_voice: its name, then its features
        features = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_void_p))[1]
        self._flite.flite_feat_set_float(features, b"duration_stretch", voice.stretch)
        utterance = self._flite.flite_synth_text(text.encode(), pointer)
        try:
            sound = self._flite.utt_wave(utterance).contents
            samples = np.ctypeslib.as_array(sound.samples, (sound.num_samples,)).astype(np.float32) / 32_768
            words = tuple(Span(word.word, word.start_s, word.end_s) for word in self._words(utterance))
            return Raw(samples, sound.sample_rate, words, self._phones(utterance))
        finally:
            self._flite.delete_utterance(utterance)

    def _voice(self, name: str) -> int:
        if name == "kal" and name not in self._voices:  # 8 kHz; the only one that is named otherwise
            library = ctypes.CDLL("libflite_cmu_us_kal.so.1", mode=ctypes.RTLD_GLOBAL)
            library.register_cmu_us_kal.restype = ctypes.c_void_p
            library.register_cmu_us_kal.argtypes = [ctypes.c_char_p]
            self._voices[name] = library.register_cmu_us_kal(None)
        return super()._voice(name)

    def _phones(self, utterance: int) -> tuple[Span, ...]:
        flite, phones, start_s = self._flite, [], 0.0
        item = flite.relation_head(flite.utt_relation(utterance, b"Segment"))
        while item:
            name, end_s = flite.flite_ffeature_string(item, b"name").decode(), flite.flite_ffeature_float(item, b"end")
            if name != _PAUSE:
                phones.append(Span(name, start_s, end_s))
            start_s = end_s
            item = flite.item_next(item)
        return tuple(phones)


@cache
def _flite() -> _Flite:
    return _Flite()


def speak_flite(text: str, voice: Voice) -> Raw:
    """Speak a text with flite."""
    return _flite().raw(text, voice)


_SCHEME = """
(define (tell utt number)
  (utt.save.wave utt (format nil "{folder}/%d.wav" number) 'riff)
  (let ((out (fopen (format nil "{folder}/%d.txt" number) "w")))
    (mapcar (lambda (s) (format out "phone\\t%s\\t%f\\t%f\\n" (item.name s)
        (item.feat s 'segment_start) (item.feat s 'segment_end))) (utt.relation.items utt 'Segment))
    (mapcar (lambda (w) (format out "word\\t%s\\t%f\\t%f\\n" (item.name w)
        (item.feat w 'word_start) (item.feat w 'word_end))) (utt.relation.items utt 'Word))
    (fclose out)))
"""


def speak_festival(text: str, voice: Voice) -> Raw:
    """Speak a text with festival; a process each, so rather `speak_festival_all`."""
    return speak_festival_all([(text, voice)])[0]


def speak_festival_all(requests: list[tuple[str, Voice]]) -> list[Raw]:
    """Speak many texts in one run of festival.

    Raises:
        MissingSynthesizerError: if festival is not installed.
        ValueError: if a text is not made of plain lower-case words.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [_SCHEME.replace("{folder}", str(folder))]
        for number, (text, voice) in enumerate(requests):
            if not re.fullmatch(r"[a-z ]+", text):
                raise ValueError(f"festival is given plain lower-case words only, not {text!r}")
            lines.append(f"(voice_{voice.name}) (Parameter.set 'Duration_Stretch {voice.stretch:.2f})")
            lines.append(f'(tell (SynthText "{text}") {number})')
        script = folder / "script.scm"
        # SynthText would play the sound; utt.synth does not
        script.write_text("\n".join(lines).replace("(SynthText ", "(utt.synth (Utterance Text ").replace('") ', '")) '))
        try:
            subprocess.run(["festival", "-b", script], check=True, capture_output=True)
        except FileNotFoundError as error:
            raise MissingSynthesizerError("festival") from error
        return [_read(folder / f"{number}.wav", folder / f"{number}.txt") for number in range(len(requests))]


def _read(sound: Path, times: Path) -> Raw:
    with wave.open(str(sound)) as file:
        rate_hz = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32_768
    spans: dict[str, list[Span]] = {"word": [], "phone": []}
    for line in times.read_text().splitlines():
        kind, name, start, end = line.split("\t")
        if name != _PAUSE:
            spans[kind].append(Span(name, float(start), float(end)))
    return Raw(samples, rate_hz, tuple(spans["word"]), tuple(spans["phone"]))
