"""Random histories of runners, crashes, clients and couriers: what must hold after every operation."""

from __future__ import annotations

import contextlib
import random

import pytest

from serve_app.errors import JobConflict, JobNotFound, LeaseLost
from serve_app.jobs.record import LEGAL_TRANSITIONS, DeliveryStatus, JobStatus
from serve_app.messages import Stage

JOB_IDS = ("a", "b", "c")
OPERATIONS_PER_HISTORY = 120
REFUSALS = (JobConflict, JobNotFound, LeaseLost)


class History:
    """Does random things to a store through several connections, and checks it after each."""

    def __init__(self, stores, make_request, clock, seed):
        self.random = random.Random(seed)
        self.stores = stores
        self.make_request = make_request
        self.clock = clock
        self.claims = []
        self.due = []
        self.seen = {}  # job id -> (status, progress, events)
        self.fences = {}
        self.delivered = {job_id: [] for job_id in JOB_IDS}

    @property
    def store(self):
        return self.random.choice(self.stores)

    def submit(self):
        self.store.submit(self.make_request(self.random.choice(JOB_IDS)), max_queued=None)

    def claim(self):
        claim = self.store.claim(f"runner-{self.random.randrange(3)}")
        if claim is not None:
            job_id = claim.job.job_id
            assert claim.fence > self.fences.get(job_id, 0)
            self.fences[job_id] = claim.fence
            self.claims.append(claim)

    def work(self):
        claim = self._any_claim()
        if claim is None:
            return
        stage = self.random.choice([stage for stage in Stage if stage != Stage.COMPLETED])
        action = self.random.choice(("renew", "announce", "step", "complete", "fail", "retry", "release", "cancelled"))
        store = self.store
        {
            "renew": lambda: store.renew(claim),
            "announce": lambda: store.announce(claim, stage),
            "step": lambda: store.commit_step(claim, stage.name, int(stage), seconds=1, announce=[stage]),
            "complete": lambda: store.complete(claim, {"by": claim.fence}),
            "fail": lambda: store.fail(claim, "PROCESSING_ERROR", "bad", retry_after_s=None),
            "retry": lambda: store.fail(claim, "PROCESSING_ERROR", "bad", retry_after_s=2.0),
            "release": lambda: store.release(claim),
            "cancelled": lambda: store.finish_cancel(claim),
        }[action]()
        assert claim.fence == self.fences[claim.job.job_id], "a stale runner's write was taken"

    def _any_claim(self):
        return self.random.choice(self.claims) if self.claims else None

    def cancel(self):
        self.store.cancel(self.random.choice(JOB_IDS))

    def deliver(self):
        self.due += self.store.claim_deliveries("courier", self.random.randrange(1, 4))
        if not self.due:
            return
        due = self.due.pop(self.random.randrange(len(self.due)))
        if self.random.random() < 0.7:
            if self.store.record_delivered(due, status_code=200):
                self.delivered[due.job_id].append(due.seq)
        else:
            self.store.record_failure(due, error="HTTP 500", status_code=500)

    def wait(self):
        self.clock.advance(self.random.choice((0.1, 1.0, 16.0, 40.0)))

    def step(self):
        operations = (self.submit, self.claim, self.claim, self.work, self.work, self.work, self.work)
        operations += (self.cancel,) if self.random.random() < 0.15 else ()
        operations += (self.deliver, self.deliver, self.wait)
        with contextlib.suppress(REFUSALS):
            self.random.choice(operations)()
        for job_id in JOB_IDS:
            self.check(job_id)

    def check(self, job_id):
        try:
            job = self.stores[0].get(job_id)
        except JobNotFound:
            return
        events = [(event.seq, event.payload) for event in self.stores[0].events(job_id)]
        before_status, before_progress, before_events = self.seen.get(job_id, (JobStatus.QUEUED, 0, []))
        if job.status != before_status:
            assert job.status in LEGAL_TRANSITIONS[before_status]
        assert job.progress >= before_progress
        assert events[: len(before_events)] == before_events, "history was rewritten"
        if before_status.is_final:
            assert events == before_events, "something happened after the end"
        assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
        progress = [payload["progress"] for _, payload in events if payload["status"] == "processing"]
        assert progress == sorted(set(progress))
        ends = [payload["status"] for _, payload in events if payload["status"] != "processing"]
        assert ends == ([job.status.value] if job.status.is_final else [])
        assert (job.result is not None) == (job.status == JobStatus.COMPLETED)
        assert self.delivered[job_id] == list(range(1, len(self.delivered[job_id]) + 1)), "deliveries out of order"
        self.seen[job_id] = (job.status, job.progress, events)

    def drain(self):
        """Bring everything to its end: no job and no delivery may be stuck."""
        for _ in range(60):
            self.clock.advance(700.0)
            claim = self.store.claim("last")
            if claim is not None:
                self.store.complete(claim, {})
            for due in self.store.claim_deliveries("last", 10):
                self.store.record_delivered(due, status_code=200)
        for job_id in self.seen:
            assert self.stores[0].get(job_id).status.is_final
            assert {each.status for each in self.stores[0].deliveries(job_id)} == {DeliveryStatus.DELIVERED}


@pytest.mark.parametrize("seed", range(4))
def test_a_random_history_keeps_every_promise(open_store, make_request, clock, seed):
    history = History([open_store(), open_store()], make_request, clock, seed)
    for _ in range(OPERATIONS_PER_HISTORY):
        history.step()
    assert len(history.seen) == len(JOB_IDS)
    history.drain()
