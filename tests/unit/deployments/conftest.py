"""What holds for all replicas that tests make without Ray."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serve_app.deployments.replica.worker_threads import WorkerThreads


@pytest.fixture(autouse=True)
def _replicas_threads_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End a replica's threads with its test, as its process would end them."""
    made: list[WorkerThreads] = []
    create = WorkerThreads.__init__

    def note(threads: WorkerThreads, num_threads: int, name: str) -> None:
        create(threads, num_threads, name)
        made.append(threads)

    monkeypatch.setattr(WorkerThreads, "__init__", note)
    yield
    for threads in made:
        threads.close()
