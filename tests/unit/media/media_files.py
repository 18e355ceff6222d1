"""Real media files, made on the spot."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def tone(duration_s: float, rate_hz: int = 16_000, hz: float = 440.0, amplitude: float = 0.5) -> np.ndarray:
    """Return (n,) float32."""
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(int(duration_s * rate_hz)) / rate_hz)).astype(np.float32)


def write_media(
    path: Path,
    channels: np.ndarray,
    rate_hz: int,
    *,
    codec: str,
    layout: str = "mono",
    audio_start_s: float = 0.0,
    video_s: float = 0.0,
    options: dict[str, str] | None = None,
    gap_at_s: float | None = None,
    gap_s: float = 0.0,
) -> Path:
    """Encode (channels, n) float32 into a container chosen by the file's suffix; `video_s` adds a video track."""
    with av.open(str(path), "w", options=options or {}) as container:
        audio = container.add_stream(codec, rate=rate_hz, layout=layout)
        video = None
        if video_s:
            video = container.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
            for index in range(int(video_s * 10)):
                picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), index % 255, np.uint8), format="rgb24")
                picture.pts, picture.time_base = index, Fraction(1, 10)
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        wanted = audio.codec_context.format.name
        resampler = av.AudioResampler(format=wanted, layout=layout, rate=rate_hz)
        step = audio.codec_context.frame_size or 1024
        time_base = Fraction(1, rate_hz)
        for start in range(0, channels.shape[1], step):
            block = np.ascontiguousarray(channels[:, start : start + step].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
            frame.sample_rate = rate_hz
            shift_s = audio_start_s + (gap_s if gap_at_s is not None and start >= gap_at_s * rate_hz else 0.0)
            for converted in resampler.resample(frame):
                converted.pts, converted.time_base = start + round(shift_s * rate_hz), time_base
                container.mux(audio.encode(converted))
        container.mux(audio.encode(None))
    return path


def write_video_only(path: Path) -> Path:
    """Encode a second of pictures."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
        for _ in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
    return path
