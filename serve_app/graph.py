"""The whole graph on one screen: deployments, bound to each other.

`build` is what `serve run configs/local.yaml` and `serve deploy` call (`import_path: serve_app.graph:build`).
"""

# no `from __future__ import annotations` here: Serve looks at the annotation of `args` itself to build GraphArgs

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from sqlalchemy.engine import make_url

from serve_app.deployments.aligner import Aligner, AlignerOptions
from serve_app.deployments.audio_analyzer import AudioAnalyzer
from serve_app.deployments.diarizer import Diarizer, DiarizerSource
from serve_app.deployments.drum_transcriber import DrumModelOptions, DrumTranscriber
from serve_app.deployments.emotion_recognizer import EmotionRecognizer
from serve_app.deployments.image_classifier import (
    BeverageDetector,
    ClassifierArguments,
    ContainerClassifier,
    ImageHandling,
)
from serve_app.deployments.pocketsphinx import SpeechRecognizer
from serve_app.deployments.whisper import Batching, FasterWhisper, OpenAIWhisper, TransformersWhisper
from serve_app.flows.handles import Placed
from serve_app.flows.images import ImageLimits
from serve_app.flows.speech_to_text import SpeechModels
from serve_app.flows.video import VideoModels
from serve_app.graph_args import BackendArgs, ClassifierArgs, GraphArgs, RunnerArgs, WhisperArgs
from serve_app.models.images.loading import ClassifierOptions
from serve_app.models.images.tasks import BEVERAGE, CONTAINER, ImageTask
from serve_app.models.speech.whisper.backend import BackendName, known_languages
from serve_app.models.speech.whisper.options import WhisperOptions
from serve_app.settings import Settings
from serve_app.workers.ingress import DirectLimits, Ingress
from serve_app.workers.job_runner import JobRunner, RunnerOptions
from serve_app.workers.queue_depth_policy import QueueDepthPolicy


def build(args: GraphArgs) -> Application:
    """Return the whole application; settings come from the environment, here and nowhere else."""
    settings = Settings.from_environment()
    models_dir, hf_token = settings.models_dir, _hf_token(settings)

    analyzer: Placed[Any] = Placed(
        AudioAnalyzer.name, AudioAnalyzer.bind(settings.max_duration_s, args.analyzer.num_threads)
    )
    speech = _speech_models(args, settings)
    diarizer_source = DiarizerSource(
        args.diarizer.segmentation,
        tuple(args.diarizer.embeddings),
        models_dir,
        model_id=args.diarizer.model_id,
        hf_token=hf_token,
        mirror=_mirror(settings),
    )
    diarizers = _placed(
        Diarizer,
        lambda device: (device, args.diarizer.num_threads, diarizer_source),
        _device(settings, args.diarizer.device),
        args.diarizer.cpu_fallback,
    )
    emotion = args.emotion.model_id and _placed(
        EmotionRecognizer,
        lambda device: (args.emotion.model_id, device, args.emotion.num_threads, models_dir, hf_token),
        _device(settings, args.emotion.device),
        args.emotion.cpu_fallback,
    )
    models = VideoModels(analyzer, speech, args.speech.video_order, diarizers, emotion or ())
    names = [placed.name for placed in models.placed()]
    drums = _drum_transcribers(args, settings)
    classifiers = {
        task.name: _classifiers(deployment, task, classifier, settings)
        for deployment, task, classifier in (
            (ContainerClassifier, CONTAINER, args.images.container),
            (BeverageDetector, BEVERAGE, args.images.beverage),
        )
        if classifier.enabled
    }

    local_classifiers = {
        task.name: _classifier_arguments(task, classifier, settings, "cpu")
        for task, classifier in ((CONTAINER, args.images.container), (BEVERAGE, args.images.beverage))
        if classifier.enabled and classifier.in_ingress
    }

    job_runner = JobRunner.options(autoscaling_config=_by_queue_depth(args.job_runner, settings)).bind(
        settings, _runner_options(args.job_runner), models, names
    )
    limits = DirectLimits(
        args.ingress.max_direct_analyses,
        args.ingress.max_direct_transcriptions,
        args.ingress.max_direct_pieces,
        args.ingress.max_direct_drums,
        ImageLimits(args.ingress.max_direct_images, args.ingress.max_image_calls),
    )
    names += [placed.name for group in (drums, *classifiers.values()) for placed in group]
    names += [JobRunner.name, Ingress.name]
    return Ingress.bind(settings, names, limits, models, drums, classifiers, local_classifiers, job_runner)


def _speech_models(args: GraphArgs, settings: Settings) -> SpeechModels:
    whisper, aligner = args.whisper, args.aligner
    backends = {
        name: _whisper(deployment, backend, whisper, settings)
        for name, deployment, backend in (
            (BackendName.FASTER_WHISPER, FasterWhisper, whisper.faster_whisper),
            (BackendName.TRANSFORMERS, TransformersWhisper, whisper.transformers),
            (BackendName.OPENAI_WHISPER, OpenAIWhisper, whisper.openai_whisper),
        )
        if backend.enabled
    }
    specs = dict.fromkeys(backends, whisper.models[0])
    backends[BackendName.POCKETSPHINX] = _placed(SpeechRecognizer, lambda device: (), "cpu", cpu_fallback=False)
    specs[BackendName.POCKETSPHINX] = "embedded:pocketsphinx-en-us"
    known = known_languages(whisper.models)
    languages = {BackendName.POCKETSPHINX: frozenset({"en"})}
    if known is not None:
        languages |= {name: known for name in specs if name is not BackendName.POCKETSPHINX}
    speech = SpeechModels(backends, specs, whisper_pause_s=whisper.max_pause_s, languages=languages)
    if not aligner.models:
        return speech
    device = _device(settings, aligner.device)
    options = AlignerOptions(device, aligner.num_threads, settings.models_dir, _hf_token(settings))
    [placed] = _placed(Aligner, lambda device: (aligner.models, options), device, cpu_fallback=False)
    return replace(speech, aligner=placed, aligned_languages=tuple(aligner.models))


def _whisper(deployment: Any, backend: BackendArgs, whisper: WhisperArgs, settings: Settings) -> list[Placed[Any]]:
    compute_type = whisper.compute_type or settings.stt_compute_type
    if deployment is not FasterWhisper and (compute_type or "").startswith("int"):
        compute_type = None  # a number format of CTranslate2's: one name must not take the other backends down
    options = WhisperOptions(
        cache_dir=settings.models_dir,
        device=_device(settings, whisper.device or settings.stt_device),
        compute_type=compute_type,
        num_threads=backend.num_threads,
        beam_size=backend.beam_size,
        batch_size=backend.batch_size,
        hf_token=_hf_token(settings),
        model_mirror=_mirror(settings),
    )

    def arguments(device: str) -> tuple[Any, ...]:
        # a number format that was chosen for the GPU may be none of the CPU's
        compute_type = options.compute_type if device == options.device else None
        on_device = replace(options, device=device, compute_type=compute_type)
        return whisper.models, on_device, Batching(backend.batch_size, backend.batch_wait_s)

    return _placed(deployment, arguments, options.device, backend.cpu_fallback)


def _drum_transcribers(args: GraphArgs, settings: Settings) -> list[Placed[Any]]:
    drums = args.drums
    options = DrumModelOptions(
        cache_dir=settings.models_dir,
        num_threads=drums.num_threads,
        num_readers=drums.num_readers,
        batch_size=drums.batch_size,
        batch_wait_s=drums.batch_wait_s,
        half=drums.half,
        hf_token=_hf_token(settings),
    )
    return _placed(
        DrumTranscriber,
        lambda device: (drums.model, replace(options, device=device)),
        _device(settings, drums.device),
        drums.cpu_fallback,
    )


def _classifiers(deployment: Any, task: ImageTask, args: ClassifierArgs, settings: Settings) -> list[Placed[Any]]:
    def arguments(device: str) -> tuple[Any, ...]:
        made = _classifier_arguments(task, args, settings, device)
        return made.model, made.options, made.handling

    return _placed(deployment, arguments, _device(settings, args.device), args.cpu_fallback)


def _classifier_arguments(
    task: ImageTask, args: ClassifierArgs, settings: Settings, device: str
) -> ClassifierArguments:
    options = ClassifierOptions(
        cache_dir=settings.models_dir,
        device=device,
        engine=args.engine,
        precision=args.precision,
        num_threads=args.num_threads,
        max_difference=args.max_difference,
        activation=args.activation,
        calibration=args.calibration,
        hf_token=_hf_token(settings),
    )
    handling = ImageHandling(args.fit, settings.max_image_pixels, args.num_decoders, args.batch_size, args.batch_wait_s)
    return ClassifierArguments(args.model or task.embedded, options, handling)


def _placed(
    deployment: Any, arguments: Callable[[str], tuple[Any, ...]], device: str, cpu_fallback: bool
) -> list[Placed[Any]]:
    """Return a deployment on its device and, as another one whose name ends in CPU, its fall-back."""
    placed: list[Placed[Any]] = [Placed(deployment.name, deployment.bind(*arguments(device)), on_gpu=device != "cpu")]
    if cpu_fallback:
        twin = deployment.options(name=f"{deployment.name}CPU")
        placed.append(Placed(twin.name, twin.bind(*arguments("cpu")), on_gpu=False))
    return placed


def _device(settings: Settings, given: str | None) -> str:
    """Return where a model runs; "auto" is the CPU, as a GPU needs `num_gpus` in the config beside it."""
    device = given or settings.device
    return "cpu" if device == "auto" else device


def _hf_token(settings: Settings) -> str | None:
    return settings.hf_token.get_secret_value() if settings.hf_token else None


def _mirror(settings: Settings) -> str | None:
    return settings.model_mirror.get_secret_value() if settings.model_mirror else None


def _runner_options(args: RunnerArgs) -> RunnerOptions:
    return RunnerOptions(args.jobs_per_replica, args.lease_s, args.poll_interval_s, args.max_attempts)


def _by_queue_depth(args: RunnerArgs, settings: Settings) -> AutoscalingConfig:
    url = settings.database_url.get_secret_value()
    # Serve shows a policy's arguments in its status: a URL with a password is read from the environment there
    shown = None if make_url(url).password else url
    return AutoscalingConfig(
        min_replicas=args.min_replicas,
        max_replicas=args.max_replicas,
        initial_replicas=max(args.min_replicas, 1),
        upscale_delay_s=args.upscale_delay_s,
        downscale_delay_s=args.downscale_delay_s,
        policy=AutoscalingPolicy(
            policy_function=QueueDepthPolicy,
            policy_kwargs={"database_url": shown, "jobs_per_replica": args.jobs_per_replica},
        ),
    )
