"""The demonstration's videos: the dialogue that is shipped beside this file, and a real telephone call.

`dialogue.mp4` and its truth `dialogue.json` are made by `python -m training.demo_video`. The call is the sample that
pyannote.audio ships (MIT): real voices, known turns; it is wrapped into a video on the spot.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import av
import numpy as np

from serve_app.demo_media.video import Card, write_video
from serve_app.errors import ModelLoadingError


def make_call_video(path: Path) -> Path:
    """Write the telephone call as an mp4 (AAC and a still picture) and return its path.

    Raises:
        ModelLoadingError: if pyannote.audio is not installed or came without its sample.
    """
    with av.open(str(call_sample(".wav"))) as container:
        rate_hz = container.streams.audio[0].rate
        resampler = av.AudioResampler("flt", "mono", rate_hz)
        frames = [
            part.to_ndarray()[0] for frame in (*container.decode(audio=0), None) for part in resampler.resample(frame)
        ]
    card = Card(0.0, "A telephone call", "pyannote.audio.sample, two speakers")
    return write_video(path, np.concatenate(frames), rate_hz, [card])


def call_sample(suffix: str) -> Path:
    """Return a file of the call: ".wav", ".rttm" (who spoke when) or ".stm" (and what).

    pyannote.audio itself is not imported: that takes seconds and hundreds of megabytes.
    """
    spec = importlib.util.find_spec("pyannote.audio")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "sample" / f"sample{suffix}"
        if path.exists():
            return path
    raise ModelLoadingError(f"sample{suffix} of pyannote.audio is not there: install pyannote.audio 4")
