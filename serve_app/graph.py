"""The whole graph on one screen: deployments, bound to each other.

`build` is what `serve run configs/local.yaml` and `serve deploy` call (`import_path: serve_app.graph:build`). Only
numbers that a deployment's constructor takes are arguments here; replicas, GPU fractions, concurrency and queue
bounds stand under `deployments:` in the same config file.
"""

# no `from __future__ import annotations` here: Serve looks at the annotation of `args` itself to build GraphArgs

from pydantic import BaseModel, ConfigDict, Field
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from sqlalchemy.engine import make_url

from serve_app.deployments.audio_analyzer import AudioAnalyzer
from serve_app.deployments.diarizer import Diarizer
from serve_app.deployments.ingress import Ingress
from serve_app.deployments.job_runner import JobRunner, RunnerOptions
from serve_app.deployments.queue_depth_policy import QueueDepthPolicy
from serve_app.deployments.speech_recognizer import SpeechRecognizer
from serve_app.settings import Settings


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AnalyzerArgs(_Args):
    """Decoding, voice activity, acoustics: threads of one replica."""

    num_threads: int = Field(default=2, ge=1)


class DiarizerArgs(_Args):
    """Diarization.

    Attributes:
        device: "cpu" or "cuda"; None: what `DEVICE` says, "auto" meaning the CPU (a GPU needs `num_gpus` beside it, so
            a config that has one says so here too).
        num_threads: of torch in one replica.
        model_id: Hugging Face id of a pyannote pipeline; the embedded models without one.
        cpu_fallback: beside GPU replicas, keep a CPU deployment (`DiarizerCPU`) for jobs with `enable_gpu: false` and
            for files that run out of GPU memory.
    """

    device: str | None = None
    num_threads: int = Field(default=1, ge=1)
    model_id: str | None = None
    cpu_fallback: bool = False


class RunnerArgs(_Args):
    """The job queue's consumers; they scale between the two numbers on the depth of the job table."""

    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=3, ge=1)
    upscale_delay_s: float = Field(default=2.0, ge=0)
    downscale_delay_s: float = Field(default=60.0, ge=0)
    jobs_per_replica: int = Field(default=1, ge=1)
    lease_s: float = Field(default=15.0, gt=0)
    poll_interval_s: float = Field(default=0.5, gt=0)
    max_attempts: int = Field(default=3, ge=1)


class IngressArgs(_Args):
    """HTTP: synchronous analyses that one replica runs at once."""

    max_direct_analyses: int = Field(default=2, ge=1)


class GraphArgs(_Args):
    """Arguments of the application in a Serve config file."""

    analyzer: AnalyzerArgs = AnalyzerArgs()
    diarizer: DiarizerArgs = DiarizerArgs()
    job_runner: RunnerArgs = RunnerArgs()
    ingress: IngressArgs = IngressArgs()


def build(args: GraphArgs) -> Application:
    """Return the whole application; settings come from the environment, here and nowhere else."""
    settings = Settings.from_environment()
    hf_token = settings.hf_token.get_secret_value() if settings.hf_token else None

    analyzer = AudioAnalyzer.bind(settings.max_duration_s, args.analyzer.num_threads)
    recognizer = SpeechRecognizer.bind()
    diarizer = (args.diarizer.num_threads, args.diarizer.model_id, hf_token)
    device = args.diarizer.device or ("cpu" if settings.device == "auto" else settings.device)
    diarizers = [(Diarizer.bind(device, *diarizer), device != "cpu")]
    names = [AudioAnalyzer.name, SpeechRecognizer.name, Diarizer.name, JobRunner.name, Ingress.name]
    if args.diarizer.cpu_fallback:
        on_cpu = Diarizer.options(name="DiarizerCPU")
        diarizers.append((on_cpu.bind("cpu", *diarizer), False))
        names.append(on_cpu.name)

    job_runner = JobRunner.options(autoscaling_config=_by_queue_depth(args.job_runner, settings)).bind(
        settings, _runner_options(args.job_runner), analyzer, recognizer, diarizers
    )
    return Ingress.bind(settings, names, args.ingress.max_direct_analyses, analyzer, recognizer, diarizers, job_runner)


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
