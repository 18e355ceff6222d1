"""API keys: secrets kept as hashes, revocation, whose jobs a key may see and change, and how many it may submit."""

from __future__ import annotations

import hashlib
import re

import pytest
from sqlalchemy import create_engine, text

from serve_app.errors import InvalidRequest, JobConflict, JobNotFound, Overloaded, RateLimited
from serve_app.jobs.record import ApiKey, MusicRequest, Scope, Visitor

ALL_SCOPES = frozenset(Scope)
USUAL = frozenset({Scope.SUBMIT, Scope.READ})


def make_key(store, name, *scopes, **limits):
    return store.create_key(name, frozenset(scopes) or USUAL, **limits)[0]


def sees(store, job_id, key, scope=Scope.READ, visitor=None):
    try:
        store.require_visible(job_id, visitor, key, scope)
    except JobNotFound:
        return False
    return True


class TestSecrets:
    def test_a_secret_has_256_bits_and_a_prefix_that_scanners_find(self, store):
        secrets = {store.create_key(f"k{number}", USUAL)[1] for number in range(5)}
        assert len(secrets) == 5
        assert all(re.fullmatch(r"sa_[A-Za-z0-9_-]{43}", secret) for secret in secrets)

    def test_no_table_holds_a_secret(self, store, database_url):
        _key, secret = store.create_key("backend", USUAL)
        engine = create_engine(database_url)
        with engine.connect() as connection:
            [row] = connection.execute(text("SELECT * FROM api_keys")).all()
        engine.dispose()
        assert secret not in str(row)
        assert secret.removeprefix("sa_") not in str(row)
        assert hashlib.sha256(secret.encode()).hexdigest() in row

    def test_a_key_is_found_by_its_hash_until_it_is_revoked(self, store, clock):
        key, secret = store.create_key("backend", USUAL, requests_per_minute=60, jobs_in_work=3)
        found = store.valid_keys()[hashlib.sha256(secret.encode()).hexdigest()]
        assert found == key
        assert (found.name, found.scopes, found.requests_per_minute, found.jobs_in_work) == ("backend", USUAL, 60, 3)
        clock.advance(5)
        assert store.revoke_key("backend").revoked_at == clock()
        assert store.valid_keys() == {}
        assert [kept.revoked_at for kept in store.all_keys()] == [clock()]

    def test_a_revoked_keys_name_is_free_again(self, store):
        first = make_key(store, "backend")
        with pytest.raises(InvalidRequest, match="already"):
            make_key(store, "backend")
        store.revoke_key(first.id)
        assert make_key(store, "backend").id != first.id
        with pytest.raises(InvalidRequest, match="no valid key"):
            store.revoke_key(first.id)

    @pytest.mark.parametrize("name", ["", "a\nb", "a" * 101, "\x1b[31m", " a"])
    def test_a_name_is_safe_to_show(self, store, name):
        with pytest.raises(InvalidRequest):
            make_key(store, name)

    @pytest.mark.parametrize("limits", [{"requests_per_minute": 0}, {"jobs_in_work": -1}])
    def test_limits_are_at_least_one(self, store, limits):
        with pytest.raises(InvalidRequest):
            make_key(store, "backend", **limits)

    def test_uses_are_noted(self, store):
        first, second = make_key(store, "a"), make_key(store, "b")
        store.note_key_use({second.id: 1_800_000_123.0})
        assert {key.id: key.last_used_at for key in store.all_keys()} == {first.id: None, second.id: 1_800_000_123.0}


def test_scopes_hold_each_other():
    def allowed(scope):
        return {other for other in Scope if ApiKey("id", "name", frozenset({scope})).allows(other)}

    assert allowed(Scope.SUBMIT) == {Scope.SUBMIT}
    assert allowed(Scope.READ) == {Scope.READ}
    assert allowed(Scope.READ_ALL) == {Scope.READ_ALL, Scope.READ}
    assert allowed(Scope.ADMIN) == ALL_SCOPES


class TestWhoseJob:
    def test_a_key_sees_and_changes_its_own_jobs_alone(self, store, make_request):
        anna, ben = make_key(store, "anna"), make_key(store, "ben")
        store.submit(make_request(), max_queued=None, key=anna)
        for scope in (Scope.READ, Scope.SUBMIT):
            assert [sees(store, "job-1", key, scope) for key in (anna, ben, None)] == [True, False, True]

    def test_wider_scopes(self, store, make_request):
        anna, auditor, admin = (
            make_key(store, "anna"),
            make_key(store, "auditor", Scope.READ_ALL, Scope.SUBMIT),
            make_key(store, "admin", Scope.ADMIN),
        )
        store.submit(make_request(), max_queued=None, key=anna)
        assert [sees(store, "job-1", key) for key in (auditor, admin)] == [True, True]
        assert [sees(store, "job-1", key, Scope.SUBMIT) for key in (auditor, admin)] == [False, True]

    def test_a_job_from_before_keys_is_the_admins(self, store, make_request):
        anna, admin = make_key(store, "anna"), make_key(store, "admin", Scope.ADMIN)
        store.submit(make_request(), max_queued=None)
        assert [sees(store, "job-1", key) for key in (anna, admin)] == [False, True]

    def test_lists_hold_own_jobs(self, store, make_request):
        anna, ben, admin = make_key(store, "anna"), make_key(store, "ben"), make_key(store, "admin", Scope.ADMIN)
        store.submit(make_request("old"), max_queued=None)
        store.submit(make_request("a"), max_queued=None, key=anna)
        store.submit(make_request("b"), max_queued=None, key=ben)
        piece = MusicRequest(job_id="m", image_url="https://example.com/a.jpg")
        store.submit(piece, max_queued=None, key=ben, visitor=Visitor("browser"))
        assert [[job.job_id for job in store.page(None, 10, None, key=key).jobs] for key in (anna, ben, admin)] == [
            ["a"],
            ["b"],
            ["m", "b", "a", "old"],
        ]

    def test_visitors_stay_apart_within_a_key(self, store):
        shop, other = make_key(store, "shop"), make_key(store, "other")
        piece = MusicRequest(job_id="m", image_url="https://example.com/a.jpg")
        store.submit(piece, max_queued=None, key=shop, visitor=Visitor("anna"))
        seen = [
            (key.name, who) for key in (shop, other) for who in ("anna", "ben") if sees(store, "m", key, visitor=who)
        ]
        assert seen == [("shop", "anna")]

    def test_another_keys_id_is_a_conflict_that_tells_nothing(self, store, make_request):
        anna, ben = make_key(store, "anna"), make_key(store, "ben")
        store.submit(make_request(), max_queued=None, key=anna)
        assert store.submit(make_request(), max_queued=None, key=anna).job_id == "job-1"
        told = []
        for request in (make_request(), make_request(video_url="https://example.com/b.mp4")):
            with pytest.raises(JobConflict) as refused:
                store.submit(request, max_queued=None, key=ben)
            told.append(refused.value.detail)
        assert told[0] == told[1]


class TestLimits:
    def test_jobs_in_work(self, store, make_request):
        key, other = make_key(store, "anna", jobs_in_work=2), make_key(store, "ben", jobs_in_work=2)
        for job_id in ("a", "b"):
            store.submit(make_request(job_id), max_queued=None, key=key)
        claim = store.claim("runner")  # one in work counts like one that waits
        with pytest.raises(RateLimited) as refused:
            store.submit(make_request("c"), max_queued=None, key=key)
        assert refused.value.retry_after_s > 0
        assert store.submit(make_request("a"), max_queued=None, key=key).job_id == "a"  # a repetition is no new job
        store.submit(make_request("d"), max_queued=None, key=other)
        store.complete(claim, {})
        store.submit(make_request("c"), max_queued=None, key=key)

    def test_a_key_without_a_limit_leaves_half_of_the_queue(self, store, make_request):
        greedy, other = make_key(store, "greedy"), make_key(store, "other")
        for number in range(4):
            store.submit(make_request(f"g{number}"), max_queued=8, key=greedy)
        with pytest.raises(RateLimited, match="half of the queue"):
            store.submit(make_request("g4"), max_queued=8, key=greedy)
        for number in range(4):
            store.submit(make_request(f"o{number}"), max_queued=8, key=other)
        with pytest.raises(Overloaded):
            store.submit(make_request("n"), max_queued=8, key=make_key(store, "third"))

    def test_nobodys_jobs_may_fill_the_queue(self, store, make_request):
        for number in range(8):
            store.submit(make_request(f"g{number}"), max_queued=8)
