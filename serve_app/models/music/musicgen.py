"""`MusicGen`: pieces by MusicGen, through transformers. Importing this imports torch."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, MusicgenForConditionalGeneration, StoppingCriteria, StoppingCriteriaList

from serve_app.errors import ModelLoadingError, ProcessingError
from serve_app.models.devices import torch_device
from serve_app.models.gpu_memory import gpu_errors, loading_errors
from serve_app.models.music.options import MusicGenOptions
from serve_app.models.music.pieces import piece_of
from serve_app.models.pretrained import load_whole
from serve_app.models.untrusted_text import clean_text
from serve_app.models.weights import fetch_weights, weights_name
from serve_app.results import MusicPlan, RenderedMusic
from serve_app.sentences import Sentence

MAX_S = 30.0  # trained on; beyond 2048 positions (41 s) CUDA's assertion ends the process's use of the GPU

_MAX_PROMPT_TOKENS = 256
_SEEDS = 1 << 32
_DECODING_SHARE = 0.05
_META_LICENSE = "CC-BY-NC-4.0"  # of all weights that facebook/musicgen-* names
_CARD_LICENSE = re.compile(r"^license:[ \t]*([^\r\n]{1,80})$", re.MULTILINE)
_SEEDED = threading.Lock()  # torch's random state is the process's


class MusicGen:
    """Makes pieces of at most 30 s, one at a time in a process.

    Attributes:
        model_version: "transformers:<model>:<number format>".
        license: of the weights and of what they make, in a sentence.
    """

    def __init__(
        self, options: MusicGenOptions, *, device: str = "auto", cache_dir: Path, hf_token: str | None = None
    ) -> None:
        """Load the model; safetensors only.

        Args:
            device: as in `models.devices`.

        Raises:
            ModelLoadingError: it can't be fetched, has no safetensors or lacks weights, or is no MusicGen.
            GpuMemoryError: it does not fit.
        """
        if not options.model_id:
            raise ModelLoadingError(
                Sentence("The engine musicgen needs music.musicgen.model_id: a Hugging Face id or a folder")
            )
        torch.set_num_threads(options.num_threads)
        self._options = options
        self._device = torch_device(device)
        folder = fetch_weights(options.model_id, cache_dir, hf_token)
        if not folder.is_dir() or not any(folder.glob("*.safetensors")):
            raise ModelLoadingError(
                Sentence(
                    "The music model {model_id} has no safetensors; name a folder with them", model_id=options.model_id
                )
            )
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except Exception as error:  # each of the library's classes raises its own kinds
            raise ModelLoadingError(
                Sentence(
                    "The music model {model_id} has no usable tokenizer ({kind}: {reason}); copy its tokenizer "
                    "files from the model that it was made of",
                    model_id=options.model_id,
                    kind=type(error).__name__,
                    reason=str(error),
                )
            ) from error
        network = load_whole(MusicgenForConditionalGeneration, folder, Sentence("The music model"))
        is_half = options.half and self._device.type == "cuda"
        with loading_errors(
            Sentence("moving the music model {model} to {device}", model=options.model_id, device=self._device)
        ):
            self._network = network.to(self._device, torch.float16 if is_half else torch.float32)
        codec, decoder = network.config.audio_encoder, network.config.decoder
        self._rate = int(codec.sampling_rate)
        self._frames_per_s = float(codec.frame_rate)
        # of two channels, both begin each codebook in the same step
        self._delay = decoder.num_codebooks // decoder.audio_channels - 1
        name = weights_name(options.model_id)
        self.model_version = f"transformers:{name}:{'float16' if is_half else 'float32'}"
        self.license = _license_of(folder, name)

    def render(
        self,
        plan: MusicPlan,
        on_progress: Callable[[float], None] = lambda share: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> RenderedMusic:
        """Return a piece of the plan's words and seed; blocks, and waits for another one of this process.

        The same seed gives the same sound on the same machine. A longer plan gives 30 s and a note.

        Args:
            on_progress: gets the share that is done, after each of 50 steps a second.
            should_stop: called before each step; True ends the work.

        Raises:
            GpuMemoryError: out of GPU memory.
            ProcessingError: the model failed, or `should_stop` returned True.
        """
        duration_s = min(plan.duration_s, MAX_S)
        num_tokens = math.ceil(self._frames_per_s * duration_s) + self._delay
        steps = _Steps(num_tokens, on_progress, should_stop)
        devices = [self._device] if self._device.type == "cuda" else []
        with (
            _SEEDED,
            gpu_errors(Sentence("making music with MusicGen")),
            torch.random.fork_rng(devices),
            torch.inference_mode(),
        ):
            words = self._tokenizer(
                [plan.prompt_en], truncation=True, max_length=_MAX_PROMPT_TOKENS, return_tensors="pt"
            ).to(self._device)
            torch.manual_seed(plan.seed % _SEEDS)
            sound = self._network.generate(
                input_ids=words["input_ids"],
                attention_mask=words["attention_mask"],
                do_sample=True,
                guidance_scale=self._options.guidance_scale,
                top_k=self._options.top_k,
                temperature=self._options.temperature,
                max_new_tokens=num_tokens,
                stopping_criteria=StoppingCriteriaList([steps]),
            )
            audio = sound[0].float().cpu().numpy().T  # (n, channels)
        on_progress(1.0)
        return piece_of(
            audio[: round(duration_s * self._rate)],
            self._rate,
            plan,
            engine="musicgen",
            model_version=self.model_version,
            license=self.license,
        )


class _Steps(StoppingCriteria):
    """Reports each step. It stops by raising: generation that ends early can't decode its delayed codebooks."""

    def __init__(self, num_steps: int, on_progress: Callable[[float], None], should_stop: Callable[[], bool]) -> None:
        self._num_steps, self._done = num_steps, 0
        self._on_progress, self._should_stop = on_progress, should_stop

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        if self._should_stop():
            raise ProcessingError(Sentence("MusicGen was stopped, as its caller asked"))
        self._done += 1
        self._on_progress((1.0 - _DECODING_SHARE) * min(1.0, self._done / self._num_steps))
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)  # type: ignore[return-value]


def _license_of(folder: Path, name: str) -> str:
    license = _stated_license(folder) or (_META_LICENSE if name.startswith("facebook/musicgen") else "")
    made = f"Made by MusicGen with the weights {name}"
    if not license:
        return f"{made}, whose licence is not stated: ask their author before you use the piece."
    limit = " (non-commercial use only)" if "-nc" in license.lower() else ""
    return f"{made}, licence {license}{limit}."


def _stated_license(folder: Path) -> str:
    """Return the licence that the folder's card or config.json names; "" without."""
    card = folder / "README.md"
    if card.is_file():
        head = card.read_text("utf-8", errors="replace")[:20_000]
        if found := _CARD_LICENSE.search(head):
            return clean_text(found[1].strip("'\" "), 60)
    try:
        stated = json.loads((folder / "config.json").read_text("utf-8")).get("license")
    except (OSError, ValueError, AttributeError):
        stated = None
    return clean_text(stated, 60) if isinstance(stated, str) else ""
