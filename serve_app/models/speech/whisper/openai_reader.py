"""`write_description` and `openai_tensors`: a Whisper as OpenAI publishes it, one `.pt` file with sizes and tensors.

The file has no tokenizer, suppressed tokens or alignment heads. They come from OpenAI's package and are written
once, as the small files of a Hugging Face folder.
"""

from __future__ import annotations

import base64
import gzip
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import whisper
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor
from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode
from whisper.tokenizer import LANGUAGES

from serve_app.errors import ModelLoadingError
from serve_app.models.pickled import Refused, read_checkpoint
from serve_app.models.speech.whisper import checkpoint_files as files
from serve_app.models.speech.whisper.checkpoint_completion import make_generation_config, make_preprocessor_config
from serve_app.sentences import Sentence, reason_of

NUM_TIMESTAMPS = 1501  # 0.00 to 30.00 s, one per encoder frame of 0.02 s
_ASSETS = Path(whisper.__file__).parent / "assets"
_MULTILINGUAL, _ENGLISH = "multilingual", "gpt2"
_END, _START, _NO_TIMESTAMPS = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"
# vocabulary -> its ranks, number of languages with a token, and the hub's name of the token for silence
_VOCABULARIES = {
    51_864: (_ENGLISH, 99, "<|nocaptions|>"),
    51_865: (_MULTILINGUAL, 99, "<|nocaptions|>"),
    51_866: (_MULTILINGUAL, 100, "<|nospeech|>"),
}
VOCABULARY_SIZES = tuple(_VOCABULARIES)


def make_tokenizer(vocab_size: int) -> Tokenizer:
    """Return the tokenizer for one of `VOCABULARY_SIZES`, without names for the timestamps."""
    ranks, num_languages, no_speech = _VOCABULARIES[vocab_size]
    vocabulary, merges = byte_pairs(ranks)
    tokenizer = Tokenizer(BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    added = special_tokens(num_languages, no_speech)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added])
    ids = [(token, tokenizer.token_to_id(token)) for token in (_START, _NO_TIMESTAMPS, _END)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_START} {_NO_TIMESTAMPS} $A {_END}",
        pair=f"{_START} {_NO_TIMESTAMPS} $A $B:1 {_END}:1",
        special_tokens=ids,
    )
    return tokenizer


def special_tokens(num_languages: int, no_speech: str = "<|nospeech|>") -> list[str]:
    """Return the tokens after the byte pairs, in the order of their ids; timestamps follow."""
    languages = (f"<|{code}|>" for code in itertools.islice(LANGUAGES, num_languages))
    tasks = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>")
    return [_END, _START, *languages, *tasks, no_speech, _NO_TIMESTAMPS]


def byte_pairs(name: str = _MULTILINGUAL) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return GPT-2's form of the ranks "multilingual" or "gpt2": tokens as printable characters, and merges."""
    lines = (_ASSETS / f"{name}.tiktoken").read_text("ascii").splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, lines)}
    printable = bytes_to_unicode()

    def written(token: bytes) -> str:
        return "".join(printable[byte] for byte in token)

    vocabulary = {written(token): rank for token, rank in ranks.items()} | {_END: len(ranks)}
    pairs = (_parts(token, rank, ranks) for token, rank in ranks.items())
    return vocabulary, [(written(left), written(right)) for left, right in filter(None, pairs)]


def _parts(token: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """Return the pair that the merge of that rank joins: byte-pair encoding of the token by lower ranks alone."""
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda at: ranks.get(parts[at] + parts[at + 1], rank))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return (parts[0], parts[1]) if len(parts) == 2 else None


# encoder layers, decoder layers, heads -> names of the published models of that shape
_PUBLISHED = {
    (4, 4, 6): ("tiny",),
    (6, 6, 8): ("base",),
    (12, 12, 12): ("small",),
    (24, 24, 16): ("medium",),
    (32, 32, 20): ("large-v1", "large-v2", "large-v3"),
    (32, 4, 20): ("large-v3-turbo",),
}
_HEAD_WIDTH = 64  # of all published models
_MOST_LAYERS = 256
_FORMATS = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


def write_description(path: Path, sha256: str, target: Path) -> None:
    """Check a `.pt` file, and write its small files in Hugging Face form into an existing folder.

    "dtype" in config.json is the tensors' stored number format.

    Raises:
        ModelLoadingError: it is broken, is no Whisper, or has a vocabulary that is not OpenAI's.
    """
    dims, state = load_openai(path)
    config = _config(path, dims)
    config["dtype"] = _check_tensors(path, state, config)
    tokenizer = make_tokenizer(config["vocab_size"])
    generation_config = make_generation_config(
        tokenizer,
        config,
        {"alignment_heads": _alignment_heads(config, sha256), "suppress_tokens": _suppressed(config)},
        path,
    )
    tokenizer.save(str(target / files.TOKENIZER), pretty=False)
    files.write_json(target / files.CONFIG, config)
    files.write_json(target / files.GENERATION_CONFIG, generation_config)
    files.write_json(target / files.PREPROCESSOR_CONFIG, make_preprocessor_config(config))


def openai_tensors(path: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield Hugging Face names (after "model.") and tensors, as stored."""
    _, state = load_openai(path)
    for name, (openai, _) in files.expected_tensors(config).items():
        yield name, state[openai]


def load_openai(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return sizes and tensors; runs no code in the file, and reads tensors when they are used."""
    try:
        content = read_checkpoint(path)
    except (Refused, OSError) as error:
        raise ModelLoadingError(
            Sentence(
                "{path} can't be read as OpenAI's form of a Whisper: {reason}. Fetch it again, or name a folder in "
                "Hugging Face or CTranslate2 form",
                path=path,
                reason=reason_of(error),
            )
        ) from error
    dims, state = (content.get(key) if isinstance(content, dict) else None for key in ("dims", "model_state_dict"))
    if not isinstance(dims, dict) or not isinstance(state, dict):
        raise ModelLoadingError(
            Sentence(
                "{path} holds no Whisper in OpenAI's form: it lacks dims or model_state_dict; name another file",
                path=path,
            )
        )
    return dims, state


def _config(path: Path, dims: Mapping[str, Any]) -> dict[str, Any]:
    """Return config.json in Hugging Face form."""
    wrong = [name for name in files.OPENAI_SIZES if not isinstance(dims.get(name), int) or dims[name] < 1]
    if not wrong and max(dims["n_audio_layer"], dims["n_text_layer"]) > _MOST_LAYERS:
        raise ModelLoadingError(
            Sentence(
                "{path} has more than {most_layers} layers in its dims: it is no Whisper",
                path=path,
                most_layers=_MOST_LAYERS,
            )
        )
    if wrong:
        raise ModelLoadingError(
            Sentence("{path} lacks {wrong} in its dims; fetch it again", path=path, wrong=", ".join(wrong))
        )
    if dims["n_audio_state"] != dims["n_text_state"]:
        raise ModelLoadingError(
            Sentence("{path} has an encoder and a decoder of different widths; only OpenAI's package has it", path=path)
        )
    if dims["n_vocab"] not in VOCABULARY_SIZES:
        raise ModelLoadingError(
            Sentence(
                "{path} has a vocabulary of {dims} tokens, where OpenAI's models have {vocabulary_sizes}: its "
                "tokenizer is unknown; name its Hugging Face folder instead",
                path=path,
                dims=dims["n_vocab"],
                vocabulary_sizes=", ".join(map(str, VOCABULARY_SIZES)),
            )
        )
    wide = 4 * dims["n_text_state"]  # openai-whisper, model.py
    return {
        **files.FIXED_CONFIG,
        "tie_word_embeddings": True,
        "encoder_ffn_dim": wide,
        "decoder_ffn_dim": wide,
        **{size: dims[name] for name, size in files.OPENAI_SIZES.items()},
    }


def _check_tensors(path: Path, state: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the tensors' number format; "float32" where they are mixed."""
    types: set[torch.dtype] = set()
    for openai, shape in files.expected_tensors(config).values():
        tensor = state.get(openai)
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape or tensor.dtype not in _FORMATS:
            found = f"{tensor.dtype}, {list(tensor.shape)}" if isinstance(tensor, Tensor) else "nothing"
            raise ModelLoadingError(
                Sentence(
                    "{path} holds {found} for the tensor {openai}, where its dims need {shape}; fetch it again",
                    path=path,
                    found=found,
                    openai=openai,
                    shape=list(shape),
                )
            )
        types.add(tensor.dtype)
    return _FORMATS[types.pop()] if len(types) == 1 else "float32"


def _suppressed(config: Mapping[str, Any]) -> list[int]:
    """Return the tokens that OpenAI's decoder never generates: unspoken symbols, and controls."""
    tokens = whisper.tokenizer.get_tokenizer(
        files.is_multilingual(config), num_languages=99 + (config["vocab_size"] > 51_865)
    )
    controls = (tokens.transcribe, tokens.translate, tokens.sot, tokens.sot_prev, tokens.sot_lm, tokens.no_speech)
    return sorted({*tokens.non_speech_tokens, *controls})


def _alignment_heads(config: Mapping[str, Any], sha256: str) -> list[list[int]] | None:
    """Return the heads that OpenAI's package lists for this model; None where it lists none, or several.

    A published file has its SHA-256 in its address; another one is identified by its shape, which large-v1 and large-v2
    share.
    """
    layers, heads = config["decoder_layers"], config["decoder_attention_heads"]
    names = [name for name, address in whisper._MODELS.items() if f"/{sha256}/" in address]
    if not names and config["d_model"] == _HEAD_WIDTH * heads:
        suffix = "" if files.is_multilingual(config) else ".en"
        is_third = config["vocab_size"] > 51_865
        of_shape = _PUBLISHED.get((config["encoder_layers"], layers, heads), ())
        names = [f"{name}{suffix}" for name in of_shape if ("v3" in name) == is_third]
    masks = {whisper._ALIGNMENT_HEADS[name] for name in names if name in whisper._ALIGNMENT_HEADS}
    if len(masks) != 1:
        return None
    mask = np.frombuffer(gzip.decompress(base64.b85decode(masks.pop())), dtype=bool).reshape(layers, heads)
    return [[int(layer), int(head)] for layer, head in np.argwhere(mask)]
