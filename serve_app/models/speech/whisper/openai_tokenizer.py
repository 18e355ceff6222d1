"""Whisper's tokenizer in Hugging Face form, made of the byte-pair ranks that the openai-whisper package carries."""

from __future__ import annotations

import base64
import itertools
from pathlib import Path

import whisper
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode
from whisper.tokenizer import LANGUAGES

NUM_TIMESTAMPS = 1501  # 0.00 to 30.00 s, one per encoder frame of 0.02 s
_ASSETS = Path(whisper.__file__).parent / "assets"
_MULTILINGUAL, _ENGLISH = "multilingual", "gpt2"
_END, _START, _NO_TIMESTAMPS = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"
# vocabulary -> its ranks, how many languages have a token, and what the token for silence is called on the hub
_VOCABULARIES = {
    51_864: (_ENGLISH, 99, "<|nocaptions|>"),
    51_865: (_MULTILINGUAL, 99, "<|nocaptions|>"),
    51_866: (_MULTILINGUAL, 100, "<|nospeech|>"),
}
VOCABULARY_SIZES = tuple(_VOCABULARIES)


def make_tokenizer(vocab_size: int) -> Tokenizer:
    """Return the tokenizer of OpenAI's Whisper models with that vocabulary, without names for the timestamps.

    Args:
        vocab_size: one of `VOCABULARY_SIZES`: English-only, up to large-v2, from large-v3 on.
    """
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
    """Return what follows the byte pairs, in the order of the ids; timestamps come after them."""
    languages = (f"<|{code}|>" for code in itertools.islice(LANGUAGES, num_languages))
    tasks = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>")
    return [_END, _START, *languages, *tasks, no_speech, _NO_TIMESTAMPS]


def byte_pairs(name: str = _MULTILINGUAL) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return GPT-2's form of tiktoken's ranks: tokens as printable characters, and the pair each was merged from.

    Args:
        name: "multilingual", or "gpt2" for English-only models.
    """
    lines = (_ASSETS / f"{name}.tiktoken").read_text("ascii").splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, lines)}
    printable = bytes_to_unicode()

    def written(token: bytes) -> str:
        return "".join(printable[byte] for byte in token)

    vocabulary = {written(token): rank for token, rank in ranks.items()} | {_END: len(ranks)}
    pairs = (_parts(token, rank, ranks) for token, rank in ranks.items())
    return vocabulary, [(written(left), written(right)) for left, right in filter(None, pairs)]


def _parts(token: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """Return what the merge of that rank joined: byte-pair encoding of the token by lower ranks alone."""
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda at: ranks.get(parts[at] + parts[at + 1], rank))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return (parts[0], parts[1]) if len(parts) == 2 else None
