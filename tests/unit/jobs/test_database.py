import logging
import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from serve_app.errors import StorageUnavailable
from serve_app.jobs.database import Database
from serve_app.jobs.record import VideoRequest
from serve_app.jobs.store import JobStore
from tests.job_tables import make_job_table


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_sqlite_in_memory_is_refused(url):
    with pytest.raises(ValueError, match="needs a SQLite file"):
        Database(url)


def test_other_databases_are_refused():
    with pytest.raises(ValueError, match="not mysql"):
        Database("mysql+pymysql://host/db")


def test_sqlite_is_set_up_to_survive_a_power_cut_and_to_be_shared(tmp_path):
    db = Database(f"sqlite:///{tmp_path}/a/b/jobs.sqlite")
    db.create_schema()
    with db.read() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    db.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def _submit(store: JobStore, job_id: str = "a") -> None:
    store.submit(VideoRequest(job_id=job_id, video_url="https://example.com/" + "v" * 2000), max_queued=None)


class TestFaults:
    """A database that fails is the storage's fault, told in a sentence and logged once."""

    def test_a_full_one(self, caplog: pytest.LogCaptureFixture) -> None:
        store, _ = make_job_table()
        with store._db.read() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

        def limit(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute(f"PRAGMA max_page_count={pages}")

        from sqlalchemy import event

        store.close()
        event.listen(store._db._engine, "connect", limit)

        def fill(first: int) -> None:
            for number in range(50):
                _submit(store, f"{first}-{number}")

        for number in range(20):
            with pytest.raises(StorageUnavailable, match=r"The job table fails \(OperationalError\)") as raised:
                fill(number)
            assert raised.value.__suppress_context__, "9 kB of traceback a request"
        assert raised.value.retry_after_s == 10.0
        assert caplog.text.count("the job table fails: OperationalError: database or disk is full") <= 20
        assert store.page(None, 1, None) is not None  # reading goes on

    def test_one_that_is_gone_and_back(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        store = JobStore(f"sqlite:///{tmp_path}/state/jobs.sqlite3")
        store.create_schema()
        _submit(store)
        store.close()
        os.rename(tmp_path / "state", tmp_path / "away")
        for call in (store.queue_depth, lambda: _submit(store, "b"), store.paused, lambda: store.claim("r")):
            with pytest.raises(StorageUnavailable):
                call()
        failures = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert [record.getMessage() for record in failures] == [
            "the job table fails: OperationalError: unable to open database file"
        ]
        os.rename(tmp_path / "away", tmp_path / "state")
        assert store.claim("r") is not None
        store.close()

    def test_a_damaged_one(self, tmp_path: Path) -> None:
        (tmp_path / "jobs.sqlite3").write_bytes(b"not a database" * 1000)
        store = JobStore(f"sqlite:///{tmp_path}/jobs.sqlite3")
        with pytest.raises(StorageUnavailable, match="DatabaseError"):
            store.queue_depth()
        store.close()

    def test_what_is_asked_wrongly_stays_a_bug(self) -> None:
        store, _ = make_job_table()
        _submit(store)
        with pytest.raises(IntegrityError), store._db.write() as (connection, _now):
            connection.execute(text("INSERT INTO pauses VALUES (NULL, 'x', 1)"))
        with pytest.raises(ProgrammingError), store._db.read() as connection:
            connection.exec_driver_sql("SELECT ?", (1, 2))
