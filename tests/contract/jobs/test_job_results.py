"""Results in callbacks: the same bytes as ever, read outside transactions, or named where the operator wants it."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from sqlalchemy import event, select

from serve_app.jobs.outbox import ResultLinks
from serve_app.jobs.tables import job_events, jobs

RESULTS = [
    {"text": "안녕하세요", "segments": [{"start": 0.1, "words": ["a", "나"]}, {}], "empty": [], "none": None},
    {"text": '\x00\x1f"\\/\u2028\u2029\x85\x7f\ud800', "ключ \n": True, "1e22": 1e22, "small": 1e-7, "int": 2**70},
    {},
    {"pieces": [[1, [2.5]], "x", None, False]},
    {"long": [{"word": f"낱말 {n}", "start": n / 7} for n in range(5000)]},
]


def finish(store, make_request, result, job_id="job-1", **changes):
    store.submit(make_request(job_id, **changes), max_queued=None)
    store.complete(store.claim("runner"), result)


@pytest.mark.parametrize("result", RESULTS)
def test_a_callback_has_the_bytes_that_parsing_and_writing_would_give(store, make_request, result):
    finish(store, make_request, result)
    with store._db.read() as connection:
        payload, stored = connection.execute(
            select(job_events.c.payload, jobs.c.result).join(jobs, jobs.c.job_id == job_events.c.job_id)
        ).one()
    whole = {**json.loads(payload), "result": json.loads(stored)}
    expected = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    (due,) = store.claim_deliveries("courier", 10)
    assert due.body == expected
    (news,) = store.events("job-1")
    assert news.body.encode("utf-8", "replace") == expected
    assert store.get("job-1").result == whole["result"]


def test_claiming_reads_no_result_in_its_transaction_and_parses_none(store, make_request, monkeypatch):
    for n in range(4):
        finish(store, make_request, {"text": "x" * 1000}, f"job-{n}")
    seen = []
    event.listen(store._db._engine, "before_cursor_execute", lambda _c, _k, sql, *_rest: seen.append(sql))
    event.listen(store._db._engine, "commit", lambda _connection: seen.append("COMMIT"))
    for name in ("loads", "dumps"):
        monkeypatch.setattr(json, name, None)
    for name in ("decode", "raw_decode"):
        monkeypatch.setattr(json.JSONDecoder, name, None)
    due = store.claim_deliveries("courier", 10)
    monkeypatch.undo()
    assert [json.loads(each.body)["result"]["text"] for each in due] == ["x" * 1000] * 4
    end = seen.index("COMMIT")
    assert any(sql.startswith("UPDATE job_events") for sql in seen[:end])
    assert [sql for sql in seen[:end] if re.search(r"\bjobs\.result\b", sql)] == []
    assert len([sql for sql in seen[end:] if re.search(r"\bjobs\.result\b", sql)]) == 4


def test_a_job_deleted_after_the_claim_costs_the_others_nothing(store, open_store, make_request):
    for n in range(2):
        finish(store, make_request, {"text": f"{n}"}, f"job-{n}")
    other, deleted = open_store(), []

    def delete_first(_connection):
        if not deleted:
            deleted.append(True)
            event.listen(store._db._engine, "rollback", delete_now)

    def delete_now(_connection):
        if len(deleted) == 1:
            deleted.append(True)
            other.delete("job-0")

    event.listen(store._db._engine, "commit", delete_first)
    due = store.claim_deliveries("courier", 10)
    assert [each.job_id for each in due if b"result" in each.body][-1] == "job-1"


def test_what_a_list_of_deliveries_shows_leaves_the_result_out(store, make_request):
    finish(store, make_request, {"text": "x"})
    (delivery,) = store.deliveries("job-1")
    assert set(delivery.event.payload) == {"job_id", "status", "progress", "message"}


def test_a_long_result_is_named_where_the_operator_wants_it(open_store, make_request, clock):
    store = open_store(result_links=ResultLinks(1024, "https://speech.example/base/"))
    finish(store, make_request, {"text": "낱" * 1000}, "long")
    clock.advance(1.0)
    finish(store, make_request, {"text": "낱"}, "short")
    long, short = (json.loads(due.body) for due in store.claim_deliveries("courier", 10))
    content = store.get("long").result_text.encode()
    assert len(content) > 3000
    assert {name: long[name] for name in long if name.startswith("result")} == {
        "result_url": "https://speech.example/base/jobs/long/result",
        "result_bytes": len(content),
        "result_sha256": hashlib.sha256(content).hexdigest(),
    }
    assert short["result"] == {"text": "낱"}
    assert not {"result_url", "result_bytes", "result_sha256"} & set(short)


@pytest.mark.parametrize(("links", "lease_s"), [(None, 30.0 + 20.0), (ResultLinks(1024), 30.0)])
def test_the_lease_of_a_delivery_grows_with_its_body(open_store, make_request, clock, links, lease_s):
    store = open_store(result_links=links)
    finish(store, make_request, {"text": "x" * 2_000_000})
    (due,) = store.claim_deliveries("courier", 10)
    assert due.lease_s == pytest.approx(lease_s, abs=0.01)
    clock.advance(lease_s - 1)
    assert store.claim_deliveries("another", 10) == []
    clock.advance(2)
    assert len(store.claim_deliveries("another", 10)) == 1
