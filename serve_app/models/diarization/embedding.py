"""`SpeakerEmbedding`: our speaker embedding as a pyannote model; its features, its network and its safetensors file.

Features are log-mel energies and a pitchgram, 100 frames a second. The mel bands depend on the vocal tract and on the
channel. The pitchgram depends on the voice's pitch alone: the spectrum is whitened over frequency and correlated with
combs of cosines, an autocorrelation at chosen lags. It works on the telephone too, which cuts the fundamental away.

Two branches of the network are summed. A time-delay residual network reads the pitchgram and the mel bands less their
mean, which removes a fixed channel. A linear branch reads long-term statistics; it learns within minutes.

The file holds tensors, and the network's sizes as JSON in its header: loading it runs no code.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pyannote.audio.core.model import Model
from pyannote.audio.core.task import Problem, Resolution, Specifications
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import create_dct, melscale_fbanks

from serve_app.errors import ModelLoadingError
from serve_app.results import SAMPLE_RATE_HZ
from serve_app.sentences import Sentence

HOP_SAMPLES = 160
NUM_MELS = 64
NUM_LAGS = 40
NUM_FEATURES = NUM_MELS + NUM_LAGS

_MEL_FFT_SAMPLES = 512
_PITCH_FFT_SAMPLES = 1024
_MEL_WINDOW_SAMPLES = 400
_PITCH_WINDOW_SAMPLES = 800
_MEL_RANGE_HZ = (60.0, 7600.0)
_PITCH_RANGE_HZ = (65.0, 420.0)
_COMB_RANGE_HZ = (90.0, 3500.0)
# About 25 bins of 15.6 Hz: wider than the spacing of harmonics of any voice, narrower than a formant.
_WHITENING_BINS = 25


class SpeechFeatures(nn.Module):
    """Turns waveforms into frames of NUM_MELS natural-log mel energies and NUM_LAGS pitchgram values."""

    mel_filters: Tensor
    combs: Tensor
    mel_window: Tensor
    pitch_window: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Constants: they are no part of the trained state.
        self.register_buffer("mel_filters", _mel_filters(), persistent=False)
        self.register_buffer("combs", _combs(), persistent=False)
        self.register_buffer("mel_window", torch.hann_window(_MEL_WINDOW_SAMPLES), persistent=False)
        self.register_buffer("pitch_window", torch.hann_window(_PITCH_WINDOW_SAMPLES), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return features, (batch, samples // 160 + 1, NUM_FEATURES), of (batch, samples), 16 kHz, at least 513."""
        power = _power_of(waveforms, _MEL_FFT_SAMPLES, self.mel_window)  # (batch, bins, frames)
        mels = torch.log(torch.matmul(self.mel_filters, power) + 1e-10)
        first, last = _comb_bins()
        power = _power_of(waveforms, _PITCH_FFT_SAMPLES, self.pitch_window)[:, first:last]
        magnitude = power.clamp(min=1e-12).sqrt().sqrt()
        smooth = functional.avg_pool1d(
            magnitude.transpose(1, 2), _WHITENING_BINS, stride=1, padding=_WHITENING_BINS // 2, count_include_pad=False
        ).transpose(1, 2)
        pitchgram = torch.matmul(self.combs, magnitude / smooth - 1.0)
        return torch.cat([mels, pitchgram], dim=1).transpose(1, 2)


def _power_of(waveforms: Tensor, fft_samples: int, window: Tensor) -> Tensor:
    spectrum = torch.stft(
        waveforms, fft_samples, HOP_SAMPLES, window.numel(), window, pad_mode="reflect", return_complex=True
    )
    return spectrum.real.square() + spectrum.imag.square()


def _mel_filters() -> Tensor:
    """Return triangular filters of unit area on the HTK mel scale, (mels, bins)."""
    filters = melscale_fbanks(_MEL_FFT_SAMPLES // 2 + 1, *_MEL_RANGE_HZ, NUM_MELS, SAMPLE_RATE_HZ).T
    return filters / filters.sum(dim=1, keepdim=True).clamp(min=1e-6)


def _comb_bins() -> tuple[int, int]:
    bin_hz = SAMPLE_RATE_HZ / _PITCH_FFT_SAMPLES
    return round(_COMB_RANGE_HZ[0] / bin_hz), round(_COMB_RANGE_HZ[1] / bin_hz)


def _combs() -> Tensor:
    """Return cosines over frequency that peak at the harmonics of log-spaced fundamentals, (lags, bins)."""
    first, last = _comb_bins()
    bins_hz = torch.arange(first, last) * (SAMPLE_RATE_HZ / _PITCH_FFT_SAMPLES)
    low, high = _PITCH_RANGE_HZ
    pitches_hz = low * (high / low) ** torch.linspace(0.0, 1.0, NUM_LAGS)
    combs = torch.cos(2.0 * math.pi * bins_hz[None] / pitches_hz[:, None])
    return combs * (4.0 / (last - first))


_NUM_CEPSTRA = 24
# Mel bands below about 3.5 kHz: what the telephone passes. Long-term means are taken there only, so that narrow-band
# and wide-band speech of one voice agree.
NUM_NARROW_MELS = 42
# Energies more than 65 dB (in natural-log power) below the crop's loudest band are raised to that floor: the empty band
# above a telephone's 4 kHz becomes a constant, which mean subtraction then removes.
_DYNAMIC_RANGE_LOG = 65.0 / 10.0 * math.log(10.0)


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Sizes that a checkpoint states."""

    dimension: int = 128
    channels: int = 192
    pooled_channels: int = 384
    dilations: tuple[int, ...] = (1, 2, 3, 4)


class SpeakerNetwork(nn.Module):
    """Embeds weighted frames of features."""

    dct: Tensor

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        # over the narrow mel bands, (cepstra, bands), without the constant one, which is the gain
        dct = create_dct(_NUM_CEPSTRA + 1, NUM_NARROW_MELS, norm="ortho").T[1:].contiguous()
        self.register_buffer("dct", dct, persistent=False)
        self.stem = nn.Conv1d(NUM_FEATURES, shape.channels, 5, stride=2, padding=2)
        self.stem_norm = nn.BatchNorm1d(shape.channels)
        self.blocks = nn.ModuleList(_Block(shape.channels, dilation) for dilation in shape.dilations)
        self.expand = nn.Conv1d(shape.channels * (len(shape.dilations) + 1), shape.pooled_channels, 1)
        self.expand_norm = nn.BatchNorm1d(shape.pooled_channels)
        self.pooled_norm = nn.BatchNorm1d(2 * shape.pooled_channels)
        self.project = nn.Linear(2 * shape.pooled_channels, shape.dimension)
        num_statistics = 2 * _NUM_CEPSTRA + _NUM_CEPSTRA + 2 * NUM_LAGS
        self.statistics_norm = nn.BatchNorm1d(num_statistics)
        self.project_statistics = nn.Linear(num_statistics, shape.dimension)
        self.output_norm = nn.BatchNorm1d(shape.dimension, affine=False)

    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        """Return embeddings, (batch, dimension), not normalised.

        Args:
            features: (batch, frames, NUM_FEATURES) from `SpeechFeatures`; any gain.
            weights: (batch, frames) in [0, 1]: the speaker's share of each frame. A row of zeros gives a finite,
                meaningless vector.
        """
        mels, pitchgram = features[..., :NUM_MELS], features[..., NUM_MELS:]
        loudest = mels.amax(dim=(1, 2), keepdim=True)
        mels = torch.maximum(mels, loudest - _DYNAMIC_RANGE_LOG)
        mean, _ = weighted_statistics(mels, weights)
        centred = (mels - mean[:, None]) * 0.4
        x = torch.cat([centred, pitchgram], dim=2).transpose(1, 2)  # (batch, features, frames)
        x = functional.relu(self.stem_norm(self.stem(x)))
        layers = [x]
        for block in self.blocks:
            x = block(x)
            layers.append(x)
        x = functional.relu(self.expand_norm(self.expand(torch.cat(layers, dim=1))))
        halved = weights[:, ::2]  # the stem's stride
        pooled = torch.cat(weighted_statistics(x.transpose(1, 2).float(), halved), dim=1)
        deep = self.project(self.pooled_norm(pooled))
        statistics = self._statistics(mels, mean, pitchgram, weights)
        return self.output_norm(deep + self.project_statistics(self.statistics_norm(statistics)))

    def _statistics(self, mels: Tensor, mean: Tensor, pitchgram: Tensor, weights: Tensor) -> Tensor:
        """Return long-term statistics: mean narrow-band cepstra, spread of cepstra, level and spread of pitch."""
        narrow_mean = mean[:, :NUM_NARROW_MELS]
        narrow = mels[..., :NUM_NARROW_MELS]
        narrow = narrow - narrow.mean(dim=2, keepdim=True)
        cepstra = narrow @ self.dct.T  # (batch, frames, cepstra)
        deltas = cepstra[:, 2:] - cepstra[:, :-2]
        _, spread = weighted_statistics(cepstra, weights)
        _, delta_spread = weighted_statistics(deltas, weights[:, 1:-1])
        pitch_mean, pitch_spread = weighted_statistics(pitchgram, weights)
        mean_cepstra = (narrow_mean - narrow_mean.mean(dim=1, keepdim=True)) @ self.dct.T
        return torch.cat([mean_cepstra, spread, delta_spread, pitch_mean, pitch_spread], dim=1)


class _Block(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.spread = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.spread_norm = nn.BatchNorm1d(channels)
        self.mix = nn.Conv1d(channels, channels, 1)
        self.mix_norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.spread_norm(self.spread(x)))
        return functional.relu(x + self.mix_norm(self.mix(y)))


def weighted_statistics(frames: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted mean and standard deviation over time of (batch, frames, channels), finite for zero weights."""
    share = (weights / (weights.sum(dim=1, keepdim=True) + 1e-6))[..., None]
    mean = (frames * share).sum(dim=1)
    variance = ((frames - mean[:, None]).square() * share).sum(dim=1)
    # The gradient of a square root is infinite at zero.
    return mean, torch.sqrt(variance + 1e-5)


WEIGHTS_PATH = Path(__file__).parent / "weights" / "speaker_embedding.safetensors"

# Below a tenth of a second there is hardly a syllable; pyannote finds this bound by trying shorter and shorter input.
_MIN_SAMPLES = 1600


class EmbeddingModel(Model):
    """A pyannote model that maps (batch, 1, samples), 16 kHz, to vectors whose cosine compares voices."""

    dimension: int

    def __init__(self, dimension: int) -> None:
        super().__init__(sample_rate=SAMPLE_RATE_HZ, num_channels=1, task=None)
        self.dimension = dimension
        self.specifications = Specifications(
            problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0, min_duration=0.5
        )


class SpeakerEmbedding(EmbeddingModel):
    """Our embedding. It weighs the frames of a chunk by the speaker's mask."""

    def __init__(self, shape: NetworkShape = NetworkShape()) -> None:
        super().__init__(shape.dimension)
        self.speech_features = SpeechFeatures()
        self.network = SpeakerNetwork(shape)

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return embeddings, (batch, dimension), not normalised.

        Args:
            waveforms: (batch, 1, samples), 16 kHz.
            weights: (batch, frames) in [0, 1] at any frame rate: the speaker's share of each frame; None: 1. A row of
                zeros gives a finite, meaningless vector.

        Raises:
            ValueError: fewer than 1600 samples.
        """
        if waveforms.shape[-1] < _MIN_SAMPLES:
            raise ValueError(f"an embedding needs at least {_MIN_SAMPLES} samples, got {waveforms.shape[-1]}")
        samples = waveforms[:, 0]
        # pyannote repeats a chunk once for each of its speakers: features are computed once for each distinct chunk.
        distinct, index = distinct_rows(samples)
        features = self.speech_features(samples[distinct])[index]
        num_rows, num_frames, _ = features.shape
        if weights is None:
            return self.network(features, features.new_ones(num_rows, num_frames))
        shares = functional.interpolate(weights[:, None].to(features.dtype), size=num_frames, mode="nearest")[:, 0]
        return self.network(features, shares)


def load_embedding(path: Path = WEIGHTS_PATH) -> SpeakerEmbedding:
    """Return the model stored at `path`, in evaluation mode on the CPU.

    Raises:
        ModelLoadingError: the file is missing, broken, or of another architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {})["network"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        shape = NetworkShape(**{**described, "dilations": tuple(described["dilations"])})
        model = SpeakerEmbedding(shape)
        model.network.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelLoadingError(
            Sentence(
                "The speaker embedding at {path} can't be loaded ({kind}: {reason}). Reinstall serve_app, or "
                "make the file with `python -m training.speaker_embedding`.",
                path=path,
                kind=type(error).__name__,
                reason=str(error),
            )
        ) from error
    return model.eval()


def save_embedding(network: SpeakerNetwork, path: Path) -> None:
    """Write a network's state, with its sizes in the file's header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, path, metadata={"network": json.dumps(asdict(network.shape))})


def distinct_rows(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of the rows that differ from the row before, and for each row which of these it equals."""
    is_new = torch.ones(len(samples), dtype=torch.bool, device=samples.device)
    is_new[1:] = (samples[1:] != samples[:-1]).any(dim=1)
    return is_new.nonzero()[:, 0], torch.cumsum(is_new, dim=0) - 1


def fingerprint(path: Path) -> str:
    """Return the first eight hexadecimal digits of the file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]
