"""Sound as files and back, by PyAV: FLAC to keep, MP3 to play, and whatever an engine answers with."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from serve_app.errors import ProcessingError
from serve_app.media.container import AUDIO_ONLY
from serve_app.models.music.levels import as_columns
from serve_app.results import EncodedMusic
from serve_app.sentences import Sentence

MAX_BYTES = 96 << 20  # two minutes of 32-bit stereo at 96 kHz
MAX_S = 180.0
_MP3_BITS_PER_S = 160_000

_TITLE = "Music"
_RATES_HZ = range(8_000, 192_001)
_HIGHEST_RATE_HZ = 48_000
_MP3_RATES_HZ = (32_000, 44_100, 48_000)
_FULL_SCALE = 1 << 23
_BLOCK = 1 << 14
_HEADS = {b"fLaC": "flac", b"RIFF": "wav", b"OggS": "ogg", b"ID3": "mp3"}


def to_flac(audio: NDArray[np.float32], rate: int) -> bytes:
    """Return FLAC of 24 bits, the same bytes for the same sound; louder than full scale, it is scaled down to that.

    Args:
        audio: (n,) or (n, channels), one or two channels.

    Raises:
        ProcessingError: the sound is empty or not numbers.
    """
    columns = as_columns(audio)
    if not columns.size or not np.isfinite(columns).all():
        raise ProcessingError(Sentence("The engine's sound is empty or not numbers, so that it can't be kept"))
    loudest = max(1.0, float(columns.max()), -float(columns.min()))
    return _encoded(columns, rate, "flac", "flac", scale=(_FULL_SCALE - 1) / loudest)


def to_mp3(audio: NDArray[np.float32], rate: int) -> bytes:
    """Return MP3 of a constant 160 kbit/s, which browsers seek in exactly; the same bytes for the same sound.

    Args:
        audio: as of `to_flac`, finite.
        rate: 32, 44.1 or 48 kHz stay; others become 48 kHz.
    """
    columns = as_columns(audio)
    return _encoded(columns, rate, "mp3", "libmp3lame", bit_rate=_MP3_BITS_PER_S)


def from_audio(content: bytes) -> tuple[NDArray[np.float32], int]:
    """Return the sound of a FLAC, WAV, MP3 or Ogg file, by its content: (n, 1 or 2) float32, and samples a second.

    More than two channels are mixed to two, and sound above 48 kHz is resampled to that. The decodable part of a
    damaged file is returned.

    Raises:
        ProcessingError: it is no such file, holds no sound, is longer than three minutes or larger than 96 MiB.
    """
    if len(content) > MAX_BYTES:
        raise ProcessingError(
            Sentence(
                "The engine's file has {num} MiB; at most {most} MiB are read",
                num=len(content) >> 20,
                most=MAX_BYTES >> 20,
            )
        )
    kind = _kind(content)
    try:
        with av.open(io.BytesIO(content), format=kind, options=dict(AUDIO_ONLY)) as container:
            return _decoded(container)
    except (av.FFmpegError, ValueError) as error:
        raise ProcessingError(
            Sentence("The engine's {kind} file can't be decoded ({reason})", kind=kind, reason=type(error).__name__)
        ) from error


def encode(flac: bytes) -> EncodedMusic:
    """Return a mastered piece as files; ProcessingError where it can't be decoded."""
    return EncodedMusic(mp3=to_mp3(*from_audio(flac)), flac=flac)


def _kind(content: bytes) -> str:
    for head, kind in _HEADS.items():
        if content.startswith(head):
            return kind
    if len(content) > 2 and content[0] == 0xFF and content[1] & 0xE6 == 0xE2:  # MPEG audio, layer III
        return "mp3"
    raise ProcessingError(Sentence("The engine's answer is no FLAC, WAV, MP3 or Ogg file"))


def _decoded(container: Any) -> tuple[NDArray[np.float32], int]:
    if not container.streams.audio:
        raise ProcessingError(Sentence("The engine's file holds no sound"))
    track = container.streams.audio[0]
    if track.rate not in _RATES_HZ:
        raise ProcessingError(
            Sentence("The engine's sound has {rate} samples a second, which no engine makes", rate=track.rate)
        )
    rate = min(track.rate, _HIGHEST_RATE_HZ)
    layout = "mono" if track.channels == 1 else "stereo"
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    # of the longest sound: a list of blocks would take twice the memory when they are joined
    audio = np.empty((int(MAX_S * rate), 1 if layout == "mono" else 2), dtype=np.float32)
    length = 0
    for frame in chain(_frames(container), [None]):
        for part in resampler.resample(frame):
            end = length + part.samples
            if end > len(audio):
                raise ProcessingError(Sentence("The engine's sound is longer than {max_s:.0f} s", max_s=MAX_S))
            audio[length:end] = np.nan_to_num(part.to_ndarray().T)
            length = end
    if not length:
        raise ProcessingError(Sentence("The engine's file holds no sound that can be decoded"))
    return audio[:length], rate


def _frames(container: Any) -> Iterator[AudioFrame]:
    decoded = container.decode(audio=0)
    while True:
        try:
            yield next(decoded)
        except (StopIteration, av.InvalidDataError):
            return


def _encoded(
    columns: NDArray[np.float32],
    rate: int,
    container_format: str,
    codec: str,
    *,
    scale: float | None = None,
    bit_rate: int | None = None,
) -> bytes:
    """Return (n, channels) samples as a file without metadata but a title.

    Args:
        scale: of whole numbers of 24 bits; None: the codec takes floats.
    """
    layout = "mono" if columns.shape[1] == 1 else "stereo"
    output = io.BytesIO()
    # bitexact: no version of the library in the file
    with av.open(output, "w", format=container_format, options={"fflags": "+bitexact"}) as container:
        container.metadata["title"] = _TITLE
        coded_rate = 48_000 if codec == "libmp3lame" and rate not in _MP3_RATES_HZ else rate
        stream: Any = container.add_stream(codec, rate=coded_rate, options={"flags": "+bitexact"})
        stream.layout = layout
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        if scale is not None:
            stream.format = "s32"
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=coded_rate)
        for start in range(0, len(columns), _BLOCK):
            block: NDArray[Any] = np.ascontiguousarray(columns[start : start + _BLOCK])
            if scale is not None:
                block = np.rint(block * scale).astype(np.int32) << 8  # FFmpeg's FLAC takes the upper 24 bits
            given = "flt" if scale is None else "s32"
            frame = AudioFrame.from_ndarray(block.reshape(1, -1), format=given, layout=layout)
            frame.sample_rate, frame.pts = rate, start
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
        for part in resampler.resample(None):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return output.getvalue()
