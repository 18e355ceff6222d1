"""`Database`: SQLite or Postgres under the job store, with its transactions, clock and schema."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, create_engine, event, func, inspect, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateColumn
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from serve_app.errors import JobError
from serve_app.jobs import tables

_BUSY_TIMEOUT_S = 30.0  # a SQLite writer waits for others: writes take milliseconds, but a disk may stall
_SCHEMA_LOCK = 0x5E12BE0A  # any number that nothing else in the database locks


class Database:
    """Transactions on one job database, used by any number of threads and processes.

    Args:
        url: SQLAlchemy URL: `sqlite:///<file>` or `postgresql+psycopg://…`. ValueError: another kind of database, or
            SQLite in memory, which other processes can't open.
        clock: returns POSIX seconds. Default: the clock that all users of the database share, which is the server's on
            Postgres and the host's for a SQLite file.
    """

    def __init__(self, url: str, clock: Callable[[], float] | None = None) -> None:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
        if kind not in ("sqlite", "postgresql"):
            raise ValueError(f"the job store runs on sqlite or postgresql, not {kind}")
        self.is_sqlite = kind == "sqlite"
        self._clock = clock
        if self.is_sqlite:
            if not parsed.database or parsed.database == ":memory:":
                raise ValueError("the job store needs a SQLite file: name one in the database URL")
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = create_engine(parsed, pool_size=8, max_overflow=16)
            event.listen(self._engine, "connect", _configure_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        else:
            self._engine = create_engine(parsed, pool_size=5, max_overflow=15, pool_pre_ping=True)
        self._writer = self._engine.execution_options(immediate=True)

    def close(self) -> None:
        """Close all connections that are not in use."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[tuple[Connection, float]]:
        """Open a transaction that writes; yield its connection and the time. It is rolled back on an error.

        On SQLite it holds the one write lock from the start, so that nothing it reads can be out of date.
        """
        with self._writer.begin() as connection:
            yield connection, self.now(connection)

    def now(self, connection: Connection) -> float:
        """Return POSIX seconds."""
        if self._clock is not None:
            return self._clock()
        if self.is_sqlite:
            return time.time()
        return float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())

    def lock(self, connection: Connection, name: str) -> None:
        """Keep other transactions that lock this name waiting until this one ends. A SQLite writer is alone anyway."""
        if not self.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))

    def insert(self, table: Table) -> Any:
        """Return an INSERT of this database's dialect, which has `on_conflict_do_nothing`."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def create_schema(self) -> None:
        """Create the tables that are missing; safe while others do the same. JobError: a newer version made them."""
        if self.is_sqlite:
            self._use_write_ahead_log()
        with self._writer.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
            tables.schema_version.create(connection, checkfirst=True)
            found = connection.execute(select(func.max(tables.schema_version.c.version))).scalar()
            if found is not None and found > tables.SCHEMA_VERSION:
                raise JobError(
                    f"the job table has schema version {found}, but this program knows versions up to "
                    f"{tables.SCHEMA_VERSION}: upgrade serve_app, or use another database"
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
            stop=stop_after_delay(_BUSY_TIMEOUT_S),
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                raw = self._engine.raw_connection()
                try:
                    raw.cursor().execute("PRAGMA journal_mode=WAL")
                finally:
                    raw.close()


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # _begin_sqlite begins transactions, not the driver
    for pragma in (f"busy_timeout={int(_BUSY_TIMEOUT_S * 1000)}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later fails at once if another wrote in between.
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
