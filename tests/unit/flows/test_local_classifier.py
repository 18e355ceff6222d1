"""A classifier inside the ingress: made once, by the first request, and again where that failed."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from serve_app.errors import ModelLoadingError
from serve_app.flows import local_classifier as module
from serve_app.flows.local_classifier import LocalClassifier


class Replica:
    """Stands for a loaded classifier, or for one whose weights could not be loaded."""

    def __init__(self, *, is_empty: bool = False) -> None:
        self.is_empty = is_empty
        self.reloads = 0

    async def classify(self, image: bytes) -> str:
        if self.is_empty:
            raise ModelLoadingError("no file")
        return f"saw {image.decode()}"

    async def describe(self) -> str:
        return "described"

    async def reload(self) -> str:
        self.reloads += 1
        return "reloaded"


def made(*replicas: Replica) -> tuple[LocalClassifier, list[str]]:
    threads: list[str] = []
    left = list(replicas)

    def make() -> Any:
        threads.append(threading.current_thread().name)
        time.sleep(0)
        return left.pop(0)

    return LocalClassifier(make), threads


def test_it_is_made_once_by_the_first_and_beside_the_loop() -> None:
    classifier, threads = made(Replica())

    async def run() -> list[Any]:
        assert threads == []  # the ingress starts without it
        return await asyncio.gather(*(classifier.classify(str(number).encode()) for number in range(5)))

    assert asyncio.run(run()) == [f"saw {number}" for number in range(5)]
    assert len(threads) == 1
    assert threads[0] != threading.current_thread().name


def test_it_tells_and_reloads_what_it_has() -> None:
    replica = Replica()
    classifier, threads = made(replica)

    async def run() -> list[Any]:
        return [await classifier.describe(), await classifier.reload(), await classifier.reload()]

    assert asyncio.run(run()) == ["described", "reloaded", "reloaded"]
    assert (replica.reloads, len(threads)) == (2, 1)


def test_one_without_weights_is_made_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, threads = made(Replica(is_empty=True), Replica())

    async def run() -> str:
        for _ in range(3):  # told at once, without another try
            with pytest.raises(ModelLoadingError, match="no file"):
                await classifier.classify(b"cup")
        assert len(threads) == 1
        monkeypatch.setattr(module, "_TRY_AGAIN_S", 0.0)
        return await classifier.classify(b"cup")  # type: ignore[return-value]

    assert asyncio.run(run()) == "saw cup"
    assert len(threads) == 2
