"""Word error rates of a checkpoint on held-out speech, by the backend that is used first: faster-whisper, greedy.

python -m training.whisper_micro.evaluate --folder serve_app/models/speech/whisper_micro --num 100
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from ctranslate2.converters import TransformersConverter
from faster_whisper import WhisperModel

from serve_app.scoring import TimedWord, align, count_word_errors
from training.whisper_micro.augment import add_noise
from training.whisper_micro.grammar import LANGUAGES, Language, Split, split_of
from training.whisper_micro.speech import SAMPLE_RATE_HZ
from training.whisper_micro.utterances import Kind, Utterance, Voices, held_out_utterances
from training.whisper_micro.voices import espeak_variants

NOISE_DB = 10.0
SEED = 2026
_SILENT_S = (1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """A set of held-out utterances; with noise at `snr_db` where it is given."""

    name: str
    language: Language
    voices: Voices
    kind: Kind
    snr_db: float | None = None
    share: float = 1.0  # of the number asked for: windows hold several utterances


SETS = (
    HeldOutSet("English, grammar", "en", "unseen", "grammar"),
    HeldOutSet("Korean, grammar", "ko", "unseen", "grammar"),
    HeldOutSet("English, free order", "en", "unseen", "free"),
    HeldOutSet("Korean, free order", "ko", "unseen", "free"),
    HeldOutSet("English, windows of 2-8", "en", "unseen", "windows", share=0.4),
    HeldOutSet("Korean, windows of 2-8", "ko", "unseen", "windows", share=0.4),
    HeldOutSet("English, grammar, 10 dB", "en", "unseen", "grammar", NOISE_DB),
    HeldOutSet("Korean, grammar, 10 dB", "ko", "unseen", "grammar", NOISE_DB),
    HeldOutSet("English, flite rms, grammar", "en", "unseen-flite", "grammar"),
    HeldOutSet("English, flite rms, free order", "en", "unseen-flite", "free"),
    HeldOutSet("English, flite rms, windows", "en", "unseen-flite", "windows", share=0.4),
    HeldOutSet("English, trained espeak voices", "en", "train", "grammar"),
    HeldOutSet("Korean, trained espeak voices", "ko", "train", "grammar"),
    HeldOutSet("English, trained flite voices", "en", "train-flite", "grammar"),
    HeldOutSet("English, trained festival voices", "en", "train-festival", "grammar", share=0.3),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one set; rates are shares, NaN where nothing was to be counted."""

    name: str
    num_utterances: int
    num_words: int
    word_error_rate: float
    language_accuracy: float
    median_start_error_s: float
    p90_start_error_s: float


class Model:
    """A Hugging Face folder in CTranslate2's form, float32 on one thread."""

    def __init__(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as name:
            converter = TransformersConverter(
                str(folder), copy_files=["tokenizer.json", "preprocessor_config.json"], low_cpu_mem_usage=True
            )
            converter.convert(name, quantization="float16", force=True)
            self._whisper = WhisperModel(name, device="cpu", compute_type="float32", cpu_threads=1)

    def hear(self, samples: np.ndarray, language: str | None = None, beam_size: int = 1) -> tuple[str, str, list]:
        """Return text, language (detected where none is given) and words with times; greedy, nothing tried again."""
        segments, info = self._whisper.transcribe(
            samples,
            language=language,
            beam_size=beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            compression_ratio_threshold=None,
            log_prob_threshold=None,
            word_timestamps=True,
        )
        heard = list(segments)
        words = [word for segment in heard for word in segment.words or ()]
        return " ".join(segment.text.strip() for segment in heard), info.language, words


def check_held_out(split: Split = "test") -> None:
    """Raise AssertionError if a voice or a sentence of the sets could have been trained on."""
    unseen, trained = set(espeak_variants("unseen")), set(espeak_variants("train"))
    assert unseen, "no held-out voices"
    assert not unseen & (trained | set(espeak_variants("dev")))
    for language in LANGUAGES:
        for utterance in held_out_utterances(5, language, 0, split=split):
            assert split_of(utterance.text) == split != "train"
            assert all(voice.split("+")[1] in unseen for voice in utterance.voices), utterance.voices


def utterances(test_set: HeldOutSet, num: int, seed: int, split: Split) -> Iterator[Utterance]:
    """Yield a set's utterances, with white noise where it says so."""
    num = max(1, round(num * test_set.share))
    rng = np.random.default_rng(seed)
    voices: Voices = "dev" if split == "dev" and test_set.voices == "unseen" else test_set.voices
    for utterance in held_out_utterances(num, test_set.language, seed, voices, test_set.kind, split):
        if test_set.snr_db is not None:
            noise = rng.standard_normal(utterance.samples.size).astype(np.float32)
            noisy = add_noise(utterance.samples, noise, test_set.snr_db)
            utterance = replace(utterance, samples=noisy)
        yield utterance


def evaluate(model: Model, test_set: HeldOutSet, num: int, seed: int, split: Split, show: int = 0) -> Figures:
    """Return a set's figures; print the first `show` texts that were heard wrongly."""
    num_errors = num_words = num_right = num_heard = 0
    errors_s: list[float] = []
    for utterance in utterances(test_set, num, seed, split):
        text, language, words = model.hear(utterance.samples)
        errors, length = count_word_errors(utterance.text, text)
        num_errors, num_words, num_heard = num_errors + errors, num_words + length, num_heard + 1
        num_right += language == utterance.language
        errors_s += start_errors(utterance, [(word.word.strip(), word.start) for word in words])
        if errors and show:
            show -= 1
            print(f"   said  {utterance.text}\n   heard {text}")
    return Figures(
        test_set.name,
        num_heard,
        num_words,
        num_errors / num_words,
        num_right / num_heard,
        float(np.median(errors_s)) if errors_s else float("nan"),
        float(np.quantile(errors_s, 0.9)) if errors_s else float("nan"),
    )


def start_errors(utterance: Utterance, heard: list[tuple[str, float]]) -> list[float]:
    """Return by how much the starts of rightly heard words are off, in seconds."""
    spoken_words = [TimedWord(word.name, word.start_s, None) for word in utterance.words]
    heard_words = [TimedWord(word, start_s, None) for word, start_s in heard]
    return [
        abs(spoken_words[i].start_s - heard_words[j].start_s)
        for i, j in align(spoken_words, heard_words)
        if i is not None and j is not None and spoken_words[i].word == heard_words[j].word
    ]


def silent_texts(model: Model, seed: int) -> dict[str, str]:
    """Return what is heard in silence and in white noise of several lengths; all should be empty."""
    rng = np.random.default_rng(seed)
    heard = {}
    for seconds in _SILENT_S:
        num = round(seconds * SAMPLE_RATE_HZ)
        heard[f"silence, {seconds:g} s"] = model.hear(np.zeros(num, np.float32))[0]
        for level_db in (-40, -20):
            noise = rng.standard_normal(num).astype(np.float32) * 10 ** (level_db / 20)
            heard[f"white noise at {level_db} dB, {seconds:g} s"] = model.hear(noise.astype(np.float32))[0]
    return heard


def print_report(
    folder: Path, num: int, seed: int = SEED, split: Split = "test", only: str = "", show: int = 0
) -> tuple[list[Figures], dict[str, str]]:
    """Print the table of a folder's figures, and what it hears where nobody speaks."""
    check_held_out(split)
    model = Model(folder)
    print(f"sentences of the split {split!r}, seed {seed}; padded to 30 s, greedy, faster-whisper float32")
    print("| set | utterances | words | WER % | language right % | word starts: median, p90 ms |\n|" + " --- |" * 6)
    figures = [_print_row(evaluate(model, each, num, seed, split, show)) for each in SETS if only in each.name]
    silent = silent_texts(model, seed)
    loud = {name: text for name, text in silent.items() if text}
    print(f"silence and noise: {len(silent) - len(loud)} of {len(silent)} give no text {loud or ''}")
    return figures, silent


def _print_row(figures: Figures) -> Figures:
    print(
        f"| {figures.name} | {figures.num_utterances} | {figures.num_words} | {100 * figures.word_error_rate:.1f} "
        f"| {100 * figures.language_accuracy:.0f} "
        f"| {1000 * figures.median_start_error_s:.0f}, {1000 * figures.p90_start_error_s:.0f} |",
        flush=True,
    )
    return figures


def main() -> None:
    """Evaluate a folder."""
    parser = argparse.ArgumentParser(prog="python -m training.whisper_micro.evaluate", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--num", type=int, default=100, help="utterances in a set")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--only", default="", help="sets whose name holds this")
    parser.add_argument("--show", type=int, default=0, help="wrongly heard texts to print for each set")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    figures, silent = print_report(
        arguments.folder, arguments.num, arguments.seed, arguments.split, arguments.only, arguments.show
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"sets": [asdict(each) for each in figures], "silent": silent}, indent=1))


if __name__ == "__main__":
    main()
