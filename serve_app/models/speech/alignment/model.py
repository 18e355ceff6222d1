"""`AlignModel`: a CTC model of letters, of the Hugging Face hub, a local folder, or torchaudio's own bundles.

Loaded here rather than by `whisperx.load_align_model`, which drops what the model's processor says (whether samples
are to be normalised), takes weights that are not there for random ones, and unpickles torchaudio's files freely.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio.pipelines
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer
from whisperx.alignment import DEFAULT_ALIGN_MODELS_HF, DEFAULT_ALIGN_MODELS_TORCH

from serve_app.errors import ModelLoadingError, ProcessingError
from serve_app.models.gpu_memory import gpu_errors, loading_errors
from serve_app.models.speech.alignment.ctc import Alphabet, alphabet_of
from serve_app.models.speech.pretrained import load_whole
from serve_app.models.weights import fetch_weights
from serve_app.results import SAMPLE_RATE_HZ

WHISPERX = "whisperx"
# Shorter ones are filled up with silence: convolutions need their receptive field, 25 ms in wav2vec 2.0 (Baevski et al.
# 2020, section 4.2).
_MIN_SAMPLES = SAMPLE_RATE_HZ // 10
# All of torchaudio's bundles have the convolutions of wav2vec 2.0.
_BUNDLE_STRIDE = 320


@dataclass(frozen=True)
class AlignModel:
    """A loaded CTC model.

    Attributes:
        alphabet: its symbols.
        stride_s: time from one frame of its answer to the next.
    """

    alphabet: Alphabet
    stride_s: float
    _network: Any
    _device: torch.device
    _normalises: bool

    def log_probabilities(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (frames, symbols): what is heard in each frame of (n,) samples at 16 kHz.

        Raises:
            GpuMemoryError: the device has no memory left.
            ProcessingError: the model failed, or its answer is not numbers.
        """
        waveform = np.nan_to_num(samples.astype(np.float32, copy=False), nan=0.0, posinf=1.0, neginf=-1.0)
        if self._normalises:  # as transformers' Wav2Vec2FeatureExtractor does
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
        if len(waveform) < _MIN_SAMPLES:
            waveform = np.pad(waveform, (0, _MIN_SAMPLES - len(waveform)))
        with gpu_errors("aligning words"), torch.inference_mode():
            answer = self._network(torch.from_numpy(waveform)[None].to(self._device))  # (1, samples)
            scores = answer[0] if isinstance(answer, tuple) else answer.logits  # (1, frames, symbols)
            found: NDArray[np.float32] = torch.log_softmax(scores[0].float(), dim=-1).cpu().numpy()
        if not np.isfinite(found).all():
            raise ProcessingError("the align model's answer is not numbers; its weights are damaged")
        return found


def load_align_model(
    spec: str, language: str, *, device: torch.device, cache_dir: Path, hf_token: str | None = None
) -> AlignModel:
    """Load an align model; what has to be fetched is kept in the cache folder.

    Args:
        spec: whatever `models.weights.fetch_weights` takes for a folder, the name of a torchaudio ASR bundle, or
            "whisperx" for that library's choice.
        language: two-letter code of what it is to hear.

    Raises:
        ModelLoadingError: it can't be had, is no CTC model of 16 kHz sound, or is not whole.
        GpuMemoryError: it does not fit.
    """
    if spec == WHISPERX:
        spec = _whisperx_choice(language)
    bundle = getattr(torchaudio.pipelines, spec, None)
    if isinstance(bundle, torchaudio.pipelines.Wav2Vec2ASRBundle):
        return _load_bundle(spec, bundle, device, cache_dir)
    folder = fetch_weights(spec, cache_dir, hf_token)
    network = load_whole(AutoModelForCTC, folder, "The align model")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        extractor = AutoFeatureExtractor.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each of the library's classes raises its own kinds
        raise ModelLoadingError(
            f"The align model {spec} has no usable tokenizer (vocab.json, tokenizer_config.json) or "
            f"preprocessor_config.json ({type(error).__name__}: {error}); copy them from the model it was made of"
        ) from error
    if network.main_input_name != "input_values" or extractor.sampling_rate != SAMPLE_RATE_HZ:
        raise ModelLoadingError(
            f"The align model {spec} does not take samples at 16 kHz; name a wav2vec 2.0, HuBERT or WavLM made for CTC"
        )
    blank_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else network.config.pad_token_id
    delimiter = getattr(tokenizer, "word_delimiter_token", "|")
    with loading_errors(f"moving the align model {spec} to {device}"):
        network.to(device)
    return AlignModel(
        alphabet=_checked(alphabet_of(tokenizer.get_vocab(), blank_id, delimiter), spec),
        stride_s=network.config.inputs_to_logits_ratio / SAMPLE_RATE_HZ,
        _network=network,
        _device=device,
        _normalises=bool(extractor.do_normalize),
    )


def _whisperx_choice(language: str) -> str:
    choice = DEFAULT_ALIGN_MODELS_TORCH.get(language) or DEFAULT_ALIGN_MODELS_HF.get(language)
    if choice is None:
        raise ModelLoadingError(
            f"whisperx knows no align model for {language!r}; name a wav2vec 2.0 made for CTC in that language"
        )
    return str(choice)


def _load_bundle(
    name: str, bundle: torchaudio.pipelines.Wav2Vec2ASRBundle, device: torch.device, cache_dir: Path
) -> AlignModel:
    folder = cache_dir / "torchaudio"
    try:
        network = bundle.get_model(dl_kwargs={"model_dir": str(folder), "weights_only": True, "progress": False})
    except Exception as error:  # urllib, torch and the disk each raise their own kinds
        raise ModelLoadingError(
            f"torchaudio's align model {name} can't be fetched or loaded ({type(error).__name__}: {error}). Put its "
            f"file into {folder}, or name a local folder in Hugging Face form instead."
        ) from error
    with loading_errors(f"moving the align model {name} to {device}"):
        network.to(device)
    vocabulary = {symbol: number for number, symbol in enumerate(bundle.get_labels())}
    return AlignModel(
        alphabet=_checked(alphabet_of(vocabulary, blank_id=0), name),
        stride_s=_BUNDLE_STRIDE / SAMPLE_RATE_HZ,
        _network=network,
        _device=device,
        _normalises=False,  # the bundle does so itself where it has to
    )


def _checked(alphabet: Alphabet, spec: str) -> Alphabet:
    if not alphabet.ids:
        raise ModelLoadingError(
            f"The align model {spec} has no symbol of a single letter in its vocabulary: words can't be spelled in it"
        )
    return alphabet
