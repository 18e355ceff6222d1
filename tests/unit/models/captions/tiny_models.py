"""Vision-language models of random weights, a few layers small, saved as their authors save them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


def save_blip(folder: Path) -> Path:
    """Return the folder of a BLIP whose words are letters."""
    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "the", "cat", "sea", "red", "on", "of", "and"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), additional_special_tokens=["[DEC]"])
    images = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    layers: dict[str, float] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    layers["initializer_range"] = 0.5
    text = {
        "vocab_size": len(words),
        "encoder_hidden_size": 32,
        "bos_token_id": 5,
        "sep_token_id": 3,
        "pad_token_id": 0,
    }
    config = transformers.BlipConfig(
        text_config={**layers, **text, "projection_dim": 32, "max_position_embeddings": 64, "eos_token_id": 3},
        vision_config={**layers, "image_size": 32, "patch_size": 16},
        projection_dim=32,
        image_text_hidden_size=32,
    )
    return _save(
        transformers.BlipForConditionalGeneration, config, transformers.BlipProcessor(images, tokenizer), folder
    )


def save_florence(folder: Path) -> Path:
    """Return the folder of a Florence-2 whose words are bytes."""
    tokenizer = _byte_tokenizer(
        transformers.BartTokenizerFast,
        folder,
        ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        ["<image>"],
        image_token="<image>",
    )
    # 64 / 32 patches a side, and their mean
    images = transformers.CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False, image_seq_length=5)
    processor = transformers.Florence2Processor(images, tokenizer)
    config = transformers.Florence2Config(
        text_config={
            "model_type": "bart",
            "init_std": 0.5,
            "vocab_size": len(tokenizer),
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": 512,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
        },
        vision_config={
            "embed_dim": (8, 8, 16, 16),
            "depths": (1, 1, 1, 1),
            "num_heads": (1, 1, 2, 2),
            "num_groups": (1, 1, 2, 2),
            "window_size": 2,
            "projection_dim": 32,
        },
        image_token_id=tokenizer.image_token_id,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    return _save(transformers.Florence2ForConditionalGeneration, config, processor, folder)


def save_idefics(folder: Path, model_type: str = "idefics3") -> Path:
    """Return the folder of an Idefics3 or SmolVLM whose words are bytes."""
    marks = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<|im_start|>", "<|im_end|>"]
    marks += [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = _byte_tokenizer(transformers.Qwen2TokenizerFast, folder, ["<|endoftext|>"], marks)
    smol = model_type == "smolvlm"
    sizes = {"size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 64}}
    images = transformers.Idefics3ImageProcessor(**sizes)
    # 64 / 16 patches a side, shuffled by 2: 4 tokens
    processor = transformers.Idefics3Processor(
        images, tokenizer, image_seq_len=4, chat_template=_TEMPLATE.replace("IMAGE", "<image>")
    )
    config_class = transformers.SmolVLMConfig if smol else transformers.Idefics3Config
    config = config_class(
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **_DECODER, **_ends(tokenizer)},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
        },
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    model = transformers.SmolVLMForConditionalGeneration if smol else transformers.Idefics3ForConditionalGeneration
    _save(model, config, processor, folder)
    if smol:
        transformers.SmolVLMImageProcessor(**sizes).save_pretrained(folder)
    return folder


def save_qwen(folder: Path, model_type: str = "qwen2_5_vl") -> Path:
    """Return the folder of a Qwen2.5-VL or Qwen3-VL whose words are bytes."""
    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = _byte_tokenizer(transformers.Qwen2TokenizerFast, folder, ["<|endoftext|>"], marks)
    template = _TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    ids = {
        "image_token_id": tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    }
    text = {"vocab_size": len(tokenizer), **_DECODER, **_ends(tokenizer)}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    if model_type == "qwen3_vl":
        images = transformers.Qwen2VLImageProcessorFast(patch_size=16, min_pixels=32 * 32, max_pixels=64 * 64)
        videos = transformers.Qwen3VLVideoProcessor(patch_size=16)
        processor = transformers.Qwen3VLProcessor(images, tokenizer, videos, chat_template=template)
        scaling = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True}
        config = transformers.Qwen3VLConfig(
            text_config={**text, "head_dim": 16, "rope_scaling": scaling},
            vision_config={**vision, "patch_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 64},
            **ids,
        )
        return _save(transformers.Qwen3VLForConditionalGeneration, config, processor, folder)
    images = transformers.Qwen2VLImageProcessorFast(min_pixels=28 * 28, max_pixels=56 * 56)
    videos = transformers.Qwen2VLVideoProcessor()
    processor = transformers.Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=template)
    config = transformers.Qwen2_5_VLConfig(
        text_config={**text, "rope_scaling": {"type": "mrope", "mrope_section": [4, 2, 2]}},
        vision_config={**vision, "fullatt_block_indexes": [1]},
        **ids,
    )
    return _save(transformers.Qwen2_5_VLForConditionalGeneration, config, processor, folder)


def _ends(tokenizer: transformers.PreTrainedTokenizerBase) -> dict[str, int]:
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    return {"bos_token_id": end, "eos_token_id": end, "pad_token_id": tokenizer.pad_token_id}


def _byte_tokenizer(
    tokenizer_class: type, folder: Path, first: list[str], marks: list[str], **named: str
) -> transformers.PreTrainedTokenizerBase:
    folder.mkdir(parents=True)
    words = [*first, *sorted(ByteLevel.alphabet())]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = tokenizer_class(str(folder / "vocab.json"), str(folder / "merges.txt"), extra_special_tokens=named)
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    return tokenizer


def _save(
    model_class: type, config: transformers.PretrainedConfig, processor: transformers.ProcessorMixin, folder: Path
) -> Path:
    torch.manual_seed(0)
    model_class(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
