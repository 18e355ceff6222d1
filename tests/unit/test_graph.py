"""The graph's arguments: what a config file says is seen where it is used. Nothing is started: Serve only binds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from serve_app.deployments.image_classifier import BeverageDetector, ContainerClassifier
from serve_app.flows.deployments import Deployments
from serve_app.graph import build
from serve_app.graph_args import GraphArgs
from serve_app.models.images.engines import EngineName, Precision
from serve_app.models.images.tasks import BEVERAGE, CONTAINER
from serve_app.models.music.options import MusicGenOptions
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech.backends import BackendName
from serve_app.settings import Settings

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
ALWAYS = [
    "AudioAnalyzer",
    "FasterWhisper",
    "TransformersWhisper",
    "OpenAIWhisper",
    "SpeechRecognizer",
    "Diarizer",
    "DrumTranscriber",
    "ContainerClassifier",
    "BeverageDetector",
    "Captioner",
    "MusicGenerator",
]
VARIABLES = ("DEVICE", "STT_DEVICE", "STT_COMPUTE_TYPE", "HF_TOKEN", "SERVE_APP_DATABASE_URL", "SERVE_APP_MODEL_MIRROR")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SERVE_APP_STATE_DIR", str(tmp_path))


class Graph:
    """A graph that was built, and what its deployments' constructors will be given."""

    def __init__(self, args: dict[str, Any] | None = None) -> None:
        self.application = build(GraphArgs.model_validate(args or {}))
        self.ingress: dict[str, Any] = self.application._bound_deployment.init_kwargs
        self.deployments: Deployments = self.ingress["deployments"]
        self.bound = {each._bound_deployment.name: each._bound_deployment for each in _applications(self.application)}

    def given(self, name: str) -> dict[str, Any]:
        deployment = self.bound[name]
        assert deployment.init_args == ()  # nothing by position
        return deployment.init_kwargs

    def options(self, name: str) -> Any:
        return self.given(name)["options"]

    def on_gpu(self) -> dict[str, bool]:
        found = self.deployments
        groups = (found.video.placed(), found.drums, *found.classifiers.values(), found.music.placed())
        return {placed.name: placed.on_gpu for group in groups for placed in group}


def _applications(found: Any) -> Iterator[Any]:
    """Yield the applications in an argument, however deep."""
    if hasattr(found, "_bound_deployment"):
        yield found
        found = found._bound_deployment.init_kwargs
    if isinstance(found, dict):
        for value in found.values():
            yield from _applications(value)
    elif isinstance(found, list | tuple):
        for value in found:
            yield from _applications(value)
    elif is_dataclass(found):
        for each in fields(found):
            yield from _applications(getattr(found, each.name))


def test_without_arguments_each_system_is_there_on_auto(tmp_path: Path) -> None:
    graph = Graph()
    assert graph.deployments.names() == ALWAYS
    assert {*graph.bound} == {*ALWAYS, "JobRunner", "Ingress"}
    environment = ModelEnvironment(models_dir=tmp_path / "models")
    for name in ALWAYS:
        if name not in ("AudioAnalyzer", "SpeechRecognizer"):
            assert graph.options(name).device == "auto"
            assert graph.given(name)["environment"] == environment
    assert not any(graph.on_gpu().values())
    assert graph.options("FasterWhisper").models == ("embedded:whisper-micro",)
    assert graph.deployments.video.speech_order == tuple(BackendName)
    assert graph.deployments.video.emotion == ()
    assert graph.deployments.video.speech.aligner is None
    assert graph.ingress["local_classifiers"] == {}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_config_of_ours_builds_what_it_configures(path: Path) -> None:
    [application] = yaml.safe_load(path.read_text())["applications"]
    graph = Graph(application["args"])
    assert {*graph.bound} == {each["name"] for each in application["deployments"]}
    on_gpu = graph.on_gpu()
    for each in application["deployments"]:
        has_gpu = each["ray_actor_options"].get("num_gpus", 0) > 0
        assert on_gpu.get(each["name"], False) is has_gpu, each["name"]


@pytest.mark.parametrize(
    ("section", "values", "deployment"),
    [
        ("analyzer", {"num_threads": 7}, "AudioAnalyzer"),
        ("whisper", {"models": ("base",), "device": "cpu", "compute_type": "int8"}, "FasterWhisper"),
        ("whisper", {"models": ("base",), "device": "cuda"}, "OpenAIWhisper"),
        ("aligner", {"models": {"en": "org/ctc"}, "device": "cpu", "num_threads": 3}, "Aligner"),
        (
            "diarizer",
            {
                "segmentation": "a",
                "embeddings": ("b", "c"),
                "model_id": f"org/d@{'0' * 40}",
                "allow_code": True,
                "num_threads": 5,
            },
            "Diarizer",
        ),
        ("emotion", {"model_id": "org/moods", "device": "cuda:1", "num_threads": 2}, "EmotionRecognizer"),
        (
            "drums",
            {"model": "x", "num_threads": 2, "num_readers": 3, "batch_size": 5, "batch_wait_s": 0.5, "half": True},
            "DrumTranscriber",
        ),
        (
            "captions",
            {"captioners": ("transformers", "features"), "model_id": "org/vlm", "device": "cuda", "batch_size": 2},
            "Captioner",
        ),
        (
            "music",
            {
                "engines": ("musicgen", "composer"),
                "musicgen": MusicGenOptions(model_id="org/m"),
                "soundfont": "/a.sf2",
                "device": "cuda:1",
            },
            "MusicGenerator",
        ),
        (
            "job_runner",
            {"jobs_per_replica": 4, "lease_s": 9.0, "poll_interval_s": 0.1, "max_attempts": 7, "min_replicas": 0},
            "JobRunner",
        ),
        (
            "ingress",
            {
                "max_direct_analyses": 1,
                "max_direct_transcriptions": 2,
                "max_direct_pieces": 3,
                "max_direct_drums": 4,
                "max_direct_images": 5,
                "max_image_calls": 6,
            },
            "Ingress",
        ),
    ],
)
def test_an_option_arrives_where_it_is_used(section: str, values: dict[str, Any], deployment: str) -> None:
    options = Graph({section: values}).options(deployment)
    assert {name: getattr(options, name) for name in values} == values


def test_the_flow_knows_the_engines_of_its_generator() -> None:
    assert Graph().deployments.music.engines == ("composer",)
    graph = Graph({"music": {"engines": ["acestep", "composer"], "acestep": {"base_url": "http://127.0.0.1:8001"}}})
    assert graph.deployments.music.engines == ("acestep", "composer")


def test_a_classifiers_options_arrive_at_it_alone() -> None:
    given = {
        "model": "x.pth",
        "engine": "openvino",
        "precision": "bf16",
        "max_difference": 0.5,
        "fit": "stretch",
        "calibration": "/photos",
        "num_threads": 2,
        "num_decoders": 3,
        "batch_size": 16,
        "batch_wait_s": 0.1,
    }
    graph = Graph({"images": {"beverage": given}})
    beverage, container = graph.options("BeverageDetector"), graph.options("ContainerClassifier")
    assert {name: getattr(beverage, name) for name in given} == given
    assert (beverage.engine, beverage.precision) == (EngineName.OPENVINO, Precision.BF16)
    assert (container.model, container.batch_size) == (None, 8)
    assert graph.given("BeverageDetector")["task"] is BEVERAGE
    assert graph.given("ContainerClassifier")["task"] is CONTAINER
    assert graph.deployments.classifiers["beverage"][0].name == BeverageDetector.name
    assert graph.deployments.classifiers["container"][0].name == ContainerClassifier.name


def test_a_backends_options_are_its_own() -> None:
    whisper = Graph({"whisper": {"transformers": {"batch_size": 3, "beam_size": 4, "num_threads": 2}}}).options(
        "TransformersWhisper"
    )
    environment = ModelEnvironment(models_dir=Path("/m"), hf_token="t", mirror="s3://m")
    own = whisper.to_load(BackendName.TRANSFORMERS, "cpu", environment)
    assert (own.batch_size, own.beam_size, own.num_threads) == (3, 4, 2)
    assert (own.device, own.cache_dir, own.hf_token, own.model_mirror) == ("cpu", Path("/m"), "t", "s3://m")
    other = whisper.to_load(BackendName.FASTER_WHISPER, "cpu", environment)
    assert (other.batch_size, other.beam_size, other.num_threads) == (8, None, 1)


@pytest.mark.parametrize(
    ("compute_type", "expected"), [("int8", None), ("int8_float16", None), ("float16", "float16"), (None, None)]
)
def test_number_formats_of_ctranslate2_are_faster_whispers_alone(
    compute_type: str | None, expected: str | None
) -> None:
    whisper = Graph({"whisper": {"compute_type": compute_type}}).options("OpenAIWhisper")
    environment = ModelEnvironment(models_dir=Path("/m"))
    for name in (BackendName.TRANSFORMERS, BackendName.OPENAI_WHISPER):
        assert whisper.to_load(name, "cpu", environment).compute_type == expected
    assert whisper.to_load(BackendName.FASTER_WHISPER, "cpu", environment).compute_type == compute_type


def test_the_environment_arrives_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("SERVE_APP_MODEL_MIRROR", "s3://mirror/models")
    monkeypatch.setenv("SERVE_APP_CAPTION_API_KEY", "sk-caption")
    monkeypatch.setenv("SERVE_APP_MUSIC_API_KEY", "sk-music")
    monkeypatch.setenv("SERVE_APP_MODELS_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("SERVE_APP_MAX_DURATION_S", "60")
    monkeypatch.setenv("SERVE_APP_MAX_IMAGE_PIXELS", "1000")
    graph = Graph()
    environment = graph.given("Diarizer")["environment"]
    assert environment == ModelEnvironment(
        models_dir=tmp_path / "elsewhere",
        hf_token="hf_secret",
        mirror="s3://mirror/models",
        caption_api_key="sk-caption",
        music_api_key="sk-music",
    )
    assert not any(secret in repr(environment) for secret in ("hf_secret", "sk-caption", "sk-music"))
    assert graph.ingress["environment"] == environment
    assert graph.given("AudioAnalyzer")["max_duration_s"] == 60
    assert graph.given("ContainerClassifier")["max_pixels"] == graph.given("Captioner")["max_pixels"] == 1000
    assert graph.ingress["settings"] == graph.given("JobRunner")["settings"] == Settings.from_environment()


class TestDevices:
    def test_the_config_wins_over_the_environment_and_whisper_has_a_variable_of_its_own(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DEVICE", "cuda")
        monkeypatch.setenv("STT_DEVICE", "cuda:1")
        monkeypatch.setenv("STT_COMPUTE_TYPE", "float16")
        graph = Graph({"drums": {"device": "cpu"}, "whisper": {"compute_type": "int8"}})
        devices = {name: graph.options(name).device for name in ("DrumTranscriber", "Diarizer", "FasterWhisper")}
        assert devices == {"DrumTranscriber": "cpu", "Diarizer": "cuda", "FasterWhisper": "cuda:1"}
        assert graph.options("FasterWhisper").compute_type == "int8"
        assert Graph().options("FasterWhisper").compute_type == "float16"
        on_cpu = {name for name, on_gpu in graph.on_gpu().items() if not on_gpu}
        assert on_cpu == {"AudioAnalyzer", "SpeechRecognizer", "DrumTranscriber"}

    @pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "auto"])
    def test_a_deployment_with_a_fall_back_counts_as_a_gpu_and_its_twin_runs_on_the_cpu(self, device: str) -> None:
        given = {"device": device, "cpu_fallback": True}
        graph = Graph(
            {
                "diarizer": given,
                "drums": given,
                "emotion": {"model_id": "org/moods", **given},
                "images": {"container": given},
                "whisper": {"device": device, "faster_whisper": {"cpu_fallback": True}},
            }
        )
        on_gpu = graph.on_gpu()
        for name in ("Diarizer", "DrumTranscriber", "EmotionRecognizer", "ContainerClassifier", "FasterWhisper"):
            assert (on_gpu[name], on_gpu[f"{name}CPU"]) == (True, False)
            assert (graph.options(name).device, graph.options(f"{name}CPU").device) == (device, "cpu")
        assert [placed.name for placed in graph.deployments.video.diarizers] == ["Diarizer", "DiarizerCPU"]

    def test_auto_without_a_fall_back_counts_as_the_cpu(self) -> None:
        """Else no job with `enable_gpu: false` could run on a machine without a GPU."""
        graph = Graph({"aligner": {"models": {"en": "org/ctc"}}, "emotion": {"model_id": "org/moods"}})
        assert not any(graph.on_gpu().values())
        assert "Aligner" in graph.on_gpu()

    @pytest.mark.parametrize(("device", "of_twin"), [("cuda", None), ("auto", None), ("cpu", "int8")])
    def test_a_number_format_for_the_gpu_is_none_of_the_twins(self, device: str, of_twin: str | None) -> None:
        whisper = {"device": device, "compute_type": "int8", "faster_whisper": {"cpu_fallback": True}}
        graph = Graph({"whisper": whisper})
        assert graph.options("FasterWhisper").compute_type == "int8"
        assert graph.options("FasterWhisperCPU").compute_type == of_twin


class TestWhatIsDeployed:
    def test_a_disabled_backend_is_left_out(self) -> None:
        graph = Graph({"whisper": {"models": ["base"], "openai_whisper": {"enabled": False}}})
        assert "OpenAIWhisper" not in graph.bound
        speech = graph.deployments.video.speech
        assert [*speech.backends] == [BackendName.FASTER_WHISPER, BackendName.TRANSFORMERS, BackendName.POCKETSPHINX]
        assert speech.models == dict.fromkeys(speech.backends, "base") | {
            BackendName.POCKETSPHINX: "embedded:pocketsphinx-en-us"
        }

    def test_a_disabled_classifier_is_left_out_of_the_ingress_too(self) -> None:
        graph = Graph({"images": {"container": {"enabled": False, "in_ingress": True}}})
        assert "ContainerClassifier" not in graph.bound
        assert ([*graph.deployments.classifiers], graph.ingress["local_classifiers"]) == (["beverage"], {})

    def test_a_classifier_in_the_ingress_is_deployed_as_well(self) -> None:
        graph = Graph({"images": {"container": {"in_ingress": True, "model": "x.pth"}}})
        assert graph.ingress["local_classifiers"]["container"].model == "x.pth"
        assert "ContainerClassifier" in graph.bound

    def test_aligner_and_emotion_come_with_a_model(self) -> None:
        graph = Graph({"aligner": {"models": {"ko": "org/ctc"}}, "emotion": {"model_id": "org/moods"}})
        speech = graph.deployments.video.speech
        assert speech.aligner is not None
        assert (speech.aligner.name, speech.aligned_languages) == ("Aligner", ("ko",))
        assert [placed.name for placed in graph.deployments.video.emotion] == ["EmotionRecognizer"]
        assert graph.deployments.names()[5:8] == ["Aligner", "Diarizer", "EmotionRecognizer"]

    def test_languages_are_told_where_they_are_known_before_a_model_is_loaded(self) -> None:
        known = Graph().deployments.video.speech.languages
        assert known[BackendName.FASTER_WHISPER] == frozenset({"en", "ko"})
        unknown = Graph({"whisper": {"models": ["org/own"]}}).deployments.video.speech.languages
        assert unknown == {BackendName.POCKETSPHINX: frozenset({"en"})}

    def test_speech_is_as_configured(self) -> None:
        graph = Graph({"whisper": {"max_pause_s": 1.5}, "speech": {"video_order": ["pocketsphinx"]}})
        assert graph.deployments.video.speech.max_pause_s == 1.5
        assert graph.deployments.video.speech_order == (BackendName.POCKETSPHINX,)

    def test_runners_and_ingress_call_the_same_deployments(self) -> None:
        graph = Graph()
        assert graph.given("JobRunner")["deployments"] is graph.deployments

    def test_models_that_are_loaded_once_have_short_names(self) -> None:
        fixed = Graph({"drums": {"cpu_fallback": True}}).deployments.loaded_once()
        assert [*fixed] == [
            "faster-whisper",
            "transformers",
            "openai-whisper",
            "pocketsphinx",
            "diarization",
            "drums",
            "captions",
            "music",
        ]
        assert [placed.name for placed in fixed["drums"]] == ["DrumTranscriber", "DrumTranscriberCPU"]


class TestScalingOfRunners:
    @pytest.mark.parametrize(("smallest", "at_first"), [(0, 1), (2, 2)])
    def test_it_follows_the_arguments(self, smallest: int, at_first: int, tmp_path: Path) -> None:
        given = {"min_replicas": smallest, "max_replicas": 9, "upscale_delay_s": 1, "downscale_delay_s": 5}
        runner = Graph({"job_runner": {**given, "jobs_per_replica": 2}}).bound["JobRunner"]
        scaling = runner._deployment_config.autoscaling_config
        assert {name: getattr(scaling, name) for name in given} == given
        assert scaling.initial_replicas == at_first
        assert scaling.policy.policy_kwargs == {
            "database_url": f"sqlite:///{tmp_path / 'jobs.sqlite3'}",
            "jobs_per_replica": 2,
        }

    def test_a_password_is_not_among_what_serve_shows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SERVE_APP_DATABASE_URL", "postgresql+psycopg://me:secret@db/jobs")
        scaling = Graph().bound["JobRunner"]._deployment_config.autoscaling_config
        assert scaling.policy.policy_kwargs["database_url"] is None


@pytest.mark.parametrize(
    ("args", "where", "message"),
    [
        ({"diariser": {}}, "diariser", "Extra inputs are not permitted"),
        ({"job_runner": {"lease": 1}}, "job_runner.lease", "Unexpected keyword argument"),
        ({"whisper": {"transformers": {"beams": 1}}}, "whisper.transformers.beams", "Unexpected keyword argument"),
        ({"images": {"container": {"thread": 1}}}, "images.container.thread", "Unexpected keyword argument"),
        ({"analyzer": {"num_threads": 0}}, "analyzer.num_threads", "greater than or equal to 1"),
        ({"whisper": {"models": []}}, "whisper.models", "at least 1 item"),
        ({"whisper": {"max_pause_s": 0}}, "whisper.max_pause_s", "greater than 0"),
        ({"whisper": {"faster_whisper": {"beam_size": 0}}}, "whisper.faster_whisper.beam_size", "than or equal to 1"),
        ({"whisper": {"faster_whisper": {"batch_wait_s": -1}}}, "whisper.faster_whisper.batch_wait_s", "equal to 0"),
        ({"speech": {"video_order": ["whisperer"]}}, "speech.video_order.0", "'faster-whisper'"),
        ({"diarizer": {"embeddings": ["a", "b", "c"]}}, "diarizer.embeddings", "at most 2 items"),
        ({"diarizer": {"segmentation": ""}}, "diarizer.segmentation", "at least 1 character"),
        ({"drums": {"batch_size": "many"}}, "drums.batch_size", "valid integer"),
        ({"images": {"container": {"batch_size": 257}}}, "images.container.batch_size", "less than or equal to 256"),
        ({"images": {"beverage": {"max_difference": 1}}}, "images.beverage.max_difference", "less than 1"),
        ({"images": {"beverage": {"engine": "tensorrt"}}}, "images.beverage.engine", "'onnxruntime' or 'openvino'"),
        ({"job_runner": {"max_replicas": 0}}, "job_runner.max_replicas", "greater than or equal to 1"),
        ({"ingress": {"max_image_calls": 0}}, "ingress.max_image_calls", "greater than or equal to 1"),
        ({"emotion": 3}, "emotion", "a dictionary"),
    ],
)
def test_a_bad_value_is_refused_where_it_stands(args: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        GraphArgs.model_validate(args)
    found = {".".join(map(str, error["loc"])): error["msg"] for error in raised.value.errors()}
    assert message in found[where]
