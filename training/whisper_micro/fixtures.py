"""The few held-out utterances that the project's own tests use, so that they need no synthesiser."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np

from training.whisper_micro.grammar import LANGUAGES, Language
from training.whisper_micro.synthesis import SAMPLE_RATE_HZ
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
            described.append(
                {
                    "file": name,
                    "language": language,
                    "voice": utterance.voices[0],
                    "text": utterance.text,
                    "words": [[word.name, round(word.start_s, 3), round(word.end_s, 3)] for word in utterance.words],
                }
            )
    content = {"made_by": COMMAND, "utterances": described}
    (folder / "utterances.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def write_flac(path: Path, samples: np.ndarray) -> None:
    """Write 16-bit mono samples at 16 kHz."""
    integers = np.round(samples.clip(-1, 1) * 32_767).astype(np.int16)
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(integers[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
