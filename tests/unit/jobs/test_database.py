import pytest

from serve_app.jobs.database import Database


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
