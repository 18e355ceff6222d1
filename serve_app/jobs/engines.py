"""`make_engine`: connections to SQLite or Postgres, and how long each of them waits."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text

BUSY_TIMEOUT_S = 30.0  # a SQLite writer waits for others: writes take milliseconds, but a disk may stall
_POOL_TIMEOUT_S = 10.0  # for a connection that others use

# A host that vanished sends no reset. TCP alone gives up after a quarter of an hour, or after two hours where nothing
# is under way. With these limits each call ends, and the next one connects to the host that took over.
_POSTGRES_OPTIONS = {
    "connect_timeout": 5,  # s, for each address of the host
    "keepalives": 1,  # while an answer is waited for: asked after 10 s, given up after three silences of 5 s
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # ms; for what was sent and is not acknowledged
}
_STATEMENT_TIMEOUT_S = 20.0  # on the server; statements take milliseconds
_LOCK_TIMEOUT_S = 10.0  # on the server; so do the transactions that others wait for
_ANSWER_S = 25.0  # longer than a statement may take: a proxy may keep a connection alive to a server that is gone


def make_engine(url: URL, *, num_kept: int, num_connections: int) -> Engine:
    """Return an engine that opens at most so many connections, and keeps some of them open between transactions."""
    pool = {"pool_size": num_kept, "max_overflow": num_connections - num_kept, "pool_timeout": _POOL_TIMEOUT_S}
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, **pool)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    given = {name: value for name, value in _POSTGRES_OPTIONS.items() if name not in url.query}
    engine = create_engine(url, **pool, pool_pre_ping=True, connect_args=given)
    event.listen(engine, "do_connect", _connect_postgres)
    return engine


@contextmanager
def without_limits(connection: Connection) -> Iterator[None]:
    """Let the statements of the block, in a transaction, take any time: those that change a large table."""
    if connection.dialect.name == "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    driver.answer_s = math.inf
    try:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        yield
    finally:
        driver.answer_s = _ANSWER_S


def _connect_postgres(_dialect: Any, _record: Any, args: Any, options: Any) -> Any:
    import psycopg

    class Bounded(psycopg.Connection[Any]):
        """A connection that is closed where the server does not answer in time."""

        answer_s = _ANSWER_S

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            limit_s = self.answer_s if timeout is None else timeout
            try:
                return super().wait(gen, interval=interval, timeout=None if math.isinf(limit_s) else limit_s)
            except psycopg.errors._WaitTimeout:
                if timeout is not None:
                    raise
                self.pgconn.finish()
                raise psycopg.OperationalError(f"the server did not answer within {limit_s:g} s") from None

    connection = Bounded.connect(*args, **options)
    # not by `options` of the connection, which a pooler in between may refuse
    connection.execute(f"SET statement_timeout = {int(_STATEMENT_TIMEOUT_S * 1000)}")
    connection.execute(f"SET lock_timeout = {int(_LOCK_TIMEOUT_S * 1000)}")
    connection.commit()
    return connection


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # _begin_sqlite begins transactions, not the driver
    for pragma in (f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later fails at once if another wrote in between.
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
