from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.errors import InvalidRequest
from serve_app.launch.config_check import check_config

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.fixture
def config() -> dict:
    return yaml.safe_load((Path(__file__).parents[3] / "configs" / "gpu.yaml").read_text())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_our_configs_are_good(path: Path) -> None:
    check_config(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_deployment_of_a_config_is_in_the_graph(path: Path) -> None:
    """Serve refuses a deployment that the application has not; better here than at two in the night."""
    [application] = yaml.safe_load(path.read_text())["applications"]
    arguments = application["args"]
    known = {"Ingress", "JobRunner", "AudioAnalyzer", "SpeechRecognizer"}
    for name, given in (
        ("Diarizer", arguments["diarizer"]),
        ("FasterWhisper", arguments["whisper"].get("faster_whisper", {})),
        ("TransformersWhisper", arguments["whisper"].get("transformers", {})),
        ("OpenAIWhisper", arguments["whisper"].get("openai_whisper", {})),
        ("DrumTranscriber", arguments.get("drums", {})),
        ("ContainerClassifier", arguments["images"]["container"]),
        ("BeverageDetector", arguments["images"]["beverage"]),
        ("Captioner", arguments.get("captions", {})),
        ("MusicGenerator", {}),
    ):
        known |= {name, f"{name}CPU"} if given.get("cpu_fallback") else {name}
    named = {deployment["name"] for deployment in application["deployments"]}
    assert named == known


@pytest.mark.parametrize(
    ("place", "key", "hint"),
    [
        ([], "proxy_locaton", "proxy_location"),
        (["http_options"], "prot", "port"),
        (["applications", 0], "import_pth", "import_path"),
        (["applications", 0, "deployments", 0], "num_replica", "num_replicas"),
        (["applications", 0, "deployments", 0, "ray_actor_options"], "num_gpu", "num_gpus"),
        (["applications", 0, "deployments", 3, "autoscaling_config"], "max_replica", "max_replicas"),
        (["applications", 0, "args"], "diariser", "diariser"),
        (["applications", 0, "args", "job_runner"], "lease", "lease"),
    ],
)
def test_a_misspelt_key_is_named(config: dict, place: list, key: str, hint: str) -> None:
    wrong = copy.deepcopy(config)
    target = wrong
    for step in place:
        target = target[step]
    target[key] = 1
    with pytest.raises(InvalidRequest) as raised:
        check_config(wrong)
    assert key in raised.value.detail
    assert hint in raised.value.detail


def test_a_wrong_value_is_refused(config: dict) -> None:
    config["applications"][0]["deployments"][0]["max_ongoing_requests"] = "many"
    with pytest.raises(InvalidRequest, match="max_ongoing_requests"):
        check_config(config)


def test_fractions_of_one_gpu_fit(config: dict) -> None:
    """All GPU replicas at their largest number share one GPU."""
    total = 0.0
    for deployment in config["applications"][0]["deployments"]:
        fraction = deployment.get("ray_actor_options", {}).get("num_gpus", 0)
        total += fraction * deployment.get("autoscaling_config", {}).get(
            "max_replicas", deployment.get("num_replicas", 1)
        )
    assert 0 < total <= 1


CHAT: dict[str, Any] = {"captioners": ["chat"], "chat": {"base_url": "https://h:8443/v1?api-version=1", "model": "m"}}
ACESTEP: dict[str, Any] = {"engines": ["acestep"], "acestep": {"base_url": "http://127.0.0.1:8001"}}
VERTEX: dict[str, Any] = {"engines": ["vertex"], "vertex": {"project": "example.com:p-1", "endpoint_id": "123"}}


def checked(config: dict, section: str, values: dict) -> None:
    changed = copy.deepcopy(config)
    changed["applications"][0]["args"][section] = values
    check_config(changed)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("captions", CHAT),
        ("captions", {"captioners": ["transformers", "features"], "model_id": "org/m"}),
        ("captions", {"chat": {"key_header": "x y"}}),  # not listed: nothing uses it
        ("music", ACESTEP),
        ("music", VERTEX),
        ("music", {"engines": ["musicgen", "composer"], "musicgen": {"model_id": "org/m"}}),
    ],
)
def test_models_that_have_what_they_need(config: dict, section: str, values: dict) -> None:
    checked(config, section, values)


@pytest.mark.parametrize(
    ("section", "values", "told"),
    [
        ("captions", {"captioners": ["features", "features"]}, "captions.captioners names something twice"),
        ("captions", {"captioners": ["chat", "features"]}, "captions.chat.base_url must be"),
        *(
            ("captions", {"captioners": ["chat"], "chat": {**CHAT["chat"], **wrong}}, f"captions.chat.{key} must be")
            for key, wrong in (
                ("base_url", {"base_url": "ftp://h/v1"}),
                ("base_url", {"base_url": "https:///v1"}),
                ("base_url", {"base_url": "https://h:99999/v1"}),
                ("base_url", {"base_url": "https://h:x/v1"}),
                ("base_url", {"base_url": "https://[::1/v1"}),
                ("base_url", {"base_url": "https://user:secret@h/v1"}),
                ("base_url", {"base_url": "https://@h/v1"}),
                ("model", {"model": " "}),
                ("key_header", {"key_header": "api key"}),
                ("key_header", {"key_header": "api-key:"}),
                ("key_header", {"key_header": "schlüssel"}),
            )
        ),
        ("captions", {"captioners": ["transformers"]}, "needs captions.model_id"),
        ("captions", {**CHAT, "chat": {**CHAT["chat"], "timeout_s": float("inf")}}, "captions.chat.timeout_s"),
        ("captions", {"batch_wait_s": float("nan")}, "captions.batch_wait_s"),
        ("music", {"engines": ["composer", "composer"]}, "music.engines names something twice"),
        ("music", {"engines": ["musicgen"]}, "needs music.musicgen.model_id"),
        ("music", {"engines": ["acestep"]}, "music.acestep.base_url must be"),
        ("music", {**ACESTEP, "acestep": {"base_url": "http://h/?x=1"}}, "music.acestep.base_url must be"),
        ("music", {**ACESTEP, "acestep": {**ACESTEP["acestep"], "poll_s": 0.001}}, "music.acestep.poll_s"),
        ("music", {"engines": ["vertex"]}, "music.vertex.project must be"),
        *(
            ("music", {**VERTEX, "vertex": {**VERTEX["vertex"], **wrong}}, f"music.vertex.{next(iter(wrong))} must be")
            for wrong in (
                {"project": "a/b"},
                {"location": "evil.example/"},
                {"location": ""},
                {"endpoint_id": ""},
                {"endpoint_id": "../x"},
                {"model": "", "endpoint_id": None},
                {"endpoint_url": "h"},
            )
        ),
        ("music", {"musicgen": {"temperature": float("inf")}}, "music.musicgen.temperature"),
    ],
)
def test_models_that_lack_something_are_refused(config: dict, section: str, values: dict, told: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked(config, section, values)
    assert f"args.{section}" in str(caught.value)
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)
