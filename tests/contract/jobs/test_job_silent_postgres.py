"""A Postgres host that vanishes without a word: a real server behind a proxy that stops forwarding."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import URL, create_engine, text

from serve_app.errors import StorageUnavailable
from serve_app.jobs import engines
from serve_app.jobs.record import VideoRequest
from serve_app.jobs.store import JobStore

SILENCE_S = 1.0  # in place of 25 s


class Proxy:
    """Forwards to a Postgres; `vanish` keeps all connections open, and moves no byte any more."""

    def __init__(self, server: URL) -> None:
        self._server = server
        self._generation = 0
        self._dead: set[int] = set()
        self.accepts = True
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _backend(self) -> socket.socket:
        folder, port = self._server.query.get("host"), self._server.port or 5432
        if not folder:
            return socket.create_connection((self._server.host or "127.0.0.1", port))
        backend = socket.socket(socket.AF_UNIX)
        backend.connect(f"{folder}/.s.PGSQL.{port}")
        return backend

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                if not self.accepts:
                    continue  # open, and silent
                backend = self._backend()
                self._sockets.append(backend)
                for source, target in ((client, backend), (backend, client)):
                    self._start(self._pump, source, target, self._generation)

    def _pump(self, source: socket.socket, target: socket.socket, generation: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if generation in self._dead:
                    return
                target.sendall(data)
            if generation not in self._dead:
                target.shutdown(socket.SHUT_RDWR)

    def vanish(self) -> None:
        self._dead.add(self._generation)
        self._generation += 1

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def proxy(postgres_database: URL) -> Iterator[Proxy]:
    proxy = Proxy(postgres_database)
    yield proxy
    proxy.close()


@pytest.fixture
def store(proxy: Proxy, postgres_database: URL) -> Iterator[JobStore]:
    engine = create_engine(postgres_database)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    user, password = postgres_database.username or "postgres", postgres_database.password or ""
    url = f"postgresql+psycopg://{user}:{password}@127.0.0.1:{proxy.port}/{postgres_database.database}"
    store = JobStore(url)
    store.create_schema()
    store.submit(VideoRequest(job_id="a", video_url="x"), max_queued=None)
    yield store
    store.close()


def fails_within(limit_s: float, *calls: object) -> None:
    def failing(call: object) -> float:
        started = time.monotonic()
        with pytest.raises(StorageUnavailable):
            call()  # type: ignore[operator]
        return time.monotonic() - started

    with ThreadPoolExecutor(len(calls)) as pool:
        assert max(pool.map(failing, calls)) < limit_s


def test_every_call_ends_and_the_next_ones_find_the_new_host(
    proxy: Proxy, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing ended within 151 s without limits: all threads waited in `recv`."""
    monkeypatch.setattr(engines, "_ANSWER_S", SILENCE_S)
    store.close()
    claim = store.claim("r")
    assert claim is not None
    store.renew(claim)
    with ThreadPoolExecutor(4) as pool:  # several connections in the pool
        list(pool.map(lambda _: store.queue_depth(), range(8)))
    proxy.vanish()
    proxy.accepts = False
    # the ping of the pool's connection, then a new one: `connect_timeout`
    reads = [store.queue_depth] * 4
    fails_within(5 + 3 * SILENCE_S + 4, *reads, lambda: store.renew(claim))
    proxy.accepts = True  # another host took over
    assert store.renew(claim) is False
    assert store.queue_depth().running == 1


def test_limits_of_the_server_too(store: JobStore) -> None:
    with store._db.read() as connection:
        shown = {
            name: connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("statement_timeout", "lock_timeout")
        }
        info = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
    assert shown == {"statement_timeout": "20s", "lock_timeout": "10s"}
    expected = {
        "connect_timeout": "5",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "15000",
    }
    assert {name: info[name] for name in expected} == expected


def test_a_statement_that_takes_too_long_is_the_storages_fault(store: JobStore) -> None:
    with store._db.write() as (connection, _now):
        connection.execute(text("SET LOCAL statement_timeout = 50"))
        with pytest.raises(StorageUnavailable, match="QueryCanceled"), store._db._faults():
            connection.execute(text("SELECT pg_sleep(5)"))
        connection.rollback()


def test_an_upgrade_may_take_any_time(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_ANSWER_S", 0.3)
    store.close()
    upgrade = store._db._upgrade

    def slow(connection: object) -> None:
        connection.execute(text("SELECT pg_sleep(0.6)"))  # type: ignore[attr-defined]
        upgrade(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(store._db, "_upgrade", slow)
    with store._db.write() as (connection, _now):
        connection.execute(text("UPDATE job_schema SET version = 2"))
    store.create_schema()
    with pytest.raises(StorageUnavailable), store._db.read() as connection:
        connection.execute(text("SELECT pg_sleep(5)"))
