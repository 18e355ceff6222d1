"""Making the tables: by several at once, once, and never over those of a newer version."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import create_engine, inspect, text

from serve_app.errors import JobError
from serve_app.jobs.store import JobStore
from serve_app.jobs.tables import SCHEMA_VERSION


def test_several_may_start_at_once(database_url, make_request):
    stores = [JobStore(database_url) for _ in range(6)]
    start = Barrier(len(stores))

    def create(store):
        start.wait()
        store.create_schema()

    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(create, stores))
    stores[0].submit(make_request(), max_queued=None)
    assert stores[1].get("job-1").request == make_request()
    for store in stores:
        store.close()
    engine = create_engine(database_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version FROM job_schema")).scalars().all() == [SCHEMA_VERSION]
    engine.dispose()


def test_what_is_stored_survives_a_restart(open_store, make_request):
    open_store().submit(make_request(), max_queued=None)
    open_store().create_schema()  # once more, over what is there
    assert open_store().get("job-1").request == make_request()


def test_a_newer_schema_is_refused(open_store, database_url):
    open_store()
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE job_schema SET version = {SCHEMA_VERSION + 1}"))
    engine.dispose()
    with pytest.raises(JobError, match=rf"version {SCHEMA_VERSION + 1}.* up to {SCHEMA_VERSION}: upgrade"):
        open_store()


def test_the_queue_and_the_outbox_are_read_by_index(open_store, database_url):
    open_store()
    engine = create_engine(database_url)
    names = {index["name"] for table in ("jobs", "job_events") for index in inspect(engine).get_indexes(table)}
    engine.dispose()
    assert {"jobs_by_status", "jobs_by_end", "job_events_due"} <= names
