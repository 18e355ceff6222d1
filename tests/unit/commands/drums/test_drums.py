"""`serve-app drums`: what it writes, what it says, how it ends."""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Iterator
from pathlib import Path

import mido
import numpy as np
import pytest
import torch
from fastapi import FastAPI

from serve_app import errors
from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.cli import main
from serve_app.models.drums.checkpoint import save_checkpoint
from serve_app.models.drums.network import DrumNetwork, HyperParameters
from serve_app.results import Drum
from serve_app.services import DrumOptions
from tests.unit.api.memory_services import DRUM_MIDI, MemoryDrums, memory_services
from tests.unit.client.loopback import serving


def run(*arguments: object) -> int | str | None:
    """Run the command here and return what it exits with."""
    with pytest.raises(SystemExit) as caught:
        main(["drums", *map(str, arguments)])
    return caught.value.code


def write_wav(path: Path, seconds: float = 2.0, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    samples = np.zeros(int(44_100 * seconds))
    for start in range(4000, len(samples) - 4000, 11_025):
        samples[start : start + 4000] = rng.normal(0, 0.3, 4000) * np.exp(-np.arange(4000) / 600)
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, 2, 44_100, 0, "NONE", ""))
        written.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    path.write_bytes(file.getvalue())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    network = DrumNetwork(HyperParameters(conv_channels=(2, 2), width=8, block_width=8, dilations=(1, 2)))
    path = tmp_path_factory.mktemp("weights") / "best_model.pt"
    thresholds = dict.fromkeys(map(str, Drum), 0.5)
    save_checkpoint(path, network, thresholds=thresholds, model_version="untrained", facts={})
    return path


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERVE_APP_STATE_DIR", str(tmp_path / "state"))


class TestOnThisMachine:
    def test_files_are_named_after_the_recordings(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one, two = write_wav(tmp_path / "one.wav"), write_wav(tmp_path / "둘 [2].wav", 1.0)
        out = tmp_path / "new" / "folder"
        assert run(one, two, "--out", out, "--model", model, "--bpm", 90) == 0
        assert sorted(path.name for path in out.iterdir()) == ["one.mid", "one.txt", "둘 [2].mid", "둘 [2].txt"]
        tempi = [
            message.tempo
            for track in mido.MidiFile(str(out / "one.mid")).tracks
            for message in track
            if message.type == "set_tempo"
        ]
        assert mido.tempo2bpm(tempi[0]) == pytest.approx(90, abs=0.01)
        assert (out / "둘 [2].txt").read_text("utf-8").startswith("# file: 둘 [2].wav\n")
        told = capsys.readouterr().err
        assert "둘 [2].wav: " in told
        assert "90.0 BPM" in told
        assert "2 transcribed, 0 failed" in told

    def test_one_that_fails_does_not_stop_the_others(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bad, gone, good = tmp_path / "bad.wav", tmp_path / "gone.wav", write_wav(tmp_path / "good.wav")
        bad.write_bytes(b"RIFF nothing")
        assert run(bad, gone, tmp_path, good, "--out", tmp_path / "out", "--model", model) == 1
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.mid", "good.txt"]
        told = capsys.readouterr().err
        assert "gone.wav: No such file" in told
        assert "bad.wav: The file is not media" in told
        assert "1 transcribed, 3 failed" in told

    def test_picture_on_request(self, model: Path, tmp_path: Path) -> None:
        recording = write_wav(tmp_path / "a.wav")
        assert run(recording, "--out", tmp_path / "out", "--model", model, "--plot", "--threshold-kick", "0.9") == 0
        assert (tmp_path / "out" / "a.png").read_bytes().startswith(b"\x89PNG")

    def test_options_reach_the_log(self, model: Path, tmp_path: Path) -> None:
        recording = write_wav(tmp_path / "a.wav")
        grids = ("--grid-kick", 8, "--grid-snare", 0, "--grid-hihat", 12)
        assert run(recording, "--out", tmp_path, "--model", model, *grids, "--threshold-snare", 0.25) == 0
        log = (tmp_path / "a.txt").read_text()
        assert "kick 1/8, snare none, hihat 1/12" in log
        assert "snare 0.25" in log
        assert "untrained (" in log

    def test_earlier_files_are_replaced_and_nothing_else_is_left(self, model: Path, tmp_path: Path) -> None:
        recording, out = write_wav(tmp_path / "a.wav"), tmp_path / "out"
        out.mkdir()
        (out / "a.mid").write_bytes(b"old")
        assert run(recording, recording, "--out", out, "--model", model) == 0
        assert (out / "a.mid").read_bytes().startswith(b"MThd")
        assert sorted(path.name for path in out.iterdir()) == ["a.mid", "a.txt"]
        assert (out / "a.mid").stat().st_mode & 0o777 == 0o666 & ~_umask()

    def test_model_that_is_none(self, tmp_path: Path) -> None:
        recording = write_wav(tmp_path / "a.wav")
        (tmp_path / "notes.pt").write_text("no checkpoint")
        for name, told in (
            ("notes.pt", "no file of weights"),
            ("gone/best_model.pt", "There is no file"),
            ("", "no .pt, .pth, .ckpt file"),
        ):
            folder = tmp_path / "empty"
            folder.mkdir(exist_ok=True)
            code = run(recording, "--out", tmp_path / "out", "--model", tmp_path / name if name else folder)
            assert isinstance(code, str)
            assert told in code

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["--bpm", "1"], "bpm must be"),
            (["--grid-kick", "1000"], "grid_division['kick']"),
            (["--threshold-hihat", "1.5"], "thresholds['hihat']"),
        ],
    )
    def test_wrong_options_end_it_before_the_first_file(
        self, model: Path, tmp_path: Path, arguments: list[str], told: str
    ) -> None:
        code = run(write_wav(tmp_path / "a.wav"), "--out", tmp_path / "out", "--model", model, *arguments)
        assert isinstance(code, str)
        assert told in code
        assert not list((tmp_path / "out").glob("*"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_recordings_of_one_name_are_not_written_over_each_other(tmp_path: Path) -> None:
    code = run(tmp_path / "a" / "x.wav", tmp_path / "b" / "X.flac", "--out", tmp_path / "out")
    assert isinstance(code, str)
    assert "would both be written to X.mid" in code
    assert not (tmp_path / "out").exists()


def test_out_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    code = run(tmp_path / "x.wav", "--out", tmp_path / "out")
    assert isinstance(code, str)
    assert "--out" in code


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FastAPI, str]]:
    app = create_app(memory_services(), ApiSettings())
    with serving(app) as port:
        yield app, f"http://127.0.0.1:{port}"


class TestOnAServer:
    @pytest.fixture
    def drums(self, running: tuple[FastAPI, str]) -> MemoryDrums:
        running[0].state.services = memory_services()
        return running[0].state.services.drums

    def test_what_the_server_says_is_written(
        self, running: tuple[FastAPI, str], drums: MemoryDrums, tmp_path: Path
    ) -> None:
        (tmp_path / "a.wav").write_bytes(b"sound")
        drums.picture = b"\x89PNG"
        options = ("--bpm", 100, "--grid-hihat", 32, "--threshold-kick", 0.4, "--plot")
        assert run(tmp_path / "a.wav", "--out", tmp_path / "out", "--url", running[1], *options) == 0
        assert drums.contents == [b"sound"]
        assert drums.asked == [(["a.wav"], DrumOptions(100.0, {Drum.HIHAT: 32}, {Drum.KICK: 0.4}, True))]
        assert (tmp_path / "out" / "a.mid").read_bytes() == DRUM_MIDI
        assert (tmp_path / "out" / "a.txt").read_text() == "0.501 kick"
        assert (tmp_path / "out" / "a.png").read_bytes() == b"\x89PNG"

    def test_failures_of_files(
        self,
        running: tuple[FastAPI, str],
        drums: MemoryDrums,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for name in ("a.wav", "b.wav"):
            (tmp_path / name).write_bytes(b"sound")
        drums.failures["a.wav"] = errors.AudioExtractionError("no audio track")
        assert run(tmp_path / "a.wav", tmp_path / "b.wav", "--out", tmp_path / "out", "--url", running[1]) == 1
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.mid", "b.txt"]
        assert "no audio track" in capsys.readouterr().err

    def test_address_where_nobody_listens(self, tmp_path: Path) -> None:
        code = run(tmp_path / "a.wav", "--out", tmp_path / "out", "--url", "http://127.0.0.1:1")
        assert isinstance(code, str)
        assert "can't be reached" in code

    def test_a_model_of_ones_own_needs_this_machine(self, running: tuple[FastAPI, str], tmp_path: Path) -> None:
        code = run(tmp_path / "a.wav", "--out", tmp_path, "--url", running[1], "--model", "x")
        assert isinstance(code, str)
        assert "--model" in code
