"""`serve-app models`: what it prints, and how it ends."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastapi import FastAPI
from rich.console import Console

from serve_app import errors
from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.cli import main
from serve_app.commands.models import fetch as fetch_command
from serve_app.commands.models.command import DEFAULT_NAMES
from serve_app.models import catalog
from serve_app.models.catalog import CatalogModel, model_folder
from serve_app.models.catalog_fetch import fetch_model
from serve_app.models.images import conversion, loading
from serve_app.models.images.architectures import Architecture
from serve_app.models.images.networks import build_network
from serve_app.models.images.speed import Measured
from serve_app.models.mirror_source import MirrorSource
from serve_app.models.model_source import Silences
from serve_app.services import DeployedModel
from tests.unit.api.memory_services import REPLICA_MODEL, VERSION, MemoryModels, memory_services
from tests.unit.client.loopback import serving
from tests.unit.models.loopback_files import files_on_loopback
from tests.unit.models.made_models import FILES, make_model

FAILURE = "The weights '[red]x.pth' can't serve as container classifier: " + "it is damaged, " * 20


def run(*arguments: object) -> int | str | None:
    """Run the command here and return what it exits with."""
    with pytest.raises(SystemExit) as caught:
        main(["models", *map(str, arguments)])
    return caught.value.code


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FastAPI, str]]:
    app = create_app(memory_services(), ApiSettings())
    with serving(app) as port:
        yield app, f"http://127.0.0.1:{port}"


@pytest.fixture
def models(running: tuple[FastAPI, str]) -> MemoryModels:
    running[0].state.services = memory_services()
    return running[0].state.services.models


@pytest.fixture
def url(running: tuple[FastAPI, str], models: MemoryModels) -> str:
    return running[1]


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a state folder of the test's own."""
    monkeypatch.setenv("SERVE_APP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(loading, "measured", lambda folder, cores: Measured())  # `check` would measure for seconds
    return tmp_path / "state"


def rows(table: str) -> list[list[str]]:
    """Return the cells of a printed table."""
    lines = [line for line in table.partition(" catalog ")[0].splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


class TestList:
    def test_table(self, url: str, models: MemoryModels, capsys: pytest.CaptureFixture[str]) -> None:
        bare = replace(
            REPLICA_MODEL,
            replica="def456",
            node="[bold]node",
            model_version=None,
            engine=None,
            loaded_at=None,
            warm=False,
            failure=FAILURE,
        )
        models.deployed["container"] = replace(models.deployed["container"], replicas=(REPLICA_MODEL, bare))
        assert run("list", "--url", url) == 0
        told = capsys.readouterr()
        since = "2024-01-15T10:30:00Z"
        name, deployment = "container", "ContainerClassifier"
        assert rows(told.out) == [
            [
                name,
                deployment,
                "HEALTHY",
                "abc123 (pid 4711)",
                "gpu-box",
                VERSION,
                "openvino bf16",
                "cpu",
                "yes",
                since,
            ],
            [name, deployment, "HEALTHY", "def456 (pid 4711)", "[bold]node", "none", "", "cpu", "no", ""],
            ["beverage", "BeverageDetector", "HEALTHY", "none runs", "", "", "", "", "", ""],
        ]
        assert "deployment" in told.out
        assert f"\nContainerClassifier def456: {FAILURE}\n" in told.out  # in one line, however long
        assert told.err == ""

    def test_speeds_of_the_engines(self, url: str, models: MemoryModels, capsys: pytest.CaptureFixture[str]) -> None:
        models.deployed["container"] = DeployedModel(
            "container", "ContainerClassifier", "HEALTHY", (REPLICA_MODEL, replace(REPLICA_MODEL, speeds=()))
        )
        assert run("list", "-v", "--url", url) == 0
        told = " ".join(capsys.readouterr().out.split())
        for figures in ("26.5", "26.1", "4.0e-03", "76.0", "44.6", "1.0e-06", "[no]"):
            assert figures in told
        assert told.count("→") == 1  # openvino bf16 serves
        assert run("list", "--url", url) == 0
        assert "26.5" not in capsys.readouterr().out
        models.deployed["container"] = replace(models.deployed["container"], replicas=())
        assert run("list", "-v", "--url", url) == 0
        assert "No replica had a choice of engines to measure" in capsys.readouterr().out

    def test_json(self, url: str, models: MemoryModels, capsys: pytest.CaptureFixture[str]) -> None:
        broken = replace(REPLICA_MODEL, failure="손상된 파일")
        models.deployed["container"] = replace(models.deployed["container"], replicas=(broken,))
        assert run("list", "--json", "--url", url) == 0
        out = capsys.readouterr().out
        container, beverage = json.loads(out)["models"]
        assert (container["name"], beverage["name"]) == ("container", "beverage")
        [replica] = container["replicas"]
        assert (replica["model_version"], replica["failure"]) == (VERSION, "손상된 파일")
        assert "손상된" in out  # as people read it

    def test_no_models(self, url: str, models: MemoryModels, capsys: pytest.CaptureFixture[str]) -> None:
        models.deployed = {}
        assert run("list", "--url", url) == 0
        assert rows(capsys.readouterr().out) == []
        assert run("list", "--json", "--url", url) == 0
        assert json.loads(capsys.readouterr().out)["models"] == []

    def test_nobody_listens(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("list", "--url", "http://127.0.0.1:1") == 0
        out = capsys.readouterr().out
        assert out.startswith("No service reports what it serves (http://127.0.0.1:1 can't be reached")
        assert catalog_rows(out)[0][:3] == ["whisper-base", "whisper", "not fetched"]
        assert run("list", "--url", "http://127.0.0.1:1", "--json") == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["models"] is None
        assert (answer["catalog"][0]["name"], answer["catalog"][0]["files"]) == ("whisper-base", [])
        assert answer["catalog"][0]["aliases"] == ["base"]

    def test_what_of_the_catalog_is_here(
        self, made: CatalogModel, mirror: Path, state: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fetch_model(made, state / "models", mirror=str(mirror))
        assert run("list", "--url", "http://127.0.0.1:1") == 0
        out = capsys.readouterr().out
        sha256 = {file.name: str(file.sha256)[:12] for file in made.files}
        assert catalog_rows(out) == [
            ["made", "whisper", "config.json", "8", sha256["config.json"], f"mirror {mirror}", "MIT"],
            ["", "", "model.bin", "7000", sha256["model.bin"], f"mirror {mirror}", ""],
        ]
        (model_folder(made, state / "models") / "model.bin").write_bytes(b"Weights" * 1000)
        assert run("list", "--url", "http://127.0.0.1:1") == 0
        damaged = catalog_rows(capsys.readouterr().out)[1][4]
        assert damaged.endswith(" DAMAGED")
        assert not damaged.startswith(sha256["model.bin"])


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[CatalogModel]:
    """Replace the catalog by one small model."""
    model = replace(make_model(), aliases=("m",))
    monkeypatch.setattr(catalog, "parse_catalog", lambda text: (model,))
    catalog.catalog.cache_clear()
    yield model
    catalog.catalog.cache_clear()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a mirror that the settings name."""
    (tmp_path / "m" / "made").mkdir(parents=True)
    for name, content in FILES.items():
        (tmp_path / "m" / "made" / name).write_bytes(content)
    monkeypatch.setenv("SERVE_APP_MODEL_MIRROR", str(tmp_path / "m"))
    return tmp_path / "m"


def catalog_rows(out: str) -> list[list[str]]:
    """Return the cells of the catalog's table."""
    return rows(out.partition(" catalog ")[2])


class TestFetch:
    def test_by_name(self, made: CatalogModel, mirror: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("fetch", "made", "m") == 0
        lines = capsys.readouterr().out.splitlines()
        folder = model_folder(made, state / "models")
        assert lines[:2] == ["made: config.json (0.0 MB)", "made: model.bin (0.0 MB)"]
        assert lines[2].startswith(f"made: 0.0 MB from mirror {mirror} in ")
        assert lines[2].endswith(f" s, MIT, in {folder}")
        assert (folder / "model.bin").read_bytes() == FILES["model.bin"]
        assert run("fetch", "made") == 0
        assert capsys.readouterr().out == f"made: here already, in {folder}\n"
        assert run("fetch", "--optional", "made") == 0
        assert capsys.readouterr().out == ""

    def test_unknown_name(self, made: CatalogModel) -> None:
        assert run("fetch", "made", "mad", "[x]") == "serve-app: The catalog has no 'mad', '[x]'; it has made"

    def test_the_defaults_are_in_the_catalog(self) -> None:
        assert [found.name for name in DEFAULT_NAMES if (found := catalog.find_model(name))] == list(DEFAULT_NAMES)

    def test_no_source(
        self, made: CatalogModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("SERVE_APP_MODEL_MIRROR", "http://user:hunter2@127.0.0.1:9/m")
        assert run("fetch", "made") == 1
        [line] = capsys.readouterr().out.splitlines()
        assert line.startswith(
            "The model made can't be fetched: mirror http://127.0.0.1:9/m: config.json: ConnectError"
        )
        assert run("fetch", "made", "--optional") == 0
        [paragraph] = capsys.readouterr().out.splitlines()
        assert paragraph.startswith("No source gives made. The model made can't be fetched: mirror ")
        assert "Everything works without them, with the models that come with serve_app" in paragraph
        assert "hunter2" not in line + paragraph

    def test_a_host_that_was_silent_is_asked_again(
        self, made: CatalogModel, mirror: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with files_on_loopback() as server:
            server.files = {f"/made/{name}": content for name, content in FILES.items()}
            monkeypatch.setenv("SERVE_APP_MODEL_MIRROR", server.url)
            silences = Silences(Path(os.environ["SERVE_APP_STATE_DIR"]) / "models" / "catalog" / "silences")
            silences.keep(MirrorSource(server.url, "made", lambda *told: None).host, "it was down")
            assert run("fetch", "made") == 0

    @pytest.mark.parametrize("optional", [True, False])
    def test_a_wrong_file_is_a_failure_in_any_case(
        self, made: CatalogModel, mirror: Path, capsys: pytest.CaptureFixture[str], optional: bool
    ) -> None:
        (mirror / "made" / "model.bin").write_bytes(b"Weights" * 1000)
        assert run("fetch", "made", *(["--optional"] if optional else [])) == 1
        assert "refused and deleted" in capsys.readouterr().out

    def test_a_damaged_model_is_fetched_again(
        self, made: CatalogModel, mirror: Path, state: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = fetch_model(made, state / "models", mirror=str(mirror)).path
        (folder / "model.bin").write_bytes(b"Weights" * 1000)
        assert run("fetch", "--optional", "made") == 0
        assert (folder / "model.bin").read_bytes() == FILES["model.bin"]

    def test_a_bar_on_a_terminal(self, made: CatalogModel, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        screen = io.StringIO()
        terminal = Console(file=screen, force_terminal=True, width=100)
        monkeypatch.setattr(fetch_command, "stdout_console", lambda: terminal)
        assert run("fetch", "made") == 0
        assert "made: model.bin" in screen.getvalue()
        assert "7.0/7.0 kB" in screen.getvalue()


class TestReload:
    def test_good(self, url: str, models: MemoryModels, capsys: pytest.CaptureFixture[str]) -> None:
        new = replace(REPLICA_MODEL, model_version="new.pth (89abcdef)")
        models.after_reload = [DeployedModel("container", "ContainerClassifier", "HEALTHY", (new,))]
        assert run("reload", "container", "--url", url) == 0
        assert models.reloaded == ["container"]
        [row] = rows(capsys.readouterr().out)
        assert row[5] == "new.pth (89abcdef)"

    def test_one_replica_keeps_the_old(
        self, url: str, models: MemoryModels, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bad = replace(REPLICA_MODEL, replica="def456", failure=FAILURE)
        models.after_reload = [DeployedModel("container", "ContainerClassifier", "HEALTHY", (REPLICA_MODEL, bad))]
        assert run("reload", "container", "--url", url) == 1
        out = capsys.readouterr().out
        assert len(rows(out)) == 2
        assert out.endswith(f"ContainerClassifier def456: {FAILURE}\n")

    def test_unknown_model(self, url: str, models: MemoryModels) -> None:
        told = "serve-app: 그런 모델이 없습니다. 사용할 수 있는 모델: container, beverage"
        assert run("reload", "drums", "--url", url) == told
        assert models.reloaded == []

    def test_not_in_time(self, url: str, models: MemoryModels, monkeypatch: pytest.MonkeyPatch) -> None:
        async def fail(name: str) -> None:
            raise errors.Unavailable("not every replica has read its weights anew", 10.0)

        monkeypatch.setattr(models, "reload", fail)
        code = run("reload", "container", "--url", url)
        assert code == "serve-app: not every replica has read its weights anew"

    def test_name_is_wanted(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("reload") == 2
        assert "NAME" in capsys.readouterr().err


class TestCheck:
    def test_good_weights(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        torch.manual_seed(0)
        network = build_network(Architecture.MOBILENET_V3_SMALL, 3)
        checkpoint = {"model_state_dict": network.state_dict(), "classes": ["unclear", "empty", "with_beverage"]}
        torch.save(checkpoint, tmp_path / "beverage [1].pth")
        assert run("check", tmp_path / "beverage [1].pth", "--task", "beverage", "--activation", "hardswish") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("beverage [1].pth (")
        assert lines[0].endswith(") can serve as beverage: empty, with_beverage, unclear")
        assert lines[1].startswith("engine: onnxruntime in fp32 on cpu; probabilities differ by at most ")
        assert lines[2] == "between the head's layers: hardswish (a state_dict does not store it; see --activation)"
        assert lines[3] == "state_dict under 'model_state_dict'"
        assert "head classifier.0, classifier.3: FC(576 → 256 → 3)" in lines
        assert "outputs put in order: the file has unclear, empty, with_beverage" in lines
        assert list((tmp_path / "state" / "models" / "images").glob("*/facts.json"))

    def test_bad_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # here, not in a process that would load torch again; the good ones take that way
        monkeypatch.setattr(conversion, "_convert_elsewhere", conversion.convert)
        (tmp_path / "notes.pth").write_text("no weights at all")
        code = run("check", tmp_path / "notes.pth", "--task", "container")
        assert code == (
            "serve-app: The weights 'notes.pth' can't serve as container classifier: "
            "it is no file of weights: neither of torch.save nor safetensors"
        )

    @pytest.mark.parametrize(
        ("spec", "told"),
        [("gone.pth", "There is no file 'gone.pth'"), ("embedded:nothing", "No model 'nothing' is embedded")],
    )
    def test_no_weights(self, spec: str, told: str) -> None:
        code = run("check", spec, "--task", "container")
        assert isinstance(code, str)
        assert told in code

    def test_folder_with_calibration_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "notes.pth").write_text("no weights at all")
        code = run("check", tmp_path / "notes.pth", "--task", "container", "--calibration", tmp_path / "gone")
        assert isinstance(code, str)
        assert f"The calibration images in {str(tmp_path / 'gone')!r} can't be read" in code

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["x.pth"], "--task"),
            (["x.pth", "--task", "container", "--activation", "tanh"], "hardswish"),
            (["--task", "container"], "SPEC"),
        ],
    )
    def test_wrong_call(self, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("check", *arguments) == 2
        assert told in capsys.readouterr().err


def test_an_action_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "ACTION" in capsys.readouterr().err


def test_check_of_a_drum_network_of_another_maker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "best_model.pt"
    torch.save(torch.nn.Sequential(torch.nn.Conv1d(64, 3, 5)).state_dict() | {"more": torch.ones(0)}, path)
    assert run("check", path, "--task", "drums") != 0
    rnn, head = torch.nn.GRU(64, 8, bidirectional=True), torch.nn.Linear(16, 3)
    torch.save(
        {f"rnn.{name}": value for name, value in rnn.state_dict().items()}
        | {f"head.{name}": value for name, value in head.state_dict().items()},
        path,
    )
    assert run("check", path, "--task", "drums") != 0
    path.with_suffix(".json").write_text(json.dumps({"sample_rate": 22_050, "labels": ["snare", "kick", "hihat"]}))
    capsys.readouterr()
    assert run("check", path, "--task", "drums") in (0, None)
    told = capsys.readouterr().out
    assert "can serve as drums: snare, kick, hihat" in told
    assert "rnn (24, 64)" in told
    assert "hop_length 441" in told
