"""Media files made on the spot with PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np


class Clip(NamedTuple):
    """A recording: where the graph may read it, and where it is served."""

    path: Path
    url: str


def write_audio(path: Path, samples: np.ndarray, sample_rate_hz: int, codec: str, layout: str = "mono") -> Path:
    """Encode samples, shape (channels, n) float32, into the container that the path's ending names."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=sample_rate_hz, layout=layout)
        _encode_audio(container, stream, samples, sample_rate_hz, layout)
    return path


def write_silent_video(path: Path, seconds: float = 2.0) -> Path:
    """Write an mp4 that has a picture and no audio track."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(int(seconds * 5)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 9 % 255, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_audio(path: Path, sample_rate_hz: int = 16000) -> np.ndarray:
    """Decode a file to mono float32, shape (n,)."""
    resampler = av.AudioResampler("flt", "mono", sample_rate_hz)
    with av.open(str(path)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])


def _encode_audio(container, stream, samples: np.ndarray, sample_rate_hz: int, layout: str) -> None:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format="fltp", layout=layout)
    frame.sample_rate = sample_rate_hz
    frame.pts = 0
    resampler = av.AudioResampler(stream.format.name, layout, sample_rate_hz, frame_size=stream.frame_size or 1024)
    for out in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(out))
    container.mux(stream.encode())
