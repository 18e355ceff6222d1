"""Real media files, made on the spot."""

from __future__ import annotations

import struct
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


def wav(
    samples: np.ndarray,
    rate_hz: int = 16_000,
    *,
    size: int | None = None,
    riff_size: int | None = None,
    tag: int = 1,
    bits: int = 16,
    container_bits: int | None = None,
    order: str = "<",
    extensible: bool = False,
    mask: int = 0,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """Return a WAV file written by hand: samples (n,) or (n, channels) within ±1, chunks around them, any sizes.

    Integers of fewer bits than their container stand in its high bits; `extensible` writes WAVE_FORMAT_EXTENSIBLE.
    """
    num_channels = 1 if samples.ndim == 1 else samples.shape[1]
    container = container_bits or -(-bits // 8) * 8
    data = _numbers(samples, tag, bits, container, order)
    block = num_channels * container // 8
    shown_bits = container if extensible else bits
    about = struct.pack(
        order + "HHIIHH", 0xFFFE if extensible else tag, num_channels, rate_hz, rate_hz * block, block, shown_bits
    )
    if extensible:
        guid = struct.pack(order + "IHH", tag, 0, 0x10) + bytes.fromhex("800000aa00389b71")
        about += struct.pack(order + "HHI", 22, bits, mask) + guid
    body = b"WAVE" + before + b"fmt " + struct.pack(order + "I", len(about)) + about
    body += b"data" + struct.pack(order + "I", len(data) if size is None else size) + data + after
    kind = b"RIFF" if order == "<" else b"RIFX"
    return kind + struct.pack(order + "I", len(body) if riff_size is None else riff_size) + body


def _numbers(samples: np.ndarray, tag: int, bits: int, container: int, order: str) -> bytes:
    if tag == 3:
        return samples.astype(f"{order}f{bits // 8}").tobytes()
    whole = np.round(samples * (2 ** (bits - 1) - 1)).astype(np.int64) << (container - bits)
    if container == 8:
        return (whole + 128).astype(np.uint8).tobytes()
    parts = [(whole >> (8 * place) & 255).astype(np.uint8) for place in range(container // 8)]
    return np.stack(parts if order == "<" else parts[::-1], axis=-1).tobytes()


def id3_tag(num_bytes: int = 300) -> bytes:
    """Return an ID3v2.4 tag with padding alone."""
    return b"ID3\x04\0\0" + bytes([0, 0, num_bytes >> 7, num_bytes & 0x7F]) + b"\0" * num_bytes


def write_tracks(path: Path, *sounds: np.ndarray, default: int | None = None, **metadata: str) -> Path:
    """Write a container of several audio tracks: (n,) float32 at 16 kHz each; `metadata` of each, by its language."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in sounds]
        for stream, (language, title) in zip(streams, metadata.items(), strict=False):
            stream.metadata.update(language=language, title=title)
        for number, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
        for start in range(0, max(map(len, sounds)), 16_000):
            for stream, sound in zip(streams, sounds, strict=True):
                if len(block := sound[start : start + 16_000]):
                    frame = av.AudioFrame.from_ndarray((block * 32767).astype(np.int16)[None], layout="mono")
                    frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
                    container.mux(stream.encode(frame))
    return path
