"""Lossy compression and back, in memory."""

from __future__ import annotations

import io

import av
import numpy as np

from training.drums.kits import SAMPLE_RATE_HZ

# container, encoder, bit rates a channel
_CODECS = (
    ("mp3", "libmp3lame", (32_000, 48_000, 64_000, 96_000)),
    ("adts", "aac", (32_000, 48_000, 64_000, 96_000)),
    ("ogg", "vorbis", (48_000, 64_000, 96_000)),
)
_LONGEST_DELAY = 4096


def lossy(rng: np.random.Generator, samples: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the samples as a random codec at a random bit rate leaves them, in time with the input, and its name."""
    container, encoder, bit_rates = _CODECS[rng.integers(len(_CODECS))]
    bit_rate = int(rng.choice(bit_rates))
    peak = max(float(np.abs(samples).max(initial=0.0)), 1e-6)
    decoded = _decode(_encode(samples / peak * 0.9, container, encoder, bit_rate), container)
    return in_time_with(samples, decoded) * np.float32(peak / 0.9), f"{encoder} {bit_rate // 1000}k"


def in_time_with(original: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Return the decoded samples without the delay of the encoder: moved to where they are most alike, same length."""
    size = min(len(original), len(decoded), 8 * SAMPLE_RATE_HZ)
    length = 2 * max(size, _LONGEST_DELAY)
    spectra = np.fft.rfft(decoded[:size], length) * np.conj(np.fft.rfft(original[:size], length))
    likeness = np.fft.irfft(spectra, length)
    delay = (
        int(np.argmax(np.concatenate([likeness[-_LONGEST_DELAY:], likeness[: _LONGEST_DELAY + 1]]))) - _LONGEST_DELAY
    )
    moved = decoded[delay:] if delay >= 0 else np.concatenate([np.zeros(-delay, np.float32), decoded])
    return np.pad(moved[: len(original)], (0, max(len(original) - len(moved), 0))).astype(np.float32)


def _encode(samples: np.ndarray, container: str, encoder: str, bit_rate: int) -> bytes:
    """Return the encoded file; stereo, since the bit rates are meant for it and Vorbis here knows nothing else."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(encoder, rate=SAMPLE_RATE_HZ, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = 2 * bit_rate
        if encoder == "vorbis":
            stream.codec_context.options = {"strict": "experimental"}
        frame_size = 1152 if encoder == "libmp3lame" else 1024
        padded = np.pad(samples, (0, -len(samples) % frame_size)).astype(np.float32)
        for start in range(0, len(padded), frame_size):
            block = np.ascontiguousarray(np.stack([padded[start : start + frame_size]] * 2))
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def _decode(data: bytes, container: str) -> np.ndarray:
    with av.open(io.BytesIO(data), "r", format="aac" if container == "adts" else container) as source:
        blocks = [frame.to_ndarray()[0] for frame in source.decode(audio=0)]
    return np.concatenate(blocks).astype(np.float32)
