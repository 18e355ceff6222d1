"""Who learns that a replica has no model, and when; and what a replica says of the model that it has."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from serve_app.deployments.replica.loaded_model import GRACE_S, LoadedModel
from serve_app.errors import GpuMemoryError, ModelLoadingError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def loaded(clock: Clock) -> LoadedModel[str]:
    return LoadedModel("Ears", lambda: "ears", lambda model: f"{model}-1", clock=clock)


def failed(clock: Clock, error: Exception | None = None, takes_s: float = 0.0) -> LoadedModel[str]:
    def load() -> str:
        clock.now += takes_s
        raise error or ModelLoadingError("no file")

    return LoadedModel("Ears", load, str, clock=clock)


def test_a_loaded_model_is_served_and_healthy_for_ever(clock: Clock) -> None:
    model = loaded(clock)
    assert (model.get(), model.or_none, model.failure) == ("ears", "ears", None)
    clock.now += 1e6
    model.check_health()
    assert model.uptime_s == 1e6


def test_callers_learn_of_a_failure_at_once_and_serve_after_the_grace_time(clock: Clock) -> None:
    model = failed(clock, takes_s=12.0)
    assert model.or_none is None
    for _ in range(2):
        with pytest.raises(ModelLoadingError, match="no file"):
            model.get()
    model.check_health()
    clock.now += GRACE_S - 12.0
    model.check_health()
    clock.now += 0.001
    with pytest.raises(RuntimeError, match="no file"):
        model.check_health()


def test_a_model_that_finds_no_memory_is_none(clock: Clock) -> None:
    with pytest.raises(ModelLoadingError, match="no room"):
        failed(clock, GpuMemoryError("no room")).get()


def test_a_fault_of_the_program_fails_the_constructor(clock: Clock) -> None:
    with pytest.raises(KeyError):
        failed(clock, KeyError("typo"))


def test_a_model_that_comes_later_heals_the_replica(clock: Clock) -> None:
    model = failed(clock)
    clock.now += 100.0
    with pytest.raises(RuntimeError):
        model.check_health()
    model.exchange("new")
    model.check_health()
    assert (model.get(), model.failure) == ("new", None)


def test_a_replica_describes_its_model(clock: Clock) -> None:
    began = time.time()
    found = loaded(clock).describe(spec="base", engine="whisper", device="cpu", notes=("n",), sha256="ab")
    assert (found.replica, found.node, found.pid) == ("", os.uname().nodename, os.getpid())
    assert (found.spec, found.model_version, found.engine, found.device) == ("base", "ears-1", "whisper", "cpu")
    assert (found.warm, found.notes, found.sha256, found.failure) == (True, ("n",), "ab", None)
    assert found.loaded_at is not None
    assert began <= found.loaded_at <= time.time()


def test_what_a_replica_describes_has_no_secret_and_no_folder(clock: Clock) -> None:
    url = "https://robot:hunter2@weights.example/a.pt?X-Amz-Signature=5e4c3e7"
    found = loaded(clock).describe(
        spec=url, engine="whisper", device="cpu", notes=(f"{url} is old",), failure="/srv/private/a.pt is damaged"
    )
    assert found.spec == "https://weights.example/a.pt"
    assert found.notes == ("https://weights.example/a.pt is old",)
    assert found.failure == "a.pt is damaged"


@pytest.mark.parametrize(("told", "expected"), [({}, "no file"), ({"failure": "misconfigured"}, "misconfigured")])
def test_a_replica_without_a_model_says_why(clock: Clock, told: dict[str, Any], expected: str) -> None:
    found = failed(clock).describe(spec="base", engine="whisper", device="cpu", **told)
    assert (found.model_version, found.engine, found.warm, found.loaded_at) == (None, None, False, None)
    assert found.failure == expected
