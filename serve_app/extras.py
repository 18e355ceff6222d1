"""Extras of this distribution (`pip install 'serve_app[drums]'`), and what needs the libraries that each brings.

A deployment whose libraries are not installed is left out of the graph; the others serve. Nothing is imported here to
find out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from serve_app.errors import ModelLoadingError
from serve_app.sentences import Sentence


@dataclass(frozen=True, slots=True)
class Need:
    """The extra that brings what something needs, and the modules that are looked for."""

    extra: str
    modules: tuple[str, ...]


_DRUMS = Need("drums", ("av", "matplotlib", "mido", "torch"))
_IMAGES = Need(
    "images",
    ("onnx", "onnxruntime", "openvino", "torch", "torchvision"),
)
_MUSIC = Need("music", ("av", "pretty_midi", "pyloudnorm"))
_WHISPER = ("faster_whisper", "tokenizers", "torch", "transformers")

# By name: deployments, models that a deployment has only where its options name them, and what Python callers use.
NEEDS = {
    "AudioAnalyzer": Need("speech", ("av", "faster_whisper")),
    "FasterWhisper": Need("speech", ("ctranslate2", *_WHISPER)),
    "TransformersWhisper": Need("speech", _WHISPER),
    "OpenAIWhisper": Need("speech", (*_WHISPER, "whisper")),
    "SpeechRecognizer": Need("speech", ("pocketsphinx",)),
    "Aligner": Need("video", ("torch", "torchaudio", "transformers", "whisperx")),
    "Diarizer": Need("video", ("lightning", "pyannote.audio", "torch", "torchaudio", "whisperx")),
    "EmotionRecognizer": Need("video", ("torch", "transformers")),
    "DrumTranscriber": _DRUMS,
    "ContainerClassifier": _IMAGES,
    "BeverageDetector": _IMAGES,
    "Captioner": _MUSIC,
    "MusicGenerator": _MUSIC,
    "MusicGen": Need("music-models", ("torch", "transformers")),
    "WhisperSTT": Need("speech", ("av", "faster_whisper", "librosa")),
    "evaluation of drums": Need("drums", ("mir_eval",)),
    "LocalCaptioner": Need("music-models", ("torch", "torchvision", "transformers")),
}


def missing(name: str) -> Sentence | None:
    """Return what to install for a deployment or model of `NEEDS`; None: its libraries are there, or it needs none.

    A deployment's fall-back on the CPU (`DiarizerCPU`) needs what the deployment needs.
    """
    need = NEEDS.get(name.removesuffix("CPU"))
    absent = [module for module in need.modules if not _is_installed(module)] if need else []
    if need is None or not absent:
        return None
    return Sentence(
        "{name} needs serve_app[{extra}]: pip install 'serve_app[{extra}]' (not installed here: {modules})",
        name=name,
        extra=need.extra,
        modules=", ".join(absent),
    )


def require(name: str) -> None:
    """Raise ModelLoadingError with what to install for a deployment or model of `NEEDS`."""
    if sentence := missing(name):
        raise ModelLoadingError(sentence)


def extras_with(module: str) -> list[str]:
    """Return the extras that bring a module; none: it is in no extra's table."""
    top = module.partition(".")[0]
    named = {need.extra for need in NEEDS.values() if any(each.partition(".")[0] == top for each in need.modules)}
    return sorted(named)


def left_out(deployments: Iterable[str]) -> list[str]:
    """Return a line for each extra that some of these deployments lack, for the one who starts the graph."""
    lacking: dict[str, list[str]] = {}
    for name in deployments:
        if missing(name):
            lacking.setdefault(NEEDS[name.removesuffix("CPU")].extra, []).append(name)
    return [
        f"left out, for want of serve_app[{extra}]: {', '.join(names)}. To serve them: pip install 'serve_app[{extra}]'"
        for extra, names in lacking.items()
    ]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        return False
