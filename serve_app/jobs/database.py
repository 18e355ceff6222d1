"""`Database`: SQLite or Postgres under the job store, with its transactions, clock and schema."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, inspect, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.schema import CreateColumn
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from serve_app.errors import JobError, StorageUnavailable
from serve_app.jobs import tables
from serve_app.jobs.engines import BUSY_TIMEOUT_S, make_engine, without_limits
from serve_app.sentences import Sentence

_SCHEMA_LOCK = 0x5E12BE0A  # any number that nothing else in the database locks
_RETRY_AFTER_S = 10.0
_STEP_S = 1.0  # the wall clock is slewed by far less between two looks

_log = logging.getLogger("ray.serve")


class Database:
    """Transactions on one job database, used by any number of threads and processes.

    Args:
        url: SQLAlchemy URL: `sqlite:///<file>` or `postgresql+psycopg://…`. ValueError: another kind of database, or
            SQLite in memory, which other processes can't open.
        clock: returns POSIX seconds. Default: the clock that all users of the database share, which is the server's on
            Postgres and the host's for a SQLite file.
        steady: returns seconds of a clock that is never set. Default: the host's time since its start; `clock`, where
            that is given.

    `read`, `write` and `create_schema` raise StorageUnavailable where the database fails or does not answer.
    """

    def __init__(
        self, url: str, clock: Callable[[], float] | None = None, steady: Callable[[], float] | None = None
    ) -> None:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
        if kind not in ("sqlite", "postgresql"):
            raise ValueError(f"the job store runs on sqlite or postgresql, not {kind}")
        self.is_sqlite = kind == "sqlite"
        self._clock = clock
        self._steady = steady or clock or _since_start
        self._offset_s: float | None = None
        self._stepped_at = float("-inf")
        self._is_failing = False
        self._writing = threading.Lock()
        if self.is_sqlite:
            if not parsed.database or parsed.database == ":memory:":
                raise ValueError("the job store needs a SQLite file: name one in the database URL")
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        # as many as threads that may use them (serve_app.threads); as many are kept as calls may be at work
        self._engine = make_engine(parsed, num_kept=8, num_connections=32)
        self._writer = self._engine.execution_options(immediate=True)
        # a renewal must not wait for a connection that other work holds
        self._renewing = make_engine(parsed, num_kept=4, num_connections=16).execution_options(immediate=True)

    def close(self) -> None:
        """Close all connections that are not in use."""
        self._engine.dispose()
        self._renewing.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads."""
        with self._faults(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, renewing: bool = False) -> Iterator[tuple[Connection, float]]:
        """Open a transaction that writes; yield its connection and the time. It is rolled back on an error.

        On SQLite it holds the one write lock from the start, so that nothing it reads can be out of date. `renewing`:
        over a connection that is kept for renewals of leases.
        """
        with self._faults(), self._turn(), (self._renewing if renewing else self._writer).begin() as connection:
            yield connection, self.now(connection)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let one thread of this process after the other write to SQLite.

        SQLite has writers sleep for up to 100 ms and look again; a thread that waits here begins at once.
        """
        if not self.is_sqlite:
            yield
            return
        if not self._writing.acquire(timeout=BUSY_TIMEOUT_S):
            raise StorageUnavailable(Sentence("The job table is busy"), _RETRY_AFTER_S)
        try:
            yield
        finally:
            self._writing.release()

    def now(self, connection: Connection) -> float:
        """Return POSIX seconds."""
        if self._clock is not None:
            return self._clock()
        if self.is_sqlite:
            return time.time()
        return float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())

    def since_step_s(self, now: float) -> float:
        """Return how long ago the clock was set, as far as this process has seen; infinity: never.

        Only the wall clock of a SQLite file's host counts: a server of Postgres is trusted to keep time.
        """
        if not self.is_sqlite:
            return float("inf")
        steady = self._steady()
        offset_s, before_s = now - steady, self._offset_s
        self._offset_s = offset_s
        if before_s is not None and abs(offset_s - before_s) > _STEP_S:
            self._stepped_at = steady
            _log.warning("the clock was set by %+.1f s", offset_s - before_s)
        return steady - self._stepped_at

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Raise StorageUnavailable instead of the driver's errors of a database that fails; log the first in a row."""
        try:
            yield
        except (DBAPIError, PoolTimeoutError, sqlite3.OperationalError) as error:
            if not _is_fault(error):
                raise
            cause = getattr(error, "orig", None) or error
            if not self._is_failing:
                reason = (str(cause).splitlines() or [""])[0]
                _log.error("the job table fails: %s: %s", type(cause).__name__, reason)
            self._is_failing = True
            told = Sentence("The job table fails ({kind})", kind=type(cause).__name__)
            raise StorageUnavailable(told, _RETRY_AFTER_S) from None
        else:
            self._is_failing = False

    def lock(self, connection: Connection, name: str) -> None:
        """Keep other transactions that lock this name waiting until this one ends. A SQLite writer is alone anyway."""
        if not self.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))

    def insert(self, table: Table) -> Any:
        """Return an INSERT of this database's dialect, which has `on_conflict_do_nothing`."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def create_schema(self) -> None:
        """Create the tables that are missing; safe while others do the same. JobError: a newer version made them."""
        with self._faults():
            if self.is_sqlite:
                self._use_write_ahead_log()
            self._create_tables()

    def _create_tables(self) -> None:
        with self._writer.begin() as connection, without_limits(connection):
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
            tables.schema_version.create(connection, checkfirst=True)
            found = connection.execute(select(func.max(tables.schema_version.c.version))).scalar()
            if found is not None and found > tables.SCHEMA_VERSION:
                raise JobError(
                    Sentence(
                        "the job table has schema version {found}, but this program knows versions up to {known}: "
                        "upgrade serve_app, or use another database",
                        found=found,
                        known=tables.SCHEMA_VERSION,
                    )
                )
            if found is None:
                tables.metadata.create_all(connection)
                connection.execute(tables.schema_version.insert().values(version=tables.SCHEMA_VERSION))
            elif found < tables.SCHEMA_VERSION:
                self._upgrade(connection)

    def _upgrade(self, connection: Connection) -> None:
        """Add the columns, tables and indexes of this version; nothing that an older one uses is changed."""
        for table in (tables.jobs, tables.job_events):
            present = {column["name"] for column in inspect(connection).get_columns(table.name)}
            for column in table.c:
                if column.name not in present:
                    definition = CreateColumn(column).compile(dialect=connection.dialect)
                    connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))
            for index in table.indexes:
                index.drop(connection, checkfirst=True)  # an index of the same name may have had fewer columns
                index.create(connection)
        tables.metadata.create_all(connection)
        connection.execute(tables.schema_version.insert().values(version=tables.SCHEMA_VERSION))

    def _use_write_ahead_log(self) -> None:
        # The mode is a property of the file. Changing it needs the file alone, and SQLite does not wait for that.
        retrying = Retrying(
            retry=retry_if_exception_type((OperationalError, sqlite3.OperationalError)),
            wait=wait_random(0.005, 0.05),
            stop=stop_after_delay(BUSY_TIMEOUT_S),
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                raw = self._engine.raw_connection()
                try:
                    raw.cursor().execute("PRAGMA journal_mode=WAL")
                finally:
                    raw.close()


def _is_fault(error: Exception) -> bool:
    """Return whether the database fails, rather than refuses what it was asked for."""
    if isinstance(error, OperationalError | InterfaceError | PoolTimeoutError | sqlite3.OperationalError):
        return True
    if isinstance(error, InternalError):  # e.g. a server that may only be read, after a failover
        return True
    # a file that is damaged, or none of SQLite's, has no kind of its own
    return type(error) is DatabaseError or bool(getattr(error, "connection_invalidated", False))


def _since_start() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # goes on while the host sleeps; Linux
    return time.monotonic() if clock is None else time.clock_gettime(clock)
