"""Which engine is fastest here: measured in a process of its own, once for a model and a machine."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import ModelLoadingError
from serve_app.models.images import machine, speed
from serve_app.models.images.engines import EngineName, Layout, Precision, has_bfloat16
from serve_app.models.images.machine import available_cores
from serve_app.models.images.speed import Measured, Timing, layouts, measured, plans, usual_layout
from tests.unit.models.images.conftest import Finished

ORT, OV, PT = EngineName.ONNXRUNTIME, EngineName.OPENVINO, EngineName.PYTORCH
FP32, BF16, INT8 = Precision.FP32, Precision.BF16, Precision.INT8
CORES = 2


@pytest.fixture(scope="module")
def folder(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a converted model of which the engines were measured in a process."""
    copied = Path(shutil.copytree(finished.folder, tmp_path_factory.mktemp("images") / "model"))
    assert measured(copied, CORES).timings
    return copied


def note_of(folder: Path) -> Path:
    [note] = folder.glob("speed-*.json")
    return note


@pytest.fixture
def runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what was asked of processes that measure; they answer at once what the real one found."""
    found = json.dumps(json.loads(note_of(folder).read_text())["measured"])
    asked: list[str] = []

    def run(command: list[str], *, input: str, **more: Any) -> subprocess.CompletedProcess[str]:
        asked.append(input)
        return subprocess.CompletedProcess(command, 0, stdout=f"a library's greeting\n{found}\n", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return asked


@pytest.fixture
def model(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder, for a test to change; not busy, whatever the machine was."""
    copied = Path(shutil.copytree(folder, tmp_path / "model"))
    change(copied, lambda content: content["measured"].update(is_busy=False))
    return copied


def change(folder: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(note_of(folder).read_text())
    how(content)
    note_of(folder).write_text(json.dumps(content))


def test_every_engine_is_timed_and_compared(folder: Path) -> None:
    found = {(each.engine, each.precision, each.layout): each for each in measured(folder, CORES).timings}
    for engine in (ORT, OV):
        for layout in (Layout(2, 1, 2), Layout(1, 2, 1)):
            timing = found[engine, FP32, layout]
            assert timing.failure == ""
            assert 0 < timing.lone_ms < 60_000
            assert 0 < timing.batch_ms < 60_000
            assert timing.difference is not None
            assert timing.difference < 1e-4
    assert not any(each.precision is INT8 for each in found.values())  # without calibration images there is none


def test_it_is_measured_once_and_the_note_is_private(model: Path, runs: list[str]) -> None:
    assert measured(model, CORES) == measured(model, CORES)
    assert runs == []
    assert stat.S_IMODE(os.stat(note_of(model)).st_mode) & 0o077 == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.clear(),
        lambda content: content["measured"].update(timings=[{"engine": "abacus"}]),
        lambda content: content["measured"].update(timings="none"),
        lambda content: content.update(machine={"cpu": "of another machine"}),
        lambda content: content.update(at="yesterday"),
    ],
)
def test_a_damaged_or_foreign_note_is_measured_again(damage: Any, model: Path, runs: list[str]) -> None:
    change(model, damage)
    again = measured(model, CORES)
    assert len(runs) == 1
    assert again.timings
    assert measured(model, CORES) == again
    assert len(runs) == 1


def test_half_a_note_is_measured_again(model: Path, runs: list[str]) -> None:
    note_of(model).write_bytes(note_of(model).read_bytes()[:100])
    assert measured(model, CORES).timings
    assert len(runs) == 1


@pytest.mark.parametrize("what", ["cores", "cpu", "library"])
def test_another_machine_is_measured_anew(
    what: str, model: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "cpu":
        monkeypatch.setattr(machine, "_cpuinfo", lambda: "model name\t: another\nflags\t: avx2\n")
    elif what == "library":
        monkeypatch.setattr(machine, "version", lambda package: "999")
    cores = 1 if what == "cores" else CORES
    measured(model, cores)
    assert [json.loads(each)["cores"] for each in runs] == [cores]
    assert len(list(model.glob("speed-*.json"))) == 2


@pytest.mark.parametrize(("age_s", "num_runs"), [(10.0, 0), (3600.0, 1), (-3600.0, 1)])
def test_what_was_measured_on_a_busy_machine_is_kept_for_a_while(
    age_s: float, num_runs: int, model: Path, runs: list[str]
) -> None:
    change(model, lambda content: content["measured"].update(is_busy=True))
    change(model, lambda content: content.update(at=time.time() - age_s))
    measured(model, CORES)
    assert len(runs) == num_runs


@pytest.mark.parametrize(
    "failure",
    [
        subprocess.TimeoutExpired("python", 60),
        subprocess.CalledProcessError(-4, "python", stderr="illegal instruction"),
        OSError("no more processes"),
    ],
)
def test_a_process_that_fails_leaves_no_times(
    failure: Exception, model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **more: Any) -> None:
        raise failure

    note_of(model).unlink()
    monkeypatch.setattr(subprocess, "run", fail)
    assert measured(model, CORES) == Measured()
    assert "the engines could not be measured" in caplog.text
    assert not list(model.glob("speed-*.json"))


def test_a_candidate_that_could_not_run_does_not_spoil_the_others(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = speed.open_engine

    def fail(name: EngineName, *args: Any, **more: Any) -> Any:
        if name is OV:
            raise ModelLoadingError("no such instruction")
        return opened(name, *args, **more)

    monkeypatch.setattr(speed, "open_engine", fail)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"folder": str(model), "cores": 1})))
    speed.main()
    said = capsys.readouterr().out.splitlines()[-1]
    monkeypatch.setattr(subprocess, "run", lambda *args, **more: subprocess.CompletedProcess("", 0, said, ""))
    found = measured(model, 1).timings
    assert {each.failure for each in found if each.engine is OV} == {"no such instruction"}
    assert [each.lone_ms > 0 for each in found if each.engine is ORT] == [True]
    first, *_ = plans(Measured(found), 1, allowed)
    assert (first.engine, first.precision) == (ORT, FP32)


@pytest.mark.parametrize(("load", "is_busy"), [(99.0, True), (0.0, False)])
def test_a_loaded_machine_is_busy_and_loads_no_pytorch(
    load: float, is_busy: bool, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(speed, "_OPENED_S", 300.0)
    monkeypatch.setattr(speed, "_BUSY", 1000.0)
    found = speed.measure(model, 1)
    assert found.is_busy is is_busy
    assert (PT in {each.engine for each in found.timings}) is not is_busy


def test_where_time_is_short_the_likely_fastest_is_measured(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_OPENED_S", 0.0)
    found = speed.measure(model, 1)
    assert found.is_busy  # it holds for a while only
    [only] = found.timings
    assert (only.engine, only.precision) == ((OV, BF16) if has_bfloat16() else (ORT, FP32))


# The choice


def timing(
    engine: EngineName, precision: Precision, lone: float, batch: float, layout: Layout | None = None, off: float = 1e-6
) -> Timing:
    return Timing(engine, precision, layout or Layout(), lone, batch, off)


def allowed(precision: Precision) -> float:
    return {FP32: 1e-4, BF16: 0.02, INT8: 0.1}[precision]


def chosen(*timings: Timing, is_busy: bool = False) -> list[tuple[EngineName, Precision]]:
    return [(plan.engine, plan.precision) for plan in plans(Measured(timings, is_busy), CORES, allowed)]


def test_the_fastest_comes_first() -> None:
    timings = [timing(PT, FP32, 60, 60), timing(ORT, FP32, 90, 90), timing(OV, BF16, 30, 30), timing(OV, FP32, 70, 70)]
    assert chosen(*timings) == [(OV, BF16), (PT, FP32), (OV, FP32), (ORT, FP32)]


def test_a_gain_that_is_small_beside_decoding_does_not_cost_exactness() -> None:
    assert chosen(timing(OV, BF16, 1.3, 0.9), timing(ORT, FP32, 1.9, 1.1))[0] == (ORT, FP32)
    assert chosen(timing(OV, INT8, 70, 70), timing(ORT, FP32, 75, 75))[0] == (ORT, FP32)


def test_one_that_computes_wrongly_or_could_not_run_is_left_out() -> None:
    broken = Timing(ORT, FP32, Layout(), failure="no such instruction")
    assert chosen(timing(OV, BF16, 1, 1, off=0.03), timing(OV, FP32, 50, 50, off=0.01), broken) == []
    assert chosen(timing(OV, BF16, 1, 1, off=0.019), broken) == [(OV, BF16)]


def test_one_picture_and_several_may_use_the_cores_differently() -> None:
    together, apart = Layout(2, 1, 2), Layout(1, 2, 1)
    [plan] = plans(Measured((timing(ORT, FP32, 50, 50, together), timing(ORT, FP32, 80, 42, apart))), CORES, allowed)
    assert (plan.layout, plan.lone_ms, plan.batch_ms) == (Layout(2, 2, 1), 50, 42)
    [plan] = plans(Measured((timing(ORT, FP32, 50, 44, together), timing(ORT, FP32, 80, 42, apart))), CORES, allowed)
    assert plan.layout == together  # a second network would save 2 ms of 42


def test_a_busy_machine_says_nothing_of_threads() -> None:
    slow_together = (timing(ORT, FP32, 300, 300, Layout(2, 1, 2)), timing(ORT, FP32, 80, 42, Layout(1, 2, 1)))
    [plan] = plans(Measured(slow_together, is_busy=True), CORES, allowed)
    assert plan.layout == usual_layout(CORES) == Layout(2, 2, 1)


@pytest.mark.parametrize("cores", [1, 2, 4, 16])
@pytest.mark.parametrize("engine", list(EngineName))
def test_no_candidate_uses_more_than_the_cores(engine: EngineName, cores: int) -> None:
    found = layouts(engine, cores)
    assert len(set(found)) == len(found) >= 1
    for layout in found:
        assert max(layout.lone_threads, layout.batch_calls * layout.batch_threads) <= cores
    assert cores == max(layout.batch_calls * layout.batch_threads for layout in found)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "garbage"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
    ],
)
def test_a_containers_quota_is_read(files: dict[str, str], cores: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.quota_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (1.5, 1), (0.3, 1), (3.0, 3), (64.0, 8)])
def test_cores_are_those_allowed(quota: float | None, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(machine, "quota_cores", lambda: quota)
    assert available_cores() == cores
