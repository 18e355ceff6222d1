"""`serve-app`: commands that have no folder of their own, over the HTTP layer with services in memory."""

from __future__ import annotations

import argparse
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.cli import _parser, main
from serve_app.services import Services
from tests.unit.api.memory_services import JobsOnTable, memory_services
from tests.unit.client.loopback import serving

PROJECT = Path(__file__).parents[2]


def run(*arguments: object) -> int | str | None:
    """Run a command here and return what it exits with."""
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    return caught.value.code


@pytest.fixture
def services() -> Services:
    return memory_services()


@pytest.fixture
def url(services: Services) -> Iterator[str]:
    with serving(create_app(services, ApiSettings())) as port:
        yield f"http://127.0.0.1:{port}"


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub_parser in action.choices.values():
                yield from parsers(sub_parser)


def test_every_command_names_a_function() -> None:
    names = [name for each in parsers(_parser()) if (name := each.get_default("command"))]
    assert len(names) == 16
    assert all(callable(pkgutil.resolve_name(name)) for name in names)


def test_job_is_submitted_shown_cancelled_and_deleted(
    services: Services, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--job-id", "a", "--language", "ko", "--num-speakers", 2, "--no-wait", "--url", url)
    assert run("submit", "https://example.org/v.mp4", *options) == 0
    assert json.loads(capsys.readouterr().out)["job_id"] == "a"
    assert isinstance(services.jobs, JobsOnTable)
    request = services.jobs.jobs["a"].request
    assert (request.video_url, request.language, request.num_speakers) == ("https://example.org/v.mp4", "ko", 2)
    statuses = []
    for action in ("show", "cancel", "show"):
        assert run("job", action, "a", "--url", url) == 0
        statuses.append(json.loads(capsys.readouterr().out)["status"])
    assert statuses == ["processing", "cancelled", "cancelled"]
    assert run("job", "deliveries", "a", "--url", url) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)
    assert run("job", "delete", "a", "--url", url) == 0
    assert capsys.readouterr().out == ""
    assert "serve-app: " in str(run("job", "show", "a", "--url", url))


def test_configs_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = PROJECT / "configs" / "local.yaml", tmp_path / "bad.yaml"
    bad.write_text("aplications: []\n")
    assert run("check", good) == 0
    assert capsys.readouterr().out == f"{good}: good\n"
    assert "did you mean 'applications'?" in str(run("check", bad))


def test_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_APP_MAX_UPLOAD_BYTES", "many")
    code = str(run("run", PROJECT / "configs" / "local.yaml"))
    assert "a setting in the environment is not allowed" in code
    assert "SERVE_APP_MAX_UPLOAD_BYTES" in code


def test_without_a_config_the_one_of_the_package_is_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("run", "demo"):
        assert _parser().parse_args([command]).config.samefile(PROJECT / "configs" / "local.yaml")  # one text, not two
    assert _parser().parse_args(["run", "gpu.yaml"]).config.samefile(PROJECT / "configs" / "gpu.yaml")
    # a path is taken as it is, and so is what lies in this folder
    assert _parser().parse_args(["run", "configs/gpu.yaml"]).config == Path("configs/gpu.yaml")
    (tmp_path / "gpu.yaml").write_text("mine")
    assert _parser().parse_args(["run", "gpu.yaml"]).config.read_text() == "mine"


@pytest.mark.parametrize(
    ("module", "extra"), [("mir_eval.util", "drums"), ("openvino", "images"), ("whisper", "speech")]
)
def test_a_command_without_its_libraries_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    def lacks(arguments: object) -> int:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("serve_app.cli._check", lacks)
    code = str(run("check", "local.yaml"))
    assert code == f"serve-app: this command needs {module}, which is not installed: pip install 'serve_app[{extra}]'"


def test_a_module_that_no_extra_brings_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(arguments: object) -> int:
        raise ModuleNotFoundError("No module named 'misspelt'", name="misspelt")

    monkeypatch.setattr("serve_app.cli._check", lacks)
    with pytest.raises(ModuleNotFoundError):
        main(["check", "local.yaml"])
