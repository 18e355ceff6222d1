"""`AlignModel`: a CTC model of letters from the Hugging Face hub, a local folder or torchaudio's bundles.

`whisperx.load_align_model` is not used: it ignores whether the model wants normalised samples, fills missing weights
with random ones, and unpickles torchaudio's files freely.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin

import numpy as np
import torch
import torchaudio.pipelines
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer
from whisperx.alignment import DEFAULT_ALIGN_MODELS_HF, DEFAULT_ALIGN_MODELS_TORCH

from serve_app.errors import ModelLoadingError, ProcessingError
from serve_app.models.gpu_memory import gpu_errors, loading_errors
from serve_app.models.pickled import read_checkpoint
from serve_app.models.pretrained import load_whole
from serve_app.models.speech.alignment.ctc import Alphabet, alphabet_of
from serve_app.models.weights import fetch_weights
from serve_app.redaction import shown_spec
from serve_app.results import SAMPLE_RATE_HZ
from serve_app.sentences import Sentence

WHISPERX = "whisperx"
# Shorter input is padded with silence: the convolutions of wav2vec 2.0 need 25 ms (Baevski et al. 2020, section 4.2).
_MIN_SAMPLES = SAMPLE_RATE_HZ // 10
# All of torchaudio's bundles have the convolutions of wav2vec 2.0.
_BUNDLE_STRIDE = 320
_BUNDLES = "https://download.pytorch.org/torchaudio/models/"


@dataclass(frozen=True)
class AlignModel:
    """A loaded CTC model.

    Attributes:
        alphabet: its symbols.
        stride_s: time between two output frames.
    """

    alphabet: Alphabet
    stride_s: float
    _network: Any
    _device: torch.device
    _normalises: bool

    def log_probabilities(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (frames, symbols) for (n,) samples at 16 kHz; GpuMemoryError, ProcessingError."""
        waveform = np.nan_to_num(samples.astype(np.float32, copy=False), nan=0.0, posinf=1.0, neginf=-1.0)
        if self._normalises:  # as transformers' Wav2Vec2FeatureExtractor does
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
        if len(waveform) < _MIN_SAMPLES:
            waveform = np.pad(waveform, (0, _MIN_SAMPLES - len(waveform)))
        with gpu_errors(Sentence("aligning words")), torch.inference_mode():
            answer = self._network(torch.from_numpy(waveform)[None].to(self._device))  # (1, samples)
            scores = answer[0] if isinstance(answer, tuple) else answer.logits  # (1, frames, symbols)
            found: NDArray[np.float32] = torch.log_softmax(scores[0].float(), dim=-1).cpu().numpy()
        if not np.isfinite(found).all():
            raise ProcessingError(Sentence("the align model's answer is not numbers; its weights are damaged"))
        return found


def load_align_model(
    spec: str, language: str, *, device: torch.device, cache_dir: Path, hf_token: str | None = None
) -> AlignModel:
    """Load an align model; downloads are kept in the cache folder.

    Args:
        spec: as `models.weights.fetch_weights` takes it for a folder, the name of a torchaudio ASR bundle, or
            "whisperx" for that library's choice.
        language: two-letter code, for "whisperx".

    Raises:
        ModelLoadingError: it can't be fetched, is no CTC model of 16 kHz audio, or lacks weights.
        GpuMemoryError: it does not fit.
    """
    if spec == WHISPERX:
        choice = DEFAULT_ALIGN_MODELS_TORCH.get(language) or DEFAULT_ALIGN_MODELS_HF.get(language)
        if choice is None:
            raise ModelLoadingError(
                Sentence(
                    "whisperx has no align model for {language}; name a wav2vec 2.0 made for CTC in that language",
                    language=repr(language),
                )
            )
        spec = str(choice)
    bundle = getattr(torchaudio.pipelines, spec, None)
    if isinstance(bundle, torchaudio.pipelines.Wav2Vec2ASRBundle):
        model = _from_bundle(spec, bundle, device, cache_dir)
    else:
        model = _from_folder(spec, fetch_weights(spec, cache_dir, hf_token), device)
    if not model.alphabet.ids:
        raise ModelLoadingError(
            Sentence(
                "The align model {spec} has no symbol of a single letter in its vocabulary: words can't be spelled "
                "in it",
                spec=shown_spec(spec),
            )
        )
    with loading_errors(Sentence("moving the align model {model} to {device}", model=shown_spec(spec), device=device)):
        model._network.to(device)
    return model


def _from_folder(spec: str, folder: Path, device: torch.device) -> AlignModel:
    network = load_whole(AutoModelForCTC, folder, Sentence("The align model"))
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        extractor = AutoFeatureExtractor.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each of the library's classes raises its own kinds
        raise ModelLoadingError(
            Sentence(
                "The align model {spec} has no usable tokenizer (vocab.json, tokenizer_config.json) or "
                "preprocessor_config.json ({kind}: {reason}); copy them from the model it was made of",
                spec=shown_spec(spec),
                kind=type(error).__name__,
                reason=str(error),
            )
        ) from error
    if network.main_input_name != "input_values" or extractor.sampling_rate != SAMPLE_RATE_HZ:
        raise ModelLoadingError(
            Sentence(
                "The align model {spec} does not take samples at 16 kHz; name a wav2vec 2.0, HuBERT or WavLM made "
                "for CTC",
                spec=shown_spec(spec),
            )
        )
    blank_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else network.config.pad_token_id
    return AlignModel(
        alphabet=alphabet_of(tokenizer.get_vocab(), blank_id, getattr(tokenizer, "word_delimiter_token", "|")),
        stride_s=network.config.inputs_to_logits_ratio / SAMPLE_RATE_HZ,
        _network=network,
        _device=device,
        _normalises=bool(extractor.do_normalize),
    )


def _from_bundle(
    name: str, bundle: torchaudio.pipelines.Wav2Vec2ASRBundle, device: torch.device, cache_dir: Path
) -> AlignModel:
    folder = cache_dir / "torchaudio"
    try:
        path = folder / PurePosixPath(bundle._path).name
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(urljoin(_BUNDLES, bundle._path), str(path), progress=False)
        read_checkpoint(path)  # get_model has torch unpickle the file, once it has been read here
        network = bundle.get_model(dl_kwargs={"model_dir": str(folder), "weights_only": True, "progress": False})
    except Exception as error:  # urllib, torch and the disk each raise their own kinds
        raise ModelLoadingError(
            Sentence(
                "torchaudio's align model {name} can't be fetched or loaded ({kind}: {reason}). Put its file "
                "into {folder}, or name a local folder in Hugging Face form instead.",
                name=name,
                kind=type(error).__name__,
                reason=str(error),
                folder=folder,
            )
        ) from error
    return AlignModel(
        alphabet=alphabet_of({symbol: number for number, symbol in enumerate(bundle.get_labels())}, blank_id=0),
        stride_s=_BUNDLE_STRIDE / SAMPLE_RATE_HZ,
        _network=network,
        _device=device,
        _normalises=False,  # the bundle does so itself where it has to
    )
