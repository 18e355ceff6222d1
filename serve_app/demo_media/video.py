"""Speech and title cards as an mp4, by PyAV: no ffmpeg binary is needed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_SIZE_PX = (640, 360)
_FRAMES_PER_S = 5
# as cameras write it; at this rate the encoder keeps speech clean in few bits
_AAC_RATE_HZ, _AAC_BITS_PER_S = 48_000, 64_000
_BACKGROUNDS = ("#1d3557", "#6d2e46", "#2a5d4c", "#5b4a1f")


@dataclass(frozen=True, slots=True)
class Card:
    """A picture with a title and a line of text, shown until the next card starts."""

    start_s: float
    title: str
    text: str = ""
    color: int = 0


def write_video(path: Path, samples: NDArray[np.float32], rate_hz: int, cards: Sequence[Card]) -> Path:
    """Write or replace an mp4 (H.264 or MPEG-4, and AAC) and return its path.

    Args:
        samples: (n,) mono, full scale 1.
        cards: at least one, in order of start, the first at 0.
    """
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"  # every build of FFmpeg has MPEG-4
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        picture = cast(VideoStream, container.add_stream(codec, rate=_FRAMES_PER_S))
        picture.width, picture.height = _SIZE_PX
        picture.pix_fmt = "yuv420p"
        picture.codec_context.thread_count = 1  # the same bytes on every machine
        sound = cast(AudioStream, container.add_stream("aac", rate=_AAC_RATE_HZ, layout="mono"))
        sound.bit_rate = _AAC_BITS_PER_S
        for frame in _frames(cards, len(samples) / rate_hz):
            container.mux(picture.encode(frame))
        container.mux(picture.encode())
        for part in _sound(samples, rate_hz):
            container.mux(sound.encode(part))
        container.mux(sound.encode())
    return path


def _frames(cards: Sequence[Card], duration_s: float) -> Iterator[av.VideoFrame]:
    pictures = [np.asarray(_picture(card)) for card in cards]
    starts = [card.start_s for card in cards]
    for number in range(int(np.ceil(duration_s * _FRAMES_PER_S))):
        shown = max(bisect_right(starts, number / _FRAMES_PER_S) - 1, 0)
        frame = av.VideoFrame.from_ndarray(pictures[shown], format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, _FRAMES_PER_S)
        yield frame


def _picture(card: Card) -> Image.Image:
    image = Image.new("RGB", _SIZE_PX, _BACKGROUNDS[card.color % len(_BACKGROUNDS)])
    draw = ImageDraw.Draw(image)
    middle_px = _SIZE_PX[0] // 2
    font: Any = ImageFont.load_default(48)
    draw.text((middle_px, 140), card.title, fill="white", font=font, anchor="mm")
    draw.text((middle_px, 220), card.text, fill="#dddddd", font=ImageFont.load_default(20), anchor="mm")
    return image


def _sound(samples: NDArray[np.float32], rate_hz: int) -> Iterator[av.AudioFrame]:
    whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None, :], np.float32), format="fltp", layout="mono")
    whole.sample_rate, whole.pts = rate_hz, 0
    resampler = av.AudioResampler("fltp", "mono", _AAC_RATE_HZ)
    yield from resampler.resample(whole)
    yield from resampler.resample(None)
