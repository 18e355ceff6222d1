"""Speech-to-text against the original libraries, on the same weights and the same real recordings.

    python -m loadtests.speech_reference --only clips long --backend faster-whisper --compute-type int8
    python -m loadtests.speech_reference --only noise starts speed

- clips: the clips of `../shared/data/speech`, each on its own, and the telephone call inside pyannote.audio; with
  several backends, how many words differ between them.
- long: the clips of a language one after the other three times, pauses of 0.4 s; words that are missing.
- noise: ten minutes in which nobody can be understood; words that are written all the same.
- starts: words' starts against the made dialogue's true times and against the starts of the call's segments.
- speed: CPU seconds, one thread each, in alternating rounds: the long file against BatchedInferencePipeline, and 100
  clips of 8 s against `WhisperModel.transcribe` (beam of 5), file after file.

English words are compared after Whisper's own normalizer; Korean, Japanese and Chinese by characters, without spaces
and punctuation. Errors are counted by meeteval. `missing` is the number of deletions.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from meeteval.wer.wer import combine_error_rates, siso_word_error_rate
from numpy.typing import NDArray

import serve_app.demo_media
from serve_app import WhisperSTT
from serve_app.demo_media import call_sample
from serve_app.media.decode import decode_audio
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.backend import SpeechPiece
from serve_app.models.speech.whisper.batched_backend import BatchedWhisper
from serve_app.models.speech.whisper.loading import load_whisper
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.models.weights import fetch_weights
from serve_app.scoring import score_result
from serve_app.settings import Settings

SAMPLE_RATE_HZ = 16_000
DIALOGUE = Path(serve_app.demo_media.__file__).parent / "dialogue.mp4"
LANGUAGES = ("en", "ko", "ja", "zh")
SECTIONS = ("clips", "long", "noise", "starts", "speed")
_PAUSE_S, _ROUNDS_OF_CLIPS = 0.4, 3
_NUM_SHORT, _SHORT_S = 100, 8.0

Samples = NDArray[np.float32]
Transcribe = Callable[[Samples, str], str]


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording and what is said in it."""

    name: str
    language: str
    samples: Samples
    text: str


def clips(data: Path, language: str) -> list[Clip]:
    """Return the clips of a language; the stereo clip, as one signal, has two texts at once and is left out."""
    found = []
    for line in (data / "speech" / "manifest.jsonl").read_text("utf-8").splitlines():
        about = json.loads(line)
        if about["language"].startswith(language) and not about["text"].startswith("[left]"):
            found.append(Clip(about["path"], language, decode_audio(str(data / about["path"])).samples, about["text"]))
    return found


def call() -> tuple[Clip, list[float]]:
    """Return the telephone call, and where its segments begin."""
    lines = [re.split(r"\s+", line, maxsplit=5) for line in call_sample(".stm").read_text("utf-8").splitlines()]
    text = " ".join(fields[5] for fields in lines if len(fields) == 6)
    starts_s = [float(fields[3]) for fields in lines if len(fields) == 6]
    return Clip("call", "en", decode_audio(str(call_sample(".wav"))).samples, text), starts_s


def long_clip(parts: Sequence[Clip]) -> Clip:
    """Return the clips one after the other, three times."""
    pause = np.zeros(round(_PAUSE_S * SAMPLE_RATE_HZ), np.float32)
    samples = [piece for _ in range(_ROUNDS_OF_CLIPS) for part in parts for piece in (part.samples, pause)]
    text = " ".join(part.text for _ in range(_ROUNDS_OF_CLIPS) for part in parts)
    return Clip("long", parts[0].language, np.concatenate(samples), text)


@cache
def _normalizers() -> tuple[Any, Any]:
    from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

    return EnglishTextNormalizer(), BasicTextNormalizer()


def units(text: str, language: str) -> str:
    """Return what is compared, separated by spaces."""
    english, basic = _normalizers()
    return english(text) if language == "en" else " ".join(basic(text).replace(" ", ""))


def errors(said: Sequence[Clip], texts: Sequence[str]) -> Any:
    """Return the error rate over all clips."""
    return combine_error_rates(
        *(
            siso_word_error_rate(units(clip.text, clip.language), units(text, clip.language))
            for clip, text in zip(said, texts, strict=True)
        )
    )


def noise(data: Path, minutes: float) -> dict[str, Samples]:
    """Return sounds of equal length in which nobody can be understood: silence, hum, music, the babble of 20 voices."""
    rng = np.random.default_rng(1)
    count = round(minutes * 60 * SAMPLE_RATE_HZ)
    times_s = np.arange(count) / SAMPLE_RATE_HZ
    hum = 0.05 * sum(np.sin(2 * np.pi * 50 * k * times_s) / k for k in range(1, 8))
    music = np.zeros(count)
    for first in range(0, count, SAMPLE_RATE_HZ // 2):
        pitch_hz = 220 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11]) / 12)
        note_s = np.arange(min(SAMPLE_RATE_HZ, count - first)) / SAMPLE_RATE_HZ
        tone = sum(np.sin(2 * np.pi * pitch_hz * k * note_s) / k for k in range(1, 6))
        music[first : first + note_s.size] += 0.1 * np.exp(-3 * note_s) * tone
    voices = sorted((data / "speakers").glob("*.flac"))
    babble = np.zeros(count)
    for _ in range(20):
        at = int(rng.integers(0, 5 * SAMPLE_RATE_HZ))
        while at < count:
            voice = decode_audio(str(voices[rng.integers(len(voices))])).samples[: count - at]
            babble[at : at + voice.size] += 0.03 * voice / max(1e-6, float(np.sqrt(np.mean(voice**2))))
            at += voice.size
    white = 0.003 * rng.standard_normal(count)
    sounds = {"silence": np.zeros(count), "hum": hum + white, "music": music, "babble": babble}
    return {name: sound.astype(np.float32) for name, sound in sounds.items()}


class Libraries:
    """The original libraries on one checkpoint of the catalog.

    Args:
        model: name of the checkpoint.
        compute_type: of CTranslate2.
        models_dir: where it is kept.
    """

    def __init__(self, model: str, compute_type: str, models_dir: Path) -> None:
        self._folder = fetch_weights(model, models_dir)
        self._model = model
        self._compute_type = compute_type
        self._models_dir = models_dir

    @cache  # noqa: B019 - one per run
    def faster_whisper(self) -> Any:
        """Return faster-whisper's model."""
        from faster_whisper import WhisperModel

        return WhisperModel(str(self._folder), device="cpu", compute_type=self._compute_type, cpu_threads=1)

    def ways(self, backend: BackendName) -> dict[str, Transcribe]:
        """Return the ways to transcribe with the library behind a backend."""
        if backend is BackendName.FASTER_WHISPER:
            return self.faster_whisper_ways()
        from serve_app.models.speech.whisper.checkpoint import open_checkpoint

        checkpoint = open_checkpoint(self._folder, name=self._model, cache_dir=self._models_dir)
        if backend is BackendName.OPENAI_WHISPER:
            import whisper

            from serve_app.models.speech.whisper.conversion import to_openai

            model = whisper.load_model(str(to_openai(checkpoint, self._models_dir)), device="cpu")

            def by_openai(samples: Samples, language: str) -> str:
                return str(model.transcribe(samples, language=language, fp16=False)["text"])

            return {"whisper.transcribe": by_openai}
        from transformers import pipeline
        from transformers.pipelines import automatic_speech_recognition

        from serve_app.models.speech.whisper.conversion import to_hugging_face

        folder = to_hugging_face(checkpoint, self._models_dir)
        recognizer = pipeline("automatic-speech-recognition", model=str(folder), device="cpu")

        def by_transformers(samples: Samples, language: str) -> str:
            asked = {"language": language, "task": "transcribe"} if language else {}
            inputs = {"raw": samples.copy(), "sampling_rate": SAMPLE_RATE_HZ}
            # torchcodec is installed, but without the ffmpeg that it wants: the pipeline need not look at it
            with patch.object(automatic_speech_recognition, "is_torchcodec_available", return_value=False):
                return str(recognizer(inputs, return_timestamps=True, generate_kwargs=asked)["text"])

        return {"transformers pipeline": by_transformers}

    def faster_whisper_ways(self) -> dict[str, Transcribe]:
        """Return faster-whisper's ways."""
        from faster_whisper import BatchedInferencePipeline

        model = self.faster_whisper()
        pipeline = BatchedInferencePipeline(model)
        batched = {"beam_size": 1, "batch_size": 8}
        timed = {"batch_size": 8, "word_timestamps": True}
        return {
            "transcribe, beam 5": partial(_text, model.transcribe),
            "transcribe, greedy": partial(_text, model.transcribe, beam_size=1),
            "BatchedInferencePipeline, greedy": partial(_text, pipeline.transcribe, **batched),
            "BatchedInferencePipeline, greedy, words": partial(_text, pipeline.transcribe, **timed, beam_size=1),
            "BatchedInferencePipeline, beam 5, words": partial(_text, pipeline.transcribe, **timed),
        }


def _text(transcribe: Callable[..., Any], samples: Samples, language: str, **options: Any) -> str:
    segments, _ = transcribe(samples, language=language, **options)
    return " ".join(segment.text.strip() for segment in segments)


def ours(stt: WhisperSTT) -> Transcribe:
    """Return our way."""
    return lambda samples, language: str(stt.transcribe(samples, language=language)["text"])


def show_errors(title: str, said: Sequence[Clip], ways: dict[str, Transcribe]) -> list[str]:
    """Print a row for each way; return what the first one transcribed."""
    first: list[str] = []
    seconds = sum(clip.samples.size for clip in said) / SAMPLE_RATE_HZ
    for name, transcribe in ways.items():
        began = time.process_time()
        texts = [transcribe(clip.samples, clip.language) for clip in said]
        cpu_s = time.process_time() - began
        first = first or texts
        found = errors(said, texts)
        print(
            f"| {title} | {name} | {found.length} | {100 * found.error_rate:.2f} | {found.deletions} | "
            f"{found.insertions} | {cpu_s / seconds:.3f} |",
            flush=True,
        )
    return first


def show_agreement(said: Sequence[Clip], by_backend: dict[str, list[str]]) -> None:
    """Print how many words differ between our backends, of all words of the clips."""
    header("clips, between", "words", "differ %")
    for one, other in combinations(by_backend, 2):
        reference = [
            Clip(clip.name, clip.language, clip.samples, text) for clip, text in zip(said, by_backend[one], strict=True)
        ]
        found = errors(reference, by_backend[other])
        print(f"| {one}, {other} | {found.length} | {100 * found.error_rate:.2f} |", flush=True)


def header(*titles: str) -> None:
    """Print the head of a table."""
    print(f"\n| {' | '.join(titles)} |\n|{' --- |' * len(titles)}", flush=True)


def show_noise(data: Path, stt: WhisperSTT, minutes: float) -> None:
    """Print the words of each kind of noise, with the language told and not told."""
    header("noise", "minutes", "language", "words", "text", "notes")
    for name, samples in noise(data, minutes / 4).items():
        for language in ("en", "auto"):
            heard = stt.transcribe(samples, language=language)
            words = heard["text"].split()
            print(
                f"| {name} | {minutes / 4:g} | {language} | {len(words)} | {heard['text'][:60]} | "
                f"{'; '.join(heard['notes'])[:200]} |",
                flush=True,
            )


def show_starts(stt: WhisperSTT) -> None:
    """Print how far words' starts are off."""
    header("recording", "words or segments", "median start error, ms", "p90, ms")
    truth = json.loads(DIALOGUE.with_suffix(".json").read_text("utf-8"))
    heard = stt.transcribe(DIALOGUE, language="en")
    words = [word for segment in heard["segments"] for word in segment["words"]]
    result = {"word_segments": [{"word": w["word"], "start_time": w["start"], "speaker_id": None} for w in words]}
    scores = score_result(result, truth)
    print(
        f"| made dialogue | {scores.num_words} | {1000 * scores.median_word_start_error_s:.0f} | "
        f"{1000 * scores.p90_word_start_error_s:.0f} |"
    )
    clip, starts_s = call()
    heard = stt.transcribe(clip.samples, language="en")
    found_s = np.array([word["start"] for segment in heard["segments"] for word in segment["words"]])
    off_s = [float(np.abs(found_s - start_s).min()) for start_s in starts_s]
    print(
        f"| call, nearest word to each segment's start | {len(off_s)} | {1000 * statistics.median(off_s):.0f} | "
        f"{1000 * float(np.quantile(off_s, 0.9)):.0f} |",
        flush=True,
    )


def show_speed(data: Path, stt: WhisperSTT, backend: BatchedWhisper, libraries: Libraries, rounds: int) -> None:
    """Print CPU seconds of alternating rounds."""
    ways = libraries.faster_whisper_ways()
    batched = {name: way for name, way in ways.items() if name.startswith("Batched")}
    said = long_clip(clips(data, "en"))
    _alternate("one long file", {"serve_app": ours(stt), **batched}, [said], rounds)
    voices = sorted((data / "speakers").glob("*.flac"))[:_NUM_SHORT]
    short = [
        Clip(path.stem, "en", decode_audio(str(path)).samples[: round(_SHORT_S * SAMPLE_RATE_HZ)], "")
        for path in voices
    ]
    _alternate(
        f"{_NUM_SHORT} clips of {_SHORT_S:g} s",
        {"serve_app": ours(stt), "transcribe, beam 5": ways["transcribe, beam 5"]},
        short,
        rounds,
        together=backend,
    )
    show_steps(backend, short)


def show_steps(backend: BatchedWhisper, said: Sequence[Clip]) -> None:
    """Print which step of our way takes how many CPU seconds."""
    header("where the time goes", "CPU s", "share")
    taken: dict[str, float] = {}

    def timed(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return step(*arguments, **options)
            finally:
                taken[name] = taken.get(name, 0.0) + time.process_time() - began

        return run

    steps = {"encoder": "_encode", "decoder": "_generate", "word times": "_align"}
    with ExitStack() as replaced:
        for name, method in steps.items():
            replaced.enter_context(patch.object(backend, method, timed(name, getattr(backend, method))))
        began = time.process_time()
        _transcribe_together(backend, said)
        whole_s = time.process_time() - began
    taken["the rest (voice activity, spectrograms, words)"] = whole_s - sum(taken.values())
    for name, seconds in taken.items():
        print(f"| {name} | {seconds:.1f} | {seconds / whole_s:.0%} |", flush=True)


def _alternate(
    title: str, ways: dict[str, Transcribe], said: Sequence[Clip], rounds: int, together: BatchedWhisper | None = None
) -> None:
    seconds = sum(clip.samples.size for clip in said) / SAMPLE_RATE_HZ
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else list(ways)[::-1]:
            gc.collect()
            began = time.process_time()
            if together is not None and name == "serve_app":
                _transcribe_together(together, said)
            else:
                for clip in said:
                    ways[name](clip.samples, clip.language)
            taken[name].append(time.process_time() - began)
    header(title, "CPU s, median", "rounds", "CPU s per s", "speed of serve_app / it")
    own = statistics.median(taken["serve_app"])
    for name, values in taken.items():
        median = statistics.median(values)
        shown = ", ".join(f"{value:.1f}" for value in values)
        print(f"| {name} | {median:.1f} | {shown} | {median / seconds:.3f} | {median / own:.2f} |", flush=True)


def _transcribe_together(backend: BatchedWhisper, said: Sequence[Clip]) -> None:
    """Transcribe short recordings as a replica does that many clients call: pieces of all of them in batches."""
    from serve_app.models.speech.pieces import recognizer_pieces
    from serve_app.models.speech.voice_activity import detect_speech

    pieces = []
    for clip in said:
        speech = detect_speech(clip.samples)
        for region in recognizer_pieces(speech, clip.samples.size / SAMPLE_RATE_HZ):
            first, last = round(region.start_s * SAMPLE_RATE_HZ), round(region.end_s * SAMPLE_RATE_HZ)
            pieces.append(SpeechPiece(clip.samples[first:last], region.start_s, clip.language, speech=speech))
    backend.transcribe(pieces)


def cpu_name() -> str:
    """Return the processor's name and what it computes with."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor()
    name = re.search(r"model name\s*: (.*)", text)
    flags = [flag for flag in ("avx2", "avx512f", "amx_int8") if re.search(rf"\b{flag}\b", text)]
    return f"{name[1] if name else platform.processor()} ({', '.join(flags)})"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.speech_reference", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--backend", nargs="+", type=BackendName, default=[BackendName.FASTER_WHISPER])
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--beam-size", type=int, help="of serve_app; default: what suits each backend")
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES))
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--ours-alone", action="store_true", help="clips: without the libraries' ways")
    parser.add_argument("--minutes", type=float, default=10.0, help="of noise")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    models_dir = Settings.from_environment().models_dir
    libraries = Libraries(arguments.model, arguments.compute_type, models_dir)
    print(f"{time.strftime('%F %H:%M')}, {cpu_name()}, one thread, {arguments.model}, {arguments.compute_type}")
    transcribed: dict[str, list[str]] = {}
    for backend in arguments.backend:
        stt = WhisperSTT(
            arguments.model,
            "cpu",
            compute_type=arguments.compute_type,
            backends=[backend],
            beam_size=arguments.beam_size,
            num_threads=1,
            cache_dir=models_dir,
        )
        version = stt.load()
        own = {f"serve_app, {version}": ours(stt)}
        if "clips" in arguments.only:
            ways = {**own, **({} if arguments.ours_alone else libraries.ways(backend))}
            header("clips", "way", "words", "WER %", "missing", "added", "CPU s per s")
            for language in arguments.languages:
                spoken = clips(arguments.data, language)
                transcribed.setdefault(str(backend), []).extend(show_errors(language, spoken, ways))
            show_errors("call", [call()[0]], ways)
        if "long" in arguments.only:
            header("long file", "way", "words", "WER %", "missing", "added", "CPU s per s")
            for language in arguments.languages[:2]:
                # they are the same for all backends
                ways = {**own, **(libraries.faster_whisper_ways() if backend is arguments.backend[0] else {})}
                show_errors(language, [long_clip(clips(arguments.data, language))], ways)
        if "noise" in arguments.only:
            show_noise(arguments.data, stt, arguments.minutes)
        if "starts" in arguments.only:
            show_starts(stt)
        if "speed" in arguments.only:
            options = WhisperOptions(
                cache_dir=models_dir,
                device="cpu",
                compute_type=arguments.compute_type,
                beam_size=arguments.beam_size,
            )
            loaded = load_whisper(backend, [arguments.model], options).backend
            show_speed(arguments.data, stt, loaded, libraries, arguments.rounds)
    if len(transcribed) > 1:
        everything = [clip for language in arguments.languages for clip in clips(arguments.data, language)]
        show_agreement(everything, transcribed)


if __name__ == "__main__":
    main()
