"""Job tables for tests that don't ask what a power cut leaves: in memory where the machine has a folder there."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, TypeVar

from serve_app.jobs.store import JobStore

Store = TypeVar("Store", bound=JobStore)

_IN_MEMORY = "/dev/shm"


@functools.cache
def _empty() -> bytes:
    """Return the file of a job table without jobs: a copy is ten times as fast as making one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "jobs.sqlite3"
        store = JobStore(f"sqlite:///{file}")
        store.create_schema()
        store.close()
        return file.read_bytes()


def make_job_table(kind: type[Store] = JobStore, **options: Any) -> tuple[Store, str]:  # type: ignore[assignment]
    """Return a store over an empty table of its own, and its URL; the files go when the store is collected."""
    folder = tempfile.mkdtemp(prefix="serve_app_jobs_", dir=_IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None)
    file = Path(folder) / "jobs.sqlite3"
    file.write_bytes(_empty())
    url = f"sqlite:///{file}"
    store = kind(url, **options)
    weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
    return store, url
