"""The picture of a loop shows where it went wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from loadtests.drum_loop_pictures import draw_loop
from loadtests.drum_speed import write_music
from loadtests.loop_scoring import LoopTruth
from serve_app.models.drums.activations import DrumActivations
from serve_app.models.drums.transcription import TranscribedDrums
from serve_app.results import Drum, DrumHit, DrumTranscript, TempoChange


def num_red(path: Path) -> int:
    red, green, blue = np.asarray(Image.open(path).convert("RGB"), dtype=int).transpose(2, 0, 1)
    return int(((red > 230) & (green < 60) & (blue < 60)).sum())


def test_mistakes_are_red_crosses(tmp_path: Path) -> None:
    loop = write_music(tmp_path / "loop.wav", 2.0)
    nothing = np.zeros((200, 3), dtype=np.float16)
    hits = (DrumHit(0.5, 0.5, Drum.SNARE, 100, 0.9),)
    transcript = DrumTranscript(hits, 120.0, (TempoChange(0.0, 120.0),), 2.0, "m")
    heard = TranscribedDrums(transcript, DrumActivations(nothing, nothing, ("kick", "snare", "hihat")))
    unsure = dict.fromkeys(Drum, (1.0,))
    right = LoopTruth({Drum.KICK: (), Drum.SNARE: (0.5,), Drum.HIHAT: ()}, unsure)
    wrong = LoopTruth({Drum.KICK: (), Drum.SNARE: (1.5,), Drum.HIHAT: ()}, unsure)
    for name, truth in (("right", right), ("wrong", wrong)):
        draw_loop(tmp_path / f"{name}.png", loop, heard, truth, 0.03, name)
    assert num_red(tmp_path / "right.png") == 0
    assert num_red(tmp_path / "wrong.png") > 20
    assert (tmp_path / "wrong.png").stat().st_size < 150_000
