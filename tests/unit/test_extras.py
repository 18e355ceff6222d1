"""Extras: what each brings, what is left out without it, and what callers are told then."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app import extras
from serve_app.errors import ModelLoadingError
from serve_app.extras import NEEDS, extras_with, left_out, missing, require
from serve_app.flows.handles import Placed
from serve_app.graph import build
from serve_app.graph_args import GraphArgs
from serve_app.launch.launch import without_missing
from serve_app.messages import JobKind
from serve_app.sentences import Locale, translated
from tests.unit.test_imports import ALL_IMPORTS

PROJECT = Path(__file__).parents[2]
DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
# of what is declared: ray[serve], pyannote.audio, gcsfs, s3fs, pydantic
BROUGHT = {"grpcio", "pyannote-core", "google-auth", "botocore", "aiobotocore", "aiohttp", "pydantic-core"}


def distribution(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def brought_by(extra: str | None) -> set[str]:
    """Return the distributions that an extra names, with those of the extras inside it; None: without any extra."""
    named = DECLARED["dependencies"] if extra is None else DECLARED["optional-dependencies"][extra]
    found = set()
    for requirement in named:
        if inner := re.fullmatch(r"serve_app\[(.*)\]", requirement):
            found |= {each for name in inner[1].split(",") for each in brought_by(name)}
        else:
            found.add(distribution(requirement))
    return found


installed = cache(packages_distributions)


def distributions_of(module: str) -> set[str]:
    top = module.partition(".")[0]
    found = {name.lower().replace("_", "-") for name in installed().get(top, ())}
    return {"pyannote-audio"} if module == "pyannote.audio" else found


@pytest.mark.parametrize("name", NEEDS)
def test_an_extra_brings_what_its_table_looks_for(name: str) -> None:
    brought = {each.replace(".", "-") for each in brought_by(NEEDS[name].extra)}
    for module in NEEDS[name].modules:
        assert distributions_of(module) & brought, f"{module} is not in serve_app[{NEEDS[name].extra}]"


def test_what_the_package_imports_is_declared_in_the_base_or_in_an_extra() -> None:
    declared = {
        each.replace(".", "-") for extra in (None, *DECLARED["optional-dependencies"]) for each in brought_by(extra)
    }
    foreign = {found.module.partition(".")[0]: found for found in ALL_IMPORTS if not found.for_types}
    undeclared = [
        str(found)
        for module, found in foreign.items()
        if module not in sys.stdlib_module_names | {"serve_app"} and not distributions_of(module) & (declared | BROUGHT)
    ]
    assert undeclared == []


def test_all_has_every_system() -> None:
    systems = {need.extra for need in NEEDS.values()}
    assert {"drums", "images", "speech", "video", "music"} <= systems
    assert all(brought_by(extra) <= brought_by("all") for extra in systems)


@pytest.fixture
def only_drums(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have every module missing that the base and serve_app[drums] do not name."""
    there = {module for need in NEEDS.values() if need.extra == "drums" for module in need.modules}
    monkeypatch.setattr(extras, "_is_installed", lambda module: module in there)
    monkeypatch.setenv("SERVE_APP_STATE_DIR", str(tmp_path))


def test_nothing_is_missing_where_everything_is_installed() -> None:
    assert [missing(name) for name in NEEDS] == [None] * len(NEEDS)
    assert left_out(NEEDS) == []


def test_a_module_is_looked_for_without_importing_it() -> None:
    code = "import sys; from serve_app import extras; extras.missing('Diarizer'); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "False\n", ran.stderr
    assert not extras._is_installed("no_such_module.part")


@pytest.mark.usefixtures("only_drums")
def test_the_sentence_names_the_extra_in_both_languages() -> None:
    sentence = missing("FasterWhisperCPU")  # a fall-back needs the same
    assert sentence is not None
    assert sentence.startswith("FasterWhisperCPU needs serve_app[speech]: pip install 'serve_app[speech]' (")
    assert "ctranslate2" in sentence
    korean = translated(sentence, Locale.KO)
    assert "pip install 'serve_app[speech]'" in korean
    assert "설치" in korean
    assert missing("DrumTranscriber") is None
    assert missing("Ingress") is None
    with pytest.raises(ModelLoadingError, match="MusicGen needs serve_app"):
        require("MusicGen")
    assert extras_with("torch.nn") == ["drums", "images", "music-models", "speech", "video"]
    assert extras_with("yaml") == []


def applications_of(value: Any) -> Iterator[str]:
    """Yield the names of the deployments that Serve would find in the arguments of one."""
    from tests.unit.test_graph import _applications

    for found in _applications(value):
        yield found._bound_deployment.name


@pytest.mark.usefixtures("only_drums")
def test_the_graph_has_what_is_installed_and_knows_what_is_not() -> None:
    [config] = yaml.safe_load((PROJECT / "configs" / "local.yaml").read_text())["applications"]
    application = build(GraphArgs.model_validate(config["args"]))
    assert set(applications_of(application)) == {"Ingress", "JobRunner", "DrumTranscriber"}
    given = application._bound_deployment.init_kwargs
    assert given["local_classifiers"] == {}  # though the config has them in the ingress
    deployments = given["deployments"]
    assert deployments.names() == ["DrumTranscriber"]
    assert {"Diarizer", "FasterWhisper", "ContainerClassifier", "MusicGenerator"} <= deployments.left_out().keys()
    assert deployments.needed()[JobKind.VIDEO][0].missing.startswith("Diarizer needs serve_app[video]: ")
    with pytest.raises(ModelLoadingError, match=r"ContainerClassifier needs serve_app\[images\]"):
        deployments.classifiers["container"][0].without_object_store().reached()


@pytest.mark.usefixtures("only_drums")
def test_a_config_loses_the_numbers_of_what_is_left_out_and_each_extra_is_told_once() -> None:
    config = yaml.safe_load((PROJECT / "configs" / "gpu.yaml").read_text())
    kept, lines = without_missing(config)
    [application] = kept["applications"]
    assert [each["name"] for each in application["deployments"]] == ["Ingress", "JobRunner", "DrumTranscriber"]
    assert len(config["applications"][0]["deployments"]) > 10  # what was given is as it was
    assert len(lines) == 4
    [video] = [line for line in lines if "serve_app[video]" in line]
    assert video == (
        "left out, for want of serve_app[video]: Diarizer, DiarizerCPU. To serve them: pip install 'serve_app[video]'"
    )


def test_a_config_of_another_application_is_left_alone() -> None:
    config = {"applications": [{"import_path": "theirs:app", "deployments": [{"name": "Diarizer"}]}]}
    assert without_missing(config) == (config, [])


def test_a_deployment_that_is_there_is_reached() -> None:
    handle: Any = object()
    assert Placed("A", handle).reached() is handle
