"""The captioner `transformers`: a local vision-language model, by an explicit class of its architecture.

| `model_type` of config.json | answers |
| --- | --- |
| `blip`, `florence2` | an English sentence, or several |
| `idefics3`, `smolvlm`, `qwen2_5_vl`, `qwen3_vl` | `reply.PROMPT` |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from serve_app.errors import GpuMemoryError, ModelError, ModelLoadingError
from serve_app.models.captions.embedded import describe_picture
from serve_app.models.captions.picture import shrunk
from serve_app.models.captions.reply import PROMPT, SYSTEM_PROMPT, parse_reply
from serve_app.models.devices import torch_device
from serve_app.models.gpu_memory import gpu_errors, loading_errors
from serve_app.models.image_file import decoded_image
from serve_app.models.pretrained import load_whole
from serve_app.models.weights import fetch_weights, weights_name
from serve_app.results import Caption, PictureFeatures
from serve_app.sentences import Sentence

NAME = "transformers"
LONG_SIDE_PX = 768  # some 700 tokens of Qwen-VL, whose number grows with the pixels

Images = Sequence[Image.Image]


@dataclass(frozen=True, slots=True)
class _Architecture:
    """How an architecture is loaded and asked.

    Attributes:
        model: class of transformers that holds the weights.
        processor: class of transformers that makes the inputs.
        inputs: makes the inputs of pictures; arguments: the processor and the pictures.
        repeats_prompt: whether an answer's tokens begin with those of the question.
    """

    model: str
    processor: str
    inputs: Callable[[Any, Images], Any]
    repeats_prompt: bool = False


def _blip_inputs(processor: Any, images: Images) -> Any:
    return processor(images=list(images), return_tensors="pt")


def _florence_inputs(processor: Any, images: Images) -> Any:
    tasks = ["<MORE_DETAILED_CAPTION>"] * len(images)
    return processor(text=tasks, images=list(images), padding=True, return_tensors="pt")


def _chat_inputs(processor: Any, images: Images) -> Any:
    question = [{"type": "image"}, {"type": "text", "text": f"{SYSTEM_PROMPT} {PROMPT}"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
    processor.tokenizer.padding_side = "left"  # the answer follows the question's last token
    return processor(
        text=[prompt] * len(images), images=[[image] for image in images], padding=True, return_tensors="pt"
    )


def _undivided_inputs(processor: Any, images: Images) -> Any:
    """A mood needs no details: one view of 64 or 81 tokens instead of up to 17."""
    processor.image_processor.do_image_splitting = False
    return _chat_inputs(processor, images)


_ARCHITECTURES = {
    "blip": _Architecture("BlipForConditionalGeneration", "BlipProcessor", _blip_inputs),
    "florence2": _Architecture("Florence2ForConditionalGeneration", "Florence2Processor", _florence_inputs),
    "idefics3": _Architecture("Idefics3ForConditionalGeneration", "Idefics3Processor", _undivided_inputs, True),
    # SmolVLMProcessor makes the same inputs of pictures, but wants num2words, which it needs for videos alone
    "smolvlm": _Architecture("SmolVLMForConditionalGeneration", "Idefics3Processor", _undivided_inputs, True),
    "qwen2_5_vl": _Architecture("Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLProcessor", _chat_inputs, True),
    "qwen3_vl": _Architecture("Qwen3VLForConditionalGeneration", "Qwen3VLProcessor", _chat_inputs, True),
}


class LocalCaptioner:
    """Captions pictures in batches. An instance is for one thread at a time.

    Attributes:
        model_version: "transformers:<model>:<number format>".
    """

    def __init__(
        self,
        model_id: str,
        *,
        device: str = "auto",
        num_threads: int | None = None,
        max_new_tokens: int = 256,
        cache_dir: Path,
        hf_token: str | None = None,
    ) -> None:
        """Load the model, and caption a grey picture.

        Args:
            model_id: Hugging Face id, with `@REVISION` where wanted, or a local folder.
            device: as in `models.devices`; a GPU gets the weights in bfloat16.
            num_threads: threads of torch in this process; None leaves them as they are.
            max_new_tokens: of an answer.

        Raises:
            ModelLoadingError: it can't be fetched, is of another architecture, lacks weights, or fails.
            GpuMemoryError: it does not fit.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self._device = torch_device(device)
        self._dtype = torch.float32 if self._device.type == "cpu" else torch.bfloat16
        self._max_new_tokens = max_new_tokens
        folder = fetch_weights(model_id, cache_dir, hf_token)
        self._architecture = _architecture_of(folder)
        network = load_whole(
            getattr(transformers, self._architecture.model),
            folder,
            "The caption model",
            dtype=self._dtype,
            use_safetensors=True,
        )
        preparing = Sentence(
            "preparing the caption model {model_id} on {device}", model_id=model_id, device=self._device
        )
        with loading_errors(preparing):
            self._processor = getattr(transformers, self._architecture.processor).from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
            self._network = network.to(self._device)
            self._generate([Image.new("RGB", (64, 64), "grey")], max_new_tokens=1)
        self.model_version = f"{NAME}:{weights_name(model_id)}:{str(self._dtype).removeprefix('torch.')}"

    def captions(self, pictures: Sequence[tuple[bytes, PictureFeatures]]) -> list[Caption | ModelError]:
        """Return the caption of each prepared picture, or why it has none, in order.

        Raises:
            GpuMemoryError: the device has too little memory even for one picture.
            ProcessingError: the model failed.
        """
        images = []
        for jpeg, _ in pictures:
            with decoded_image(jpeg, at_least_px=LONG_SIDE_PX) as image:
                images.append(shrunk(image, LONG_SIDE_PX))
        replies = self._halved_replies(images)
        return [self._caption(*picture, reply) for picture, reply in zip(pictures, replies, strict=True)]

    def _caption(self, jpeg: bytes, features: PictureFeatures, reply: str) -> Caption | ModelError:
        described = describe_picture(jpeg, features)
        try:
            return parse_reply(reply, features, described, captioner=NAME, model_version=self.model_version)
        except ModelError as error:
            return error

    def _halved_replies(self, images: Images) -> list[str]:
        """Return the model's replies; a batch that does not fit into the GPU's memory is halved."""
        try:
            return self._replies(images)
        except GpuMemoryError:
            if len(images) == 1:
                raise
        # outside the handler, where the error no longer keeps the batch on the GPU
        middle = len(images) // 2
        return [*self._halved_replies(images[:middle]), *self._halved_replies(images[middle:])]

    def _replies(self, images: Images) -> list[str]:
        with gpu_errors(Sentence("captioning {num} pictures", num=len(images))):
            return self._generate(images, max_new_tokens=self._max_new_tokens)

    @torch.inference_mode()
    def _generate(self, images: Images, *, max_new_tokens: int) -> list[str]:
        inputs = self._architecture.inputs(self._processor, images).to(self._device, self._dtype)
        tokens = self._network.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        if self._architecture.repeats_prompt:
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
        replies: list[str] = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return replies


def _architecture_of(folder: Path) -> _Architecture:
    """Return the architecture that a folder's config.json names."""
    possible = ", ".join(_ARCHITECTURES)
    try:
        named = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
        return _ARCHITECTURES[named]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ModelLoadingError(
            Sentence(
                "{folder} holds no caption model of a known architecture ({kind}: {reason}); its config.json "
                "must have one of these as model_type: {possible}",
                folder=folder,
                kind=type(error).__name__,
                reason=str(error),
                possible=possible,
            )
        ) from error
