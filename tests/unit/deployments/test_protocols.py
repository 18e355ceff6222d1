"""Each deployment has the methods that flows call, with the Protocol's parameters and results."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from serve_app.deployments import protocols
from serve_app.deployments.aligner import Aligner
from serve_app.deployments.audio_analyzer import AudioAnalyzer
from serve_app.deployments.captioner import Captioner
from serve_app.deployments.diarizer import Diarizer
from serve_app.deployments.drum_transcriber import DrumTranscriber
from serve_app.deployments.emotion_recognizer import EmotionRecognizer
from serve_app.deployments.image_classifier import BeverageDetector, ContainerClassifier
from serve_app.deployments.music_generator import MusicGenerator
from serve_app.deployments.pocketsphinx import SpeechRecognizer
from serve_app.deployments.whisper import FasterWhisper, OpenAIWhisper, TransformersWhisper
from serve_app.workers.ingress import Ingress

SERVED: dict[Any, list[Any]] = {
    protocols.AnalyzesAudio: [AudioAnalyzer],
    protocols.TranscribesSpeech: [FasterWhisper, TransformersWhisper, OpenAIWhisper, SpeechRecognizer],
    protocols.DetectsLanguages: [FasterWhisper, TransformersWhisper, OpenAIWhisper],
    protocols.Aligns: [Aligner],
    protocols.Diarizes: [Diarizer],
    protocols.RecognizesEmotion: [EmotionRecognizer],
    protocols.TranscribesDrums: [DrumTranscriber],
    protocols.ClassifiesImages: [ContainerClassifier, BeverageDetector],
    protocols.CaptionsPictures: [Captioner],
    protocols.MakesMusic: [MusicGenerator],
    protocols.CaptionsPictures: [Captioner],
    protocols.Describes: [
        Captioner,
        FasterWhisper,
        TransformersWhisper,
        OpenAIWhisper,
        SpeechRecognizer,
        Diarizer,
        DrumTranscriber,
        MusicGenerator,
        ContainerClassifier,
        BeverageDetector,
    ],
    protocols.Reloads: [ContainerClassifier, BeverageDetector],
    protocols.HostsModels: [Ingress],
}


def methods_of(protocol: type) -> dict[str, Any]:
    return {name: method for name, method in inspect.getmembers(protocol, inspect.isfunction) if name[0] != "_"}


def shape(method: Any) -> tuple[list[tuple[str, Any, Any, str]], str]:
    """Return a method's parameters and result; `Any` in place of the types that deployments import locally only."""
    signature = inspect.signature(method)
    local = {"DecodedAudio": "Any", "FrameFeatures": "Any"}
    parameters = [
        (each.name, each.kind, each.default, local.get(each.annotation, each.annotation))
        for each in signature.parameters.values()
    ]
    return parameters, local.get(signature.return_annotation, signature.return_annotation)


@pytest.mark.parametrize(
    ("protocol", "deployment"),
    [(protocol, deployment) for protocol, deployments in SERVED.items() for deployment in deployments],
    ids=lambda each: getattr(each, "__name__", None) or each.name,
)
def test_a_deployment_has_the_methods_of_its_protocols(protocol: type, deployment: Any) -> None:
    served = deployment.func_or_class
    assert methods_of(protocol)
    for name, method in methods_of(protocol).items():
        answers_by_parts = str(inspect.signature(method).return_annotation).startswith("AsyncIterator")
        is_right = inspect.isasyncgenfunction if answers_by_parts else inspect.iscoroutinefunction
        assert is_right(getattr(served, name))
        assert shape(getattr(served, name)) == shape(method)


def test_no_protocol_is_left_out() -> None:
    found = {each for _, each in inspect.getmembers(protocols, inspect.isclass) if getattr(each, "_is_protocol", False)}
    assert found - {protocols.Protocol} == set(SERVED)
