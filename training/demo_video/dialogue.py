"""A script of lines becomes sound with its truth: words, turns, speakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.demo_video.rooms import Room, pink_noise
from training.demo_video.synthesis import SAMPLE_RATE_HZ, SpokenWord, Synthesizer

LEAD_S = 0.6  # silence before the first line and after the last
_PEAK = 0.7


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody with a name, a flite voice and a room."""

    name: str
    voice: str
    room: Room


@dataclass(frozen=True, slots=True)
class Line:
    """What somebody says.

    Attributes:
        speaker: by name.
        text: words only, no digits or abbreviations.
        pause_s: between the end of the line before and this one's start; negative: they overlap.
    """

    speaker: str
    text: str
    pause_s: float


@dataclass(frozen=True, slots=True)
class SpokenLine:
    """A line in its place."""

    line: Line
    words: tuple[SpokenWord, ...]

    @property
    def start_s(self) -> float:
        """When the first word begins."""
        return self.words[0].start_s

    @property
    def end_s(self) -> float:
        """When the last word ends."""
        return self.words[-1].end_s


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The sound (16 kHz mono float32) and who says what when in it."""

    samples: np.ndarray
    lines: tuple[SpokenLine, ...]
    speakers: tuple[Speaker, ...]

    @property
    def duration_s(self) -> float:
        """Length of the sound."""
        return len(self.samples) / SAMPLE_RATE_HZ

    def truth(self) -> dict[str, Any]:
        """Return the truth as `serve_app.scoring` reads it; times in seconds, words in order of time."""
        words = sorted(((word, line.line.speaker) for line in self.lines for word in line.words), key=_start)
        return {
            "language": "en",
            "duration": round(self.duration_s, 3),
            "text": " ".join(line.line.text for line in self.lines),
            "words": [
                {
                    "word": word.word,
                    "start": round(word.start_s, 3),
                    "end": round(word.end_s, 3),
                    "speaker": speaker,
                }
                for word, speaker in words
            ],
            "turns": [
                {"start": round(line.start_s, 3), "end": round(line.end_s, 3), "speaker": line.line.speaker}
                for line in self.lines
            ],
            "speakers": {speaker.name: {"voice": f"flite cmu_us_{speaker.voice}"} for speaker in self.speakers},
        }


def perform(
    script: Sequence[Line], speakers: Sequence[Speaker], *, noise_db: float, seed: int, synthesizer: Synthesizer
) -> Dialogue:
    """Speak a script.

    Args:
        script: in order of start.
        speakers: everybody whom the script names.
        noise_db: level of the background under the loudest sample.
        seed: of the noise.
        synthesizer: the voices.
    """
    cast: Mapping[str, Speaker] = {speaker.name: speaker for speaker in speakers}
    placed: list[tuple[int, np.ndarray]] = []
    lines: list[SpokenLine] = []
    end_s = 0.0
    for line in script:
        speaker = cast[line.speaker]
        utterance = synthesizer.speak(line.text, speaker.voice)
        first = round(
            (max(end_s, LEAD_S) + (line.pause_s if lines else 0.0) - utterance.words[0].start_s) * SAMPLE_RATE_HZ
        )
        start_s = first / SAMPLE_RATE_HZ
        words = tuple(SpokenWord(word.word, word.start_s + start_s, word.end_s + start_s) for word in utterance.words)
        placed.append((first, speaker.room.sound(utterance.samples)))
        lines.append(SpokenLine(line, words))
        end_s = max(end_s, words[-1].end_s)
    samples = np.zeros(round((end_s + LEAD_S) * SAMPLE_RATE_HZ), dtype=np.float32)
    for first, sound in placed:
        fits = sound[: len(samples) - first]
        samples[first : first + len(fits)] += fits
    samples *= _PEAK / np.abs(samples).max()
    samples += pink_noise(len(samples), _PEAK * 10 ** (noise_db / 20), np.random.default_rng(seed))
    return Dialogue(samples, tuple(lines), tuple(speakers))


def _start(pair: tuple[SpokenWord, str]) -> float:
    return pair[0].start_s
