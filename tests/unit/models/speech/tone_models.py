"""Speech of tones, and tiny wav2vec 2.0 models that hear it: each letter is a sine of its own pitch.

So every boundary is known, and a model that hears letters can be trained within a test, in seconds of one core.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForSequenceClassification,
)

SAMPLE_RATE_HZ = 16_000
LETTERS = "abcdefgh"
PITCH_HZ = {letter: 400.0 * 8 ** (index / 7) for index, letter in enumerate(LETTERS)}  # 400 to 3200 Hz
_SPECIAL = ("<pad>", "<unk>", "|")
_BATCH = 8


@dataclass(frozen=True)
class Sung:
    """Tones and what they spell: (n,) samples, and each word with its true start and end in seconds."""

    samples: NDArray[np.float32]
    words: tuple[tuple[str, float, float], ...]


def sing(
    words: Sequence[str],
    rng: np.random.Generator,
    letter_s: tuple[float, float] = (0.06, 0.14),
    pause_s: tuple[float, float] = (0.08, 0.3),
) -> Sung:
    """Sing words with pauses around each; letters other than a to h are noise."""
    parts: list[NDArray[np.float64]] = []
    spans = []
    position = 0

    def add(part: NDArray[np.float64]) -> None:
        nonlocal position
        parts.append(part)
        position += len(part)

    add(np.zeros(_num_samples(rng, pause_s)))
    for word in words:
        start = position
        for letter in word:
            times_s = np.arange(_num_samples(rng, letter_s)) / SAMPLE_RATE_HZ
            level, phase = rng.uniform(0.2, 0.5), rng.uniform(0, 2 * np.pi)
            pitch_hz = PITCH_HZ.get(letter)
            wave = rng.normal(size=len(times_s)) if pitch_hz is None else np.sin(2 * np.pi * pitch_hz * times_s + phase)
            add(level * wave)
        spans.append((word, start / SAMPLE_RATE_HZ, position / SAMPLE_RATE_HZ))
        add(np.zeros(_num_samples(rng, pause_s)))
    samples = np.concatenate(parts)
    return Sung((samples + rng.normal(0, 0.01, len(samples))).astype(np.float32), tuple(spans))


def random_words(rng: np.random.Generator, count: int) -> list[str]:
    """Return words of one to four letters, none twice in a row: CTC can't tell a tone that goes on from two."""
    words = []
    for _ in range(count):
        word = ""
        length = int(rng.integers(1, 5))
        while len(word) < length:
            letter = LETTERS[rng.integers(len(LETTERS))]
            word += letter if not word.endswith(letter) else ""
        words.append(word)
    return words


def write_align_model(folder: Path, symbols: Sequence[str] = tuple(LETTERS), *, seed: int = 0) -> Path:
    """Write a CTC model with random weights, in Hugging Face form."""
    torch.manual_seed(seed)
    _save(folder, Wav2Vec2ForCTC(_config(vocab_size=len(_SPECIAL) + len(symbols))))
    _write_vocabulary(folder, symbols)
    return folder


def write_trained_align_model(folder: Path, *, steps: int = 300) -> Path:
    """Write a CTC model that was told texts alone, never times (5 s of one core)."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Wav2Vec2ForCTC(_config(vocab_size=len(_SPECIAL) + len(LETTERS)))
    ids = {letter: index for index, letter in enumerate((*_SPECIAL, *LETTERS))}
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model.train()
    for _ in range(steps):
        texts = [random_words(rng, 2) for _ in range(_BATCH)]
        samples = _stacked([sing(words, rng).samples for words in texts], 2.0)
        labels = torch.full((_BATCH, 16), -100)
        for row, words in zip(labels, texts, strict=True):
            spelled = [ids[letter] for letter in "|".join(words)]
            row[: len(spelled)] = torch.tensor(spelled)
        _step(optimizer, model, model(samples, labels=labels).loss)
    _save(folder, model)
    _write_vocabulary(folder, LETTERS)
    return folder


def write_emotion_model(
    folder: Path,
    labels: Sequence[str] = ("calm", "angry", "sad"),
    *,
    normalisation: str = "layer",
    problem_type: str | None = None,
) -> Path:
    """Write a classifier with random weights, in Hugging Face form."""
    torch.manual_seed(0)
    _save(folder, Wav2Vec2ForSequenceClassification(_classifier_config(labels, normalisation, problem_type)))
    return folder


def write_trained_emotion_model(folder: Path, *, steps: int = 60) -> Path:
    """Write a classifier that tells low tones (a to d) from high ones (e to h)."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Wav2Vec2ForSequenceClassification(_classifier_config(("low", "high"), "layer", None))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model.train()
    for _ in range(steps):
        is_high = rng.integers(2, size=_BATCH)
        sung = [sing(["".join(rng.choice(list(LETTERS[4 * high : 4 * high + 4]), 6))], rng) for high in is_high]
        samples = _stacked([one.samples for one in sung], 1.0)
        _step(optimizer, model, model(samples, labels=torch.from_numpy(is_high)).loss)
    _save(folder, model)
    return folder


def _num_samples(rng: np.random.Generator, range_s: tuple[float, float]) -> int:
    return int(rng.uniform(*range_s) * SAMPLE_RATE_HZ)


def _config(**given: object) -> Wav2Vec2Config:
    """Return the smallest wav2vec 2.0 with the true frame rate, 50 Hz, and 60 thousand weights."""
    no_dropout = {f"{place}_dropout": 0.0 for place in ("hidden", "attention", "activation", "feat_proj", "final")}
    return Wav2Vec2Config(
        **{
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "conv_dim": (64, 64),
            "conv_kernel": (400, 4),
            "conv_stride": (80, 4),
            "conv_bias": True,
            "feat_extract_norm": "layer",
            "do_stable_layer_norm": True,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 2,
            "classifier_proj_size": 32,
            "pad_token_id": 0,
            "layerdrop": 0.0,
            "apply_spec_augment": False,
            "ctc_loss_reduction": "mean",
            **no_dropout,
            **given,
        }
    )


def _classifier_config(labels: Sequence[str], normalisation: str, problem_type: str | None) -> Wav2Vec2Config:
    return _config(
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        feat_extract_norm=normalisation,
        do_stable_layer_norm=normalisation == "layer",
        problem_type=problem_type,
    )


def _save(folder: Path, model: torch.nn.Module) -> None:
    model.eval().save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        feature_size=1,
        sampling_rate=SAMPLE_RATE_HZ,
        padding_value=0.0,
        do_normalize=True,
        return_attention_mask=model.config.feat_extract_norm == "layer",
    ).save_pretrained(folder)


def _write_vocabulary(folder: Path, symbols: Sequence[str]) -> None:
    path = folder / "vocab.json"
    path.write_text(json.dumps({symbol: index for index, symbol in enumerate((*_SPECIAL, *symbols))}), "utf-8")
    Wav2Vec2CTCTokenizer(
        str(path), bos_token=None, eos_token=None, unk_token="<unk>", pad_token="<pad>", word_delimiter_token="|"
    ).save_pretrained(folder)


def _stacked(clips: Sequence[NDArray[np.float32]], duration_s: float) -> torch.Tensor:
    """Return (clips, samples), cut or filled up to the duration, and normalised as the feature extractor does."""
    num_samples = round(duration_s * SAMPLE_RATE_HZ)
    rows = np.stack([np.pad(clip[:num_samples], (0, max(0, num_samples - len(clip)))) for clip in clips])
    centred = rows - rows.mean(axis=1, keepdims=True)
    return torch.from_numpy(centred / np.sqrt(rows.var(axis=1, keepdims=True) + 1e-7))


def _step(optimizer: torch.optim.Optimizer, model: torch.nn.Module, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
