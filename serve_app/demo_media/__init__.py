"""The demonstration's videos: a dialogue beside this file, and a telephone call.

`python -m training.demo_video` makes `dialogue.mp4` and its truth `dialogue.json`. The call is a sample of
pyannote.audio (MIT) with real voices and known turns; `make_call_video` turns it into a video.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import av
import numpy as np

from serve_app.demo_media.video import Card, write_video
from serve_app.errors import ModelLoadingError
from serve_app.sentences import Sentence


def make_call_video(path: Path) -> Path:
    """Write the telephone call as an mp4 (AAC and a still picture) and return its path."""
    with av.open(str(call_sample(".wav"))) as container:
        rate_hz = container.streams.audio[0].rate
        resampler = av.AudioResampler("flt", "mono", rate_hz)
        frames = [
            part.to_ndarray()[0] for frame in (*container.decode(audio=0), None) for part in resampler.resample(frame)
        ]
    card = Card(0.0, "A telephone call", "pyannote.audio.sample, two speakers")
    return write_video(path, np.concatenate(frames), rate_hz, [card])


def call_sample(suffix: str) -> Path:
    """Return a file of the call: ".wav", ".rttm" (the turns) or ".stm" (the turns and their words).

    pyannote.audio itself is not imported: that takes seconds and hundreds of megabytes.

    Raises:
        ModelLoadingError: pyannote.audio is not installed or has no sample.
    """
    spec = importlib.util.find_spec("pyannote.audio")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "sample" / f"sample{suffix}"
        if path.exists():
            return path
    raise ModelLoadingError(
        Sentence("{name} of pyannote.audio is not there: install pyannote.audio 4", name=f"sample{suffix}")
    )
