"""A MusicGen of a few thousand random weights, saved as a real checkpoint: 32 kHz, 50 frames a second."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
)

_CODES = 64
_WORDS = ("<pad>", "</s>", "<unk>", "calm", "piano", "strings", "bpm", "vocals")


def save_musicgen(folder: Path, *, channels: int = 1, safe: bool = True) -> Path:
    """Save the model and its tokenizer; the same weights each time."""
    torch.manual_seed(0)
    config = MusicgenConfig.from_sub_models_config(
        T5Config(
            vocab_size=len(_WORDS),
            d_model=16,
            d_kv=8,
            d_ff=16,
            num_layers=1,
            num_heads=2,
            pad_token_id=0,
            eos_token_id=1,
        ),
        EncodecConfig(
            target_bandwidths=[1.2],  # 4 codebooks of 6 bits, 50 times a second
            sampling_rate=32_000,
            upsampling_ratios=[8, 5, 4, 4],
            num_filters=2,
            hidden_size=8,
            codebook_dim=8,
            codebook_size=_CODES,
            num_lstm_layers=1,
            num_residual_layers=1,
            use_causal_conv=False,
        ),
        MusicgenDecoderConfig(
            vocab_size=_CODES,
            max_position_embeddings=2048,
            num_hidden_layers=1,
            ffn_dim=16,
            num_attention_heads=2,
            hidden_size=16,
            num_codebooks=4 * channels,
            audio_channels=channels,
            pad_token_id=_CODES,
            bos_token_id=_CODES,
        ),
    )
    model = MusicgenForConditionalGeneration(config)
    with torch.no_grad():  # random codes are nearly silent otherwise
        for layer in model.audio_encoder.quantizer.layers:
            layer.codebook.embed.normal_(0.0, 3.0)
        for name, weights in model.named_parameters():  # the words have no say otherwise
            if "encoder_attn" in name or "enc_to_dec_proj" in name or "lm_heads" in name:
                weights.normal_(0.0, 0.5)
    model.generation_config.decoder_start_token_id = _CODES
    model.generation_config.pad_token_id = _CODES
    model.generation_config.bos_token_id = _CODES
    model.save_pretrained(folder, safe_serialization=safe)
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(_WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder
