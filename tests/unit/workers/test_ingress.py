"""What the ingress binds together when its replica starts: services over handles, limits, classifiers of its own."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.errors import JobNotFound
from serve_app.flows.deployments import Deployments
from serve_app.flows.handles import Placed
from serve_app.flows.music import MusicModels
from serve_app.flows.speech_to_text import SpeechModels
from serve_app.flows.video import VideoModels
from serve_app.models.images.options import ClassifierArgs
from serve_app.models.images.tasks import CONTAINER
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech.backends import BackendName
from serve_app.settings import Settings
from serve_app.workers import ingress as module
from serve_app.workers import listening
from serve_app.workers.ingress import Ingress
from serve_app.workers.options import IngressOptions


class Handle:
    """Stands for a deployment's handle."""

    def options(self, **changes: Any) -> Handle:
        return self


def placed(*names: str) -> list[Placed[Any]]:
    return [Placed(name, Handle()) for name in names]  # type: ignore[arg-type]


DEPLOYMENTS = Deployments(
    video=VideoModels(
        placed("AudioAnalyzer")[0],
        SpeechModels({BackendName.POCKETSPHINX: placed("SpeechRecognizer")}, {BackendName.POCKETSPHINX: "embedded:x"}),
        (BackendName.POCKETSPHINX,),
        placed("Diarizer"),
    ),
    drums=placed("DrumTranscriber"),
    classifiers={"container": placed("ContainerClassifier", "ContainerClassifierCPU")},
    music=MusicModels(placed("Captioner"), placed("MusicGenerator")[0]),
)


class Classifier:
    """Stands for the classifier that the ingress makes for itself."""

    is_empty = False

    def __init__(self, **given: Any) -> None:
        self.given = given

    async def describe(self) -> dict[str, Any]:
        return self.given

    async def reload(self) -> str:
        return "reloaded"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"SERVE_APP_STATE_DIR": str(tmp_path), "SERVE_APP_MAX_IMAGE_PIXELS": "99"})


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> Any:
    monkeypatch.setattr(module.serve, "get_replica_context", lambda: SimpleNamespace(app_name="serve_app"))
    monkeypatch.setattr(module, "ClassifierReplica", Classifier)
    tmp_path.mkdir(exist_ok=True)

    def make(**changed: Any) -> Any:
        given = {
            "settings": settings,
            "options": IngressOptions(),
            "environment": ModelEnvironment(models_dir=tmp_path / "models"),
            "deployments": DEPLOYMENTS,
            "local_classifiers": {},
            "job_runner": Handle(),
            **changed,
        }
        replica_class = Ingress.func_or_class.__mro__[1]  # without Serve's wrapper, which needs a replica
        return replica_class(**given)

    return make


def test_health_covers_all_deployments(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected: list[str] = []

    class Health:
        def __init__(self, app_name: str, names: Any, storage: Any, left_out: Any) -> None:
            assert left_out == {}  # everything is installed here
            assert app_name == "serve_app"
            expected.extend(names)

        deployments = None

    monkeypatch.setattr(module, "GraphHealth", Health)
    make()
    assert expected == [
        "AudioAnalyzer",
        "SpeechRecognizer",
        "Diarizer",
        "DrumTranscriber",
        "ContainerClassifier",
        "ContainerClassifierCPU",
        "Captioner",
        "MusicGenerator",
        "JobRunner",
        "Ingress",
    ]


def test_a_classifier_of_its_own_runs_on_the_cpu_whatever_the_deployments_device_is(make: Any, tmp_path: Path) -> None:
    options = ClassifierArgs(device="cuda", model="x.pth", in_ingress=True)
    replica = make(local_classifiers={"container": options})
    assert asyncio.run(replica.describe_model("container")) == {
        "task": CONTAINER,
        "options": ClassifierArgs(device="cpu", model="x.pth", in_ingress=True),
        "environment": ModelEnvironment(models_dir=tmp_path / "models"),
        "max_pixels": 99,
    }
    assert asyncio.run(replica.reload_model("container")) == "reloaded"


def test_each_limit_arrives_at_the_work_that_it_bounds(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, dict[str, Any]] = {}

    def recorder(name: str) -> Any:
        def record(*args: Any, **kwargs: Any) -> None:
            given[name] = kwargs

        return record

    for name in ("AnalysisFlow", "SpeechFlow", "DrumFlow", "ImageFlow"):
        monkeypatch.setattr(module, name, recorder(name))
    options = IngressOptions(
        max_direct_analyses=101,
        max_direct_transcriptions=102,
        max_direct_pieces=103,
        max_direct_drums=104,
        max_direct_images=105,
        max_image_calls=106,
    )
    make(options=options)
    assert given["AnalysisFlow"] == {"max_at_once": 101}
    assert given["SpeechFlow"] == {"max_at_once": 102, "max_pieces": 103}
    assert given["DrumFlow"] == {"max_at_once": 104}
    assert given["ImageFlow"] == {"max_at_once": 105, "max_calls": 106, "local": {}}


def test_the_app_serves_the_routes_and_the_jobs_of_the_store(make: Any) -> None:
    replica = make()
    app = replica.__serve_build_asgi_app__()
    paths = app.openapi()["paths"]
    assert {"/transcribe", "/transcribe-drums", "/classify-reusable", "/jobs", "/health/ready"} <= {*paths}
    with pytest.raises(JobNotFound):
        asyncio.run(replica._services.jobs.get("absent"))


class TestWhereItListens:
    def test_what_can_not_be_known_counts_as_open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert listening.listening_host() is None  # Ray does not run here

        def fails() -> None:
            raise RuntimeError("the controller is gone")

        monkeypatch.setattr(listening.ray, "is_initialized", lambda: True)
        monkeypatch.setattr(listening, "_get_global_client", fails)
        assert listening.listening_host() is None
        assert Settings.from_environment({"HOME": "/"}).api_on(None).keys_on

    @pytest.mark.parametrize(
        ("host", "has_keys", "told"),
        [
            ("127.0.0.1", False, "API keys are off"),
            ("0.0.0.0", True, "API keys are on: Serve listens on 0.0.0.0"),
            ("0.0.0.0", False, "`serve-app keys create NAME`"),
            (None, False, "an address that is not known"),
        ],
    )
    def test_the_log_says_once_whether_keys_are_on(
        self, caplog: pytest.LogCaptureFixture, host: str | None, has_keys: bool, told: str
    ) -> None:
        caplog.set_level(logging.INFO, logger="ray.serve")
        serve_log = logging.getLogger("ray.serve")
        serve_log.addHandler(caplog.handler)
        try:
            module._log_access(Settings.from_environment({"HOME": "/"}).api_on(host), host, has_keys=has_keys)
        finally:
            serve_log.removeHandler(caplog.handler)
        assert {record.getMessage() for record in caplog.records if told in record.getMessage()}
