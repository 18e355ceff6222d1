"""`serve-app drums-eval` over a model whose transcripts are known."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serve_app.cli import main
from serve_app.commands.drums import evaluate
from serve_app.commands.drums.routes import LocalRoute
from serve_app.errors import AudioExtractionError
from serve_app.models.drums import checkpoint
from serve_app.models.drums.activations import DrumActivations
from serve_app.models.drums.config import InferenceConfig
from serve_app.models.drums.transcription import TranscribedDrums
from serve_app.results import Drum, DrumHit, DrumTranscript, TempoChange


def run(*arguments: object) -> int | str | None:
    """Run the command here and return what it exits with."""
    with pytest.raises(SystemExit) as caught:
        main(["drums-eval", *map(str, arguments)])
    return caught.value.code


class KnownRoute:
    """Stands for the model, whose transcripts the recordings hold as JSON."""

    loaded = SimpleNamespace(model_version="known (12345678)")
    config = None

    def __init__(self, arguments: argparse.Namespace) -> None:
        made.append(arguments)


def transcribe_drums(path: Path, loaded: Any, config: Any, *, on_progress: Callable[[float], None]) -> TranscribedDrums:
    on_progress(0.5)
    content = json.loads(path.read_text())
    if content is None:
        raise AudioExtractionError("not media")
    hits = tuple(DrumHit(time_s, 99.0, Drum(drum), 100, 0.9) for time_s, drum in content)
    transcript = DrumTranscript(hits, 120.0, (TempoChange(0.0, 120.0),), 10.0, loaded.model_version)
    return TranscribedDrums(transcript, cast("DrumActivations", None))


made: list[argparse.Namespace] = []


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made.clear()
    monkeypatch.setenv("SERVE_APP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(evaluate, "LocalRoute", KnownRoute)
    monkeypatch.setattr(evaluate, "transcribe_drums", transcribe_drums)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    audio, annotations = tmp_path / "audio", tmp_path / "annotations"
    audio.mkdir()
    annotations.mkdir()
    (audio / "MusicDelta_Rock_Drum.wav").write_text(json.dumps([[1.0, "kick"], [2.04, "snare"], [3.0, "hihat"]]))
    (annotations / "MusicDelta_Rock_class.txt").write_text("1.0\tKD\n2.0\tSD\n3.5\tTT\n")
    (audio / "MusicDelta_Beatles_Drum.wav").write_text(json.dumps([[1.0, "kick"], [1.5, "kick"]]))
    (annotations / "MusicDelta_Beatles_class.txt").write_text("1.0\tKD\n1.2\tCY\n1.3\tCY\n")
    return audio, annotations


def test_figures(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*folders, "--json", tmp_path / "figures.json") == 0
    document = json.loads((tmp_path / "figures.json").read_text())
    assert list(document["windows"]) == ["20 ms", "30 ms", "50 ms"]
    kick = document["windows"]["20 ms"]["kick"]
    assert (kick["num_right"], kick["num_annotated"], kick["num_found"]) == (2, 2, 3)
    assert kick["pooled"]["f"] == pytest.approx(0.8)
    assert kick["macro"]["f"] == pytest.approx((1 + 2 / 3) / 2)
    assert [document["windows"][window]["snare"]["pooled"]["f"] for window in document["windows"]] == [0, 0, 1]
    assert document["windows"]["50 ms"]["snare"]["num_files"] == 1
    assert document["median_offset_ms"] == {"kick": 0.0, "snare": pytest.approx(40.0), "hihat": None}
    assert document["labels_left_out"] == {"TT": 1, "CY": 2}
    assert document["model_version"] == "known (12345678)"
    files = {each["file"]: each for each in document["files"]}
    assert files["MusicDelta_Rock_Drum.wav"]["annotation"] == "MusicDelta_Rock_class.txt"
    assert files["MusicDelta_Rock_Drum.wav"]["windows"]["50 ms"]["hihat"] == {
        "num_right": 0,
        "num_annotated": 0,
        "num_found": 1,
        "precision": 0.0,
        "recall": None,
        "f": 0.0,
    }
    shown = capsys.readouterr()
    [row] = [line.split() for line in shown.out.splitlines() if line.split()[:1] == ["kick"]]
    assert row == ["kick", "2", "3", "20", "66.7", "100.0", "80.0", "75.0", "100.0", "83.3", "2"]
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "CY (2), TT (1)" in shown.err


def test_what_has_no_partner_is_named(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (folders[0] / "Lonely_Drum.wav").write_text("[]")
    (folders[1] / "Other_class.txt").write_text("")
    assert run(*folders) == 0
    told = capsys.readouterr().err
    assert "1 recordings without an annotation, left out: Lonely_Drum.wav" in told
    assert "1 annotations without a recording, left out: Other_class.txt" in told


def test_files_that_fail_do_not_stop_the_others(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[0] / "Broken.wav").write_text("null")
    (folders[1] / "Broken.txt").write_text("1.0 KD")
    (folders[0] / "Misspelt.wav").write_text("[]")
    (folders[1] / "Misspelt.txt").write_text("1.0 KD\nKD 2.0")
    assert run(*folders, "--json", tmp_path / "figures.json") == 1
    document = json.loads((tmp_path / "figures.json").read_text())
    assert set(document["failed"]) == {"Broken.wav", "Misspelt.wav"}
    assert document["windows"]["20 ms"]["kick"]["num_right"] == 2
    told = capsys.readouterr().err.replace("\n", "")
    assert "Broken.wav: not media" in told
    assert "Misspelt.txt, line 2" in told


def test_options(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real route, but for its weights."""
    asked: list[Any] = []

    def load_drums(spec: str, **options: Any) -> Any:
        asked.append((spec, options["device"], options["cache_dir"]))
        return KnownRoute.loaded

    monkeypatch.setattr(checkpoint, "load_drums", load_drums)
    monkeypatch.setattr(evaluate, "LocalRoute", LocalRoute)
    configs: list[InferenceConfig] = []

    def keep_config(path: Path, loaded: Any, config: InferenceConfig, **options: Any) -> TranscribedDrums:
        configs.append(config)
        return transcribe_drums(path, loaded, config, **options)

    monkeypatch.setattr(evaluate, "transcribe_drums", keep_config)
    assert run(*folders, "--model", "m.pt", "--device", "cpu", "--threshold-snare", 0.3) == 0
    assert asked == [("m.pt", "cpu", tmp_path / "state" / "models")]
    assert [config.thresholds for config in configs] == [{"kick": None, "snare": 0.3, "hihat": None}] * 2


@pytest.mark.parametrize(
    ("audio", "annotations", "told"),
    [("gone", "annotations", "is not a folder"), ("audio", "empty", "holds no annotations")],
)
def test_wrong_folders(folders: tuple[Path, Path], tmp_path: Path, audio: str, annotations: str, told: str) -> None:
    (tmp_path / "empty").mkdir()
    code = run(tmp_path / audio, tmp_path / annotations)
    assert isinstance(code, str)
    assert told in code
    assert made == []


def test_nothing_belongs_together(tmp_path: Path) -> None:
    (tmp_path / "one.wav").write_text("[]")
    (tmp_path / "two.txt").write_text("")
    code = run(tmp_path, tmp_path)
    assert isinstance(code, str)
    assert "one.wav and two.txt" in code


def test_json_in_a_folder_that_is_not_there(folders: tuple[Path, Path], tmp_path: Path) -> None:
    code = run(*folders, "--json", tmp_path / "no" / "figures.json")
    assert isinstance(code, str)
    assert "--json" in code
    assert made == []
