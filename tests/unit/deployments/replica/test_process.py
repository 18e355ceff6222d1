"""What a replica takes from Ray: the meaning of `auto`, and where it logs."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from serve_app.deployments.replica.process import _join_serve_log, replica_device, replica_id


def give(monkeypatch: pytest.MonkeyPatch, ids: dict[str, list[str]]) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_accelerator_ids=lambda: ids))


@pytest.mark.parametrize(
    ("ids", "device"), [({"GPU": ["0"]}, "cuda"), ({"GPU": []}, "cpu"), ({}, "cpu"), ({"TPU": ["0"]}, "cpu")]
)
def test_auto_is_the_gpu_that_ray_gave(monkeypatch: pytest.MonkeyPatch, ids: dict[str, list[str]], device: str) -> None:
    give(monkeypatch, ids)
    assert replica_device("auto") == device


def test_a_named_device_is_kept_whatever_ray_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, {"GPU": ["0"]})
    assert [replica_device(name) for name in ("cpu", "cuda:1", "mps")] == ["cpu", "cuda:1", "mps"]


def test_outside_of_ray_auto_is_the_cpu() -> None:
    assert replica_device("auto") == "cpu"
    assert replica_id() == ""


@pytest.fixture
def _loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("serve_app", "serve_app.access", "ray.serve")]
    kept = [(each.handlers, each.propagate, each.level) for each in loggers]
    yield
    for each, (handlers, propagate, level) in zip(loggers, kept, strict=True):
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.mark.usefixtures("_loggers")
@pytest.mark.parametrize("has_file", [True, False])
def test_our_log_goes_where_serves_goes_and_access_lines_to_files_alone(has_file: bool, tmp_path: Any) -> None:
    terminal = logging.StreamHandler()
    files = [logging.FileHandler(tmp_path / "replica.log")] if has_file else []
    logging.getLogger("ray.serve").handlers = [terminal, *files]
    _join_serve_log()
    ours, access = logging.getLogger("serve_app"), logging.getLogger("serve_app.access")
    assert (ours.handlers, ours.propagate, ours.level) == ([terminal, *files], False, logging.INFO)
    assert (access.handlers, access.propagate) == (files, not has_file)
    for file in files:
        file.close()


_FREEING = """
import sys
import numpy as np
import psutil
from serve_app.deployments.replica.process import return_large_blocks

if sys.argv[1] == "returned":
    return_large_blocks()
for _ in range(3):  # glibc learns from blocks that are freed
    block = np.ones(20 << 17)
    del block
blocks = []
for _ in range(8):
    blocks += [np.ones(4 << 17), np.ones(64)]  # 4 MiB, and a small one on top of it
before = psutil.Process().memory_info().rss
del blocks[::2]
print((before - psutil.Process().memory_info().rss) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_arrays_go_back_to_the_system() -> None:
    freed = {
        how: int(
            subprocess.run([sys.executable, "-c", _FREEING, how], capture_output=True, text=True, check=True).stdout
        )
        for how in ("kept", "returned")
    }
    assert freed["kept"] < 8 < 28 < freed["returned"]  # of 32 MiB
