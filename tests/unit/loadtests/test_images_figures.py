"""What the cells of the image servers say, and how an answer is held against PyTorch's."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from loadtests.images.figures import Cell, percentile, table, verdicts
from loadtests.images.graph import write_config
from loadtests.images.load import Answer
from loadtests.images.measurement import drift_of
from loadtests.images.peers.settings import Settings
from loadtests.images.process_tree import memory, tree, tree_cpu_s
from loadtests.images.servers import ServerSpec


def _cell(server: str, per_s: float, p50_ms: float = 50.0, network: str = "resnet50", concurrency: int = 1) -> Cell:
    numbers = {"cpu_ms": 1.0, "generator_ms": 0.1, "others_cores": 0.0, "rss_mb": 9.0, "pss_mb": 5.0, "p99_ms": 99.0}
    return Cell(
        network, server, f"({server})", concurrency, 100, 0, per_s, p50_ms, drift=1e-3, agreement=1.0, **numbers
    )


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (0, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([3.0, 1.0], 50) == 1.0
    assert percentile([7.0], 99) == 7.0
    assert math.isnan(percentile([], 50))


def test_a_row_is_the_median_of_its_rounds() -> None:
    cells = [_cell("a", per_s) for per_s in (10, 90, 20)] + [_cell("d", per_s) for per_s in (60, 10, 70)]
    first, second = table(cells)[2:]
    assert first.startswith("| resnet50 | 1 | (a) | 20.0 | 50.0 | 99.0 | 1.0 | 1.00 | 5 | 9 | 1.0e-03 | 100.0% | 0 ")
    assert second.startswith("| resnet50 | 1 | (d) | 60.0 | 50.0 | 99.0 | 1.0 | 3.00 |")


def test_goals_are_held_against_the_best_setting_of_the_others() -> None:
    cells = [
        _cell("a", 10, 40.0),
        _cell("b,workers=1", 12),
        _cell("b,workers=2", 16),
        _cell("c", 8),
        _cell("d", 18, 30.0),
        _cell("d,calibration=/x", 39, 20.0),
    ]
    assert verdicts(cells) == [
        "resnet50, 1 connections: 1.80 × (a), goal 1.6: met",
        "resnet50, 1 connections: 1.12 × the better of (b), (c), goal 1.3: NOT met",
        "resnet50, 8 bits, 1 connections: 3.90 × (a), goal 4: NOT met",
        "resnet50, 1 connection: p50 30.0 ms, (a) 40.0 ms: met",
    ]


def test_a_busy_machine_makes_the_comparison_void() -> None:
    cells = [replace(_cell("a", 10), others_cores=0.9), _cell("d", 50)]
    assert verdicts(cells)[-1] == "NOT VALID: the machine was not quiet, others kept up to 0.90 cores busy"


def test_a_server_that_is_not_there_is_not_judged() -> None:
    assert verdicts([_cell("a", 10), _cell("d", 50, network="mobilenet_v3_small")]) == []


def test_an_answer_is_held_against_pytorch() -> None:
    expected = {"disposable": 0.3, "reusable": 0.7}

    def judged(body: str, status: int = 200) -> tuple[float, bool] | None:
        return drift_of(Answer(1.0, 0, status, body), expected)

    drift, same = judged('{"probabilities": {"disposable": 0.25, "reusable": 0.75}}') or (0.0, False)
    assert (drift, same) == (pytest.approx(0.05), True)
    drift, same = judged('[{"probabilities": {"disposable": 0.6, "reusable": 0.4}}]') or (0.0, True)
    assert (drift, same) == (pytest.approx(0.3), False)
    for body in ("", "{}", "[]", '{"probabilities": {"reusable": 1}}', "null"):
        assert judged(body) is None
    assert judged('{"probabilities": {"disposable": 0.25, "reusable": 0.75}}', status=500) is None


def test_a_server_is_named_with_its_settings() -> None:
    spec = ServerSpec.parse("b:workers=2,wait_ms=2.5,engine=x")
    assert spec.options == (("workers", 2), ("wait_ms", 2.5), ("engine", "x"))
    assert (spec.name, spec.key) == (
        "(b) LitServe, workers 2, wait_ms 2.5, engine x",
        "b,workers=2,wait_ms=2.5,engine=x",
    )
    with pytest.raises(ValueError, match="'x' is none of a, b, c, d"):
        ServerSpec.parse("x:workers=2")


def test_settings_survive_the_environment() -> None:
    settings = Settings("/w.pth", "resnet50", "container", "/p", 5, workers=2, threads=1, wait_ms=2.5, fast_queue=True)
    assert Settings.from_environment(settings.to_environment()) == settings


def test_only_the_classifier_that_is_measured_has_replicas(tmp_path: Path) -> None:
    path = write_config(tmp_path / "c.yaml", "container", "/w.pth", replicas=2, num_threads=1)
    [application] = yaml.safe_load(path.read_text())["applications"]
    assert application["args"]["images"]["container"] == {"in_ingress": True, "model": "/w.pth", "num_threads": 1}
    scaled = {
        each["name"]: each["autoscaling_config"] for each in application["deployments"] if "autoscaling_config" in each
    }
    assert scaled.pop("ContainerClassifier") == {"min_replicas": 2, "initial_replicas": 2, "max_replicas": 2}
    assert {each["min_replicas"] for each in scaled.values()} == {0}
    assert "BeverageDetector" in scaled


@pytest.mark.parametrize(("options", "num"), [({}, 0), ({"in_ingress": 0}, 1)])
def test_a_classifier_inside_the_ingress_has_no_replica(tmp_path: Path, options: dict[str, int], num: int) -> None:
    path = write_config(tmp_path / "c.yaml", "container", "/w.pth", **options)
    [application] = yaml.safe_load(path.read_text())["applications"]
    [container] = [each for each in application["deployments"] if each["name"] == "ContainerClassifier"]
    assert container["autoscaling_config"]["min_replicas"] == num


def test_a_tree_counts_what_its_ended_children_took() -> None:
    child = "import sys; sum(range(10**7)); sys.stdout.write('x')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        assert process.pid in tree(process.pid)
        assert os.getpid() not in tree(process.pid)
        taken = memory(tree(process.pid))
        assert 2 < taken.pss_mb <= taken.rss_mb
        assert tree_cpu_s(process.pid) > 0.05
        process.kill()
    assert tree(process.pid) == ()
