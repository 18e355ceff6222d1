"""`log_mel_pieces`: the log-mel bands that other makers' drum networks read, as librosa computes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import av
import librosa
import numpy as np

from serve_app.models.drums.activations import Piece, cut_bands
from serve_app.models.drums.audio_file import Recording
from serve_app.models.drums.bands import SAMPLE_RATE_HZ
from serve_app.models.drums.foreign_network import FLATTEN, TIME_FIRST
from serve_app.results import Drum

DB, LN, LN1, LOG10, NONE = "db", "log", "log1p", "log10", "none"
LOUDEST = "max"
# A piece, with what is around it on either side.
_PIECE_S, _CONTEXT_S = 36.0, 3.0
_BLOCK_S = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The spectrogram of a network, librosa's names and defaults where it has them, and what shapes can't say.

    Attributes:
        sample_rate: of the sound, mono.
        n_fft, hop_length, win_length: of the spectrogram, in samples; frames are centred. win_length: n_fft.
        n_mels, fmin, fmax, htk, norm: of the mel filters; n_mels: as the network has; fmax: half the sample rate.
        power: 2 for power, 1 for magnitudes.
        log: `db` (librosa.power_to_db or amplitude_to_db), `log`, `log10` (of the bands plus `eps`), `log1p`, `none`.
        ref: of `db`: a number, or `max` for the loudest band of the recording.
        top_db: of `db`: bands further below the loudest are raised to that; None for none.
        eps: added before `log` and `log10`; the least value of `db`.
        mean, std: what is taken off each band, and what it is divided by: a number, or one for each band.
        labels: of the outputs, in order.
        thresholds: by label.
        layout, pool, reduce, activation: as of `Wiring`.
    """

    sample_rate: int = 44_100
    n_fft: int = 2048
    hop_length: int = 441
    win_length: int | None = None
    n_mels: int | None = None
    fmin: float = 0.0
    fmax: float | None = None
    htk: bool = False
    norm: str | None = "slaney"
    power: float = 2.0
    log: str = DB
    ref: float | str = 1.0
    top_db: float | None = 80.0
    eps: float = 1e-10
    mean: Any = 0.0
    std: Any = 1.0
    labels: tuple[str, ...] = tuple(map(str, Drum))
    thresholds: Mapping[str, float] = field(default_factory=dict)
    layout: str = TIME_FIRST
    pool: tuple[int, ...] | None = None
    reduce: str = FLATTEN
    activation: str = "relu"

    @property
    def frames_per_s(self) -> float:
        """Frames of the spectrogram a second."""
        return self.sample_rate / self.hop_length


def log_mel_pieces(recording: Recording, settings: Settings) -> Iterator[Piece]:
    """Cut a recording's log-mel bands into overlapping pieces, as `cut_pieces` does; one of up to 36 s is whole."""
    loudest = max((float(mel.max()) for mel in _mel_blocks(recording.blocks, settings)), default=0.0)
    bands = (_scaled(mel, settings, loudest) for mel in _mel_blocks(recording.blocks, settings))
    frames_per_s = settings.frames_per_s
    yield from cut_bands(
        bands,
        piece_frames=round(_PIECE_S * frames_per_s),
        context_frames=round(_CONTEXT_S * frames_per_s),
    )


def _mel_blocks(blocks: Iterable[np.ndarray], settings: Settings) -> Iterator[np.ndarray]:
    """Yield mel bands, (frames, bands) float32, as librosa gives them for the whole sound."""
    window, hop = settings.n_fft, settings.hop_length
    held = np.zeros(window // 2, dtype=np.float32)
    least = int(_BLOCK_S * settings.sample_rate)

    def bands(samples: np.ndarray) -> np.ndarray:
        mel = librosa.feature.melspectrogram(
            y=samples,
            sr=settings.sample_rate,
            n_fft=window,
            hop_length=hop,
            win_length=settings.win_length,
            n_mels=settings.n_mels,
            fmin=settings.fmin,
            fmax=settings.fmax,
            htk=settings.htk,
            norm=settings.norm,
            power=settings.power,
            center=False,
        )
        return np.ascontiguousarray(mel.T, dtype=np.float32)

    for block in _resampled(blocks, settings.sample_rate):
        held = np.concatenate([held, block])
        if len(held) >= least + window:
            count = (len(held) - window) // hop
            yield bands(held[: (count - 1) * hop + window])
            held = held[count * hop :]
    held = np.concatenate([held, np.zeros(window // 2, dtype=np.float32)])
    if len(held) >= window:
        yield bands(held)


def _resampled(blocks: Iterable[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    if rate_hz == SAMPLE_RATE_HZ:
        yield from blocks
        return
    resampler = av.AudioResampler("fltp", "mono", rate_hz)
    for block in blocks:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[np.newaxis], dtype=np.float32), "fltp", "mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        yield from (part.to_ndarray()[0] for part in resampler.resample(frame))
    yield from (part.to_ndarray()[0] for part in resampler.resample(None))


def _scaled(mel: np.ndarray, settings: Settings, loudest: float) -> np.ndarray:
    if settings.log == DB:
        factor, least = 20.0 / settings.power, settings.eps
        ref = loudest if settings.ref == LOUDEST else float(settings.ref)
        ref_db = factor * math.log10(max(least, ref))
        bands = factor * np.log10(np.maximum(mel, least)) - ref_db
        if settings.top_db is not None:
            bands = np.maximum(bands, factor * math.log10(max(least, loudest)) - ref_db - settings.top_db)
    elif settings.log == LN1:
        bands = np.log1p(mel)
    elif settings.log == NONE:
        bands = mel
    else:
        bands = (np.log if settings.log == LN else np.log10)(mel + settings.eps)
    return ((bands - per_band(settings.mean)) / per_band(settings.std)).astype(np.float32)


def per_band(value: Any) -> np.ndarray:
    """Return `mean` or `std` of the settings as float32: () of a number, (bands,) of a list."""
    return np.asarray(value, dtype=np.float32)
