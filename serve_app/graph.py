"""`build`: binds the graph's deployments to each other (`import_path: serve_app.graph:build` of the configs)."""

# no `from __future__ import annotations`: Serve reads the annotation of `args` to build GraphArgs

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pydantic import SecretStr
from ray.serve import Application

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
from serve_app.extras import missing
from serve_app.flows.deployments import Deployments
from serve_app.flows.handles import Placed
from serve_app.flows.music import MusicModels
from serve_app.flows.speech_to_text import SpeechModels
from serve_app.flows.video import VideoModels
from serve_app.graph_args import GraphArgs
from serve_app.models.devices import AUTO
from serve_app.models.images.tasks import BEVERAGE, CONTAINER
from serve_app.models.music.options import MusicOptions
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.backend import known_languages
from serve_app.settings import Settings
from serve_app.workers.ingress import Ingress
from serve_app.workers.job_runner import JobRunner
from serve_app.workers.queue_depth_policy import by_queue_depth

_CPU: Mapping[str, Any] = MappingProxyType({"device": "cpu"})


def build(args: GraphArgs) -> Application:
    """Return the application. Only this function reads the settings from the environment."""
    settings = Settings.from_environment()
    environment = ModelEnvironment(
        models_dir=settings.models_dir,
        hf_token=_clear(settings.hf_token),
        mirror=_clear(settings.model_mirror),
        caption_api_key=_clear(settings.caption_api_key),
        music_api_key=_clear(settings.music_api_key),
    )

    def placed(deployment: Any, options: Any, **more: Any) -> list[Placed[Any]]:
        options = replace(options, device=options.device or settings.device)
        return _placed(deployment, options, cpu_fallback=options.cpu_fallback, environment=environment, **more)

    classifiers = [
        (deployment, task, options)
        for deployment, task, options in (
            (ContainerClassifier, CONTAINER, args.images.container),
            (BeverageDetector, BEVERAGE, args.images.beverage),
        )
        if options.enabled
    ]
    deployments = Deployments(
        video=VideoModels(
            analyzer=_bound(AudioAnalyzer, options=args.analyzer, max_duration_s=settings.max_duration_s),
            speech=_speech(args, settings, environment),
            speech_order=args.speech.video_order,
            diarizers=placed(Diarizer, args.diarizer),
            emotion=placed(EmotionRecognizer, args.emotion) if args.emotion.model_id else (),
        ),
        drums=placed(DrumTranscriber, args.drums),
        classifiers={
            task.name: placed(deployment, options, task=task, max_pixels=settings.max_image_pixels)
            for deployment, task, options in classifiers
        },
        music=MusicModels(
            captioners=placed(Captioner, args.captions, max_pixels=settings.max_image_pixels),
            generator=_music_generator(args.music, settings, environment),
            engines=args.music.engines,
        ),
    )
    scaling = by_queue_depth(args.job_runner, settings.database_url.get_secret_value())
    return Ingress.bind(
        settings=settings,
        options=args.ingress,
        environment=environment,
        deployments=deployments,
        local_classifiers={
            task.name: options
            for deployment, task, options in classifiers
            if options.in_ingress and missing(deployment.name) is None
        },
        job_runner=JobRunner.options(autoscaling_config=scaling).bind(
            settings=settings, options=args.job_runner, deployments=deployments
        ),
    )


def _music_generator(options: MusicOptions, settings: Settings, environment: ModelEnvironment) -> Placed[Any]:
    # no twin on the CPU: the next engine is the fall-back
    options = replace(options, device=options.device or settings.device)
    [generator] = _placed(MusicGenerator, options, environment=environment)
    return generator


def _speech(args: GraphArgs, settings: Settings, environment: ModelEnvironment) -> SpeechModels:
    device = args.whisper.device or settings.stt_device or settings.device
    whisper = replace(args.whisper, device=device, compute_type=args.whisper.compute_type or settings.stt_compute_type)
    # the CPU may not have the number format that was chosen for the GPU
    on_cpu = _CPU if device == "cpu" else {"device": "cpu", "compute_type": None}
    backends = {
        name: _placed(
            deployment,
            whisper,
            on_cpu,
            cpu_fallback=whisper.backend(name).cpu_fallback,
            environment=environment,
        )
        for name, deployment in (
            (BackendName.FASTER_WHISPER, FasterWhisper),
            (BackendName.TRANSFORMERS, TransformersWhisper),
            (BackendName.OPENAI_WHISPER, OpenAIWhisper),
        )
        if whisper.backend(name).enabled
    }
    known = known_languages(whisper.models)
    languages = {} if known is None else dict.fromkeys(backends, known)
    aligner = replace(args.aligner, device=args.aligner.device or settings.device)
    [aligning] = _placed(Aligner, aligner, environment=environment) if aligner.models else [None]
    return SpeechModels(
        backends=backends | {BackendName.POCKETSPHINX: [_bound(SpeechRecognizer)]},
        models=dict.fromkeys(backends, whisper.models[0]) | {BackendName.POCKETSPHINX: "embedded:pocketsphinx-en-us"},
        aligner=aligning,
        aligned_languages=tuple(aligner.models),
        max_pause_s=whisper.max_pause_s,
        languages=languages | {BackendName.POCKETSPHINX: frozenset({"en"})},
    )


def _placed(
    deployment: Any, options: Any, on_cpu: Mapping[str, Any] = _CPU, *, cpu_fallback: bool = False, **more: Any
) -> list[Placed[Any]]:
    """Return a deployment on its device and its fall-back, a second deployment whose name ends in CPU.

    A replica resolves `auto` by the `num_gpus` of `deployments:`, which Serve applies after the graph is built. Here
    `auto` counts as a GPU where there is a fall-back, for jobs that must not use one, else as the CPU
    (docs/decisions/0013-auto-device.md).
    """
    on_gpu = cpu_fallback if options.device == AUTO else options.device != "cpu"
    placed = [_bound(deployment, on_gpu=on_gpu, options=options, **more)]
    if cpu_fallback and placed[0].missing is None:
        twin = deployment.options(name=f"{deployment.name}CPU")
        placed.append(Placed(twin.name, twin.bind(options=replace(options, **on_cpu), **more), on_gpu=False))
    return placed


def _bound(deployment: Any, *, on_gpu: bool = False, **arguments: Any) -> Placed[Any]:
    """Return a deployment with the arguments of its constructor, left out where its libraries are not installed."""
    reason = missing(deployment.name)
    return Placed(deployment.name, None if reason else deployment.bind(**arguments), on_gpu=on_gpu, missing=reason)


def _clear(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
