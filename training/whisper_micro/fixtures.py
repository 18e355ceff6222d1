"""The few held-out utterances that the project's own tests use, so that they need no synthesiser."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from training.whisper_micro.grammar import LANGUAGES, Language
from training.whisper_micro.speech import SAMPLE_RATE_HZ
from training.whisper_micro.utterances import held_out_utterances

SEED = 3
_NUM: dict[Language, int] = {"en": 12, "ko": 6}
COMMAND = "python -m training.whisper_micro fixtures"


def write(folder: Path) -> None:
    """Write 16 kHz FLAC files and `utterances.json`: file, language, text, words (text, start and end in seconds)."""
    folder.mkdir(parents=True, exist_ok=True)
    described = []
    for language in LANGUAGES:
        for number, utterance in enumerate(held_out_utterances(_NUM[language], language, SEED)):
            name = f"{language}-{number:02}.flac"
            write_flac(folder / name, utterance.samples)
            words = [[word.name, round(word.start_s, 3), round(word.end_s, 3)] for word in utterance.words]
            about = {"file": name, "language": language, "voice": utterance.voices[0], "text": utterance.text}
            described.append(json.dumps(about | {"words": words}, ensure_ascii=False))
    lines = ",\n".join(f"  {line}" for line in described)
    (folder / "utterances.json").write_text(f'{{\n "made_by": "{COMMAND}",\n "utterances": [\n{lines}\n ]\n}}\n')


def write_flac(path: Path, samples: np.ndarray) -> None:
    """Write mono samples at 16 kHz, 11 of the 16 bits used: FLAC does not store those that are zero."""
    integers = (np.round(samples.clip(-1, 1) * 1023) * 32).astype(np.int16)
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(integers[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, 0, Fraction(1, SAMPLE_RATE_HZ)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
