"""Whisper checkpoints in Hugging Face form: the real tokenizer, the configurations, and folders of random weights.

    python -m training.whisper_micro.checkpoint --shape tiny --out DIR
    python -m training.whisper_micro.checkpoint --shape turbo --layers 2 --out DIR

Nothing is downloaded: the tokenizer is made of the byte-pair ranks that the openai-whisper wheel carries. Random
weights make every backend and its conversion testable at a checkpoint's true shape, but say nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration
from transformers.models.whisper import WhisperTokenizer, WhisperTokenizerFast
from whisper.tokenizer import LANGUAGES, get_tokenizer

from serve_app.models.speech.whisper.openai_reader import NUM_TIMESTAMPS, byte_pairs, special_tokens

MAX_SOURCE_POSITIONS = 1500
MAX_TARGET_POSITIONS = 448
_END = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a published Whisper."""

    d_model: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    num_mel_bins: int = 80
    vocab_size: int = 51_865


SHAPES = {
    "tiny": Shape(384, 4, 4, 6),
    "turbo": Shape(1280, 32, 4, 20, num_mel_bins=128, vocab_size=51_866),
}


def build_tokenizer(folder: Path, *, num_languages: int = 99) -> WhisperTokenizerFast:
    """Write the multilingual tokenizer to a folder as `tokenizer.json` and its two small companions.

    Args:
        folder: made if it is missing.
        num_languages: 99 up to large-v2 (51,865 ids), 100 from large-v3 on (51,866: `<|yue|>`).
    """
    vocabulary, merges = byte_pairs()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "vocab.json").write_text(json.dumps(vocabulary))
        (scratch / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges), ""]))
        slow = WhisperTokenizer(
            str(scratch / "vocab.json"),
            str(scratch / "merges.txt"),
            additional_special_tokens=special_tokens(num_languages),
            pad_token=_END,
        )
        # ordinary tokens in Whisper's eyes: skip_special_tokens must not drop them where times are asked for
        slow.add_tokens([f"<|{0.02 * index:.2f}|>" for index in range(NUM_TIMESTAMPS)], special_tokens=False)
        slow.save_pretrained(scratch)
        WhisperTokenizerFast.from_pretrained(scratch).save_pretrained(folder)
    for companion in ("vocab.json", "merges.txt", "added_tokens.json", "normalizer.json"):
        (folder / companion).unlink(missing_ok=True)  # tokenizer.json holds it all
    Tokenizer.from_file(str(folder / "tokenizer.json")).save(str(folder / "tokenizer.json"), pretty=False)
    return WhisperTokenizerFast.from_pretrained(folder)


def model_config(shape: Shape) -> WhisperConfig:
    """Return the configuration of a Whisper of that shape."""
    tokens = get_tokenizer(True, num_languages=_num_languages(shape.vocab_size))
    return WhisperConfig(
        vocab_size=shape.vocab_size,
        num_mel_bins=shape.num_mel_bins,
        d_model=shape.d_model,
        encoder_layers=shape.encoder_layers,
        encoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.d_model,
        decoder_layers=shape.decoder_layers,
        decoder_attention_heads=shape.heads,
        decoder_ffn_dim=4 * shape.d_model,
        max_source_positions=MAX_SOURCE_POSITIONS,
        max_target_positions=MAX_TARGET_POSITIONS,
        decoder_start_token_id=tokens.sot,
        bos_token_id=tokens.eot,
        eos_token_id=tokens.eot,
        pad_token_id=tokens.eot,
    )


def generation_config(
    *,
    vocab_size: int = 51_865,
    alignment_heads: Sequence[tuple[int, int]],
    suppress_tokens: Sequence[int] = (),
) -> GenerationConfig:
    """Return what the backends read beside the weights.

    Args:
        vocab_size: 51,865 or 51,866.
        alignment_heads: (decoder layer, head) whose cross-attention gives the words' times.
        suppress_tokens: never to be generated; CTranslate2 takes the list along.
    """
    num_languages = _num_languages(vocab_size)
    tokens = get_tokenizer(True, num_languages=num_languages)
    blank = tokens.encode(" ")[0]
    return GenerationConfig(
        is_multilingual=True,
        lang_to_id={
            f"<|{code}|>": tokens.to_language_token(code) for code in itertools.islice(LANGUAGES, num_languages)
        },
        task_to_id={"transcribe": tokens.transcribe, "translate": tokens.translate},
        no_timestamps_token_id=tokens.no_timestamps,
        prev_sot_token_id=tokens.sot_prev,
        max_initial_timestamp_index=50,  # the first segment starts within a second
        begin_suppress_tokens=[blank, tokens.eot],
        suppress_tokens=list(suppress_tokens),
        alignment_heads=[list(head) for head in alignment_heads],
        decoder_start_token_id=tokens.sot,
        bos_token_id=tokens.eot,
        eos_token_id=tokens.eot,
        pad_token_id=tokens.eot,
        max_length=MAX_TARGET_POSITIONS,
        return_timestamps=False,
    )


def preprocessor_config(num_mel_bins: int = 80) -> dict[str, Any]:
    """Return the content of `preprocessor_config.json`: 25 ms windows every 10 ms, padded to 30 s."""
    return {
        "chunk_length": 30,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": num_mel_bins,
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": 480_000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "sampling_rate": 16_000,
    }


def write_checkpoint(
    folder: Path, model: WhisperForConditionalGeneration, alignment_heads: Sequence[tuple[int, int]]
) -> None:
    """Write model, tokenizer and configurations as a complete Hugging Face folder."""
    config = model.config
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = generation_config(vocab_size=config.vocab_size, alignment_heads=alignment_heads)
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner alone
    build_tokenizer(folder, num_languages=_num_languages(config.vocab_size))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_config(config.num_mel_bins), indent=2))


def write_random_checkpoint(
    folder: Path,
    *,
    d_model: int,
    encoder_layers: int,
    decoder_layers: int,
    heads: int,
    num_mel_bins: int = 80,
    vocab_size: int = 51_865,
    seed: int = 0,
    dtype: Literal["float16", "float32"] = "float16",
) -> None:
    """Write a complete Hugging Face folder of that shape with random weights.

    Raises:
        ValueError: for a vocabulary that no multilingual Whisper has.
    """
    shape = Shape(d_model, encoder_layers, decoder_layers, heads, num_mel_bins, vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(model_config(shape))
    last_half = range(decoder_layers // 2, decoder_layers)  # openai-whisper's own default
    write_checkpoint(folder, model.to(getattr(torch, dtype)), list(itertools.product(last_half, range(heads))))


def _num_languages(vocab_size: int) -> int:
    num_languages = vocab_size - 51_766  # 50,257 byte pairs, 8 specials and 1,501 timestamps beside the languages
    if num_languages not in (99, 100):
        raise ValueError(f"a multilingual Whisper has 51865 or 51866 ids, not {vocab_size}")
    return num_languages


def main() -> None:
    """Write a checkpoint of random weights."""
    parser = argparse.ArgumentParser(prog="python -m training.whisper_micro.checkpoint", description=main.__doc__)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--layers", type=int, help="of encoder and decoder, at most; as published by default")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    write_random_checkpoint(
        arguments.out,
        d_model=shape.d_model,
        encoder_layers=min(arguments.layers or shape.encoder_layers, shape.encoder_layers),
        decoder_layers=min(arguments.layers or shape.decoder_layers, shape.decoder_layers),
        heads=shape.heads,
        num_mel_bins=shape.num_mel_bins,
        vocab_size=shape.vocab_size,
        seed=arguments.seed,
        dtype=arguments.dtype,
    )


if __name__ == "__main__":
    main()
