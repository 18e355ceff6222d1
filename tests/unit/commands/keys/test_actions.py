"""`serve-app keys` on a database of its own, before and beside a service."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from serve_app.cli import main
from serve_app.commands.keys.command import SCOPES
from serve_app.jobs.keys import secret_hash
from serve_app.jobs.record import Scope
from serve_app.jobs.store import JobStore


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setenv("SERVE_APP_STATE_DIR", str(folder))
    return folder


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["keys", *arguments])
    return ended.value.code


def test_the_scopes_are_the_records() -> None:
    assert tuple(scope.value for scope in Scope) == SCOPES


def test_a_key_before_the_first_start(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("create", "backend") == 0
    told = capsys.readouterr()
    secret = told.out.strip()  # alone, so that a script can take it
    assert secret.startswith("sa_")
    assert "Authorization: Bearer" in told.err
    store = JobStore(f"sqlite:///{state / 'jobs.sqlite3'}")
    store.create_schema()  # as the service does
    [(hashed, key)] = store.valid_keys().items()
    store.close()
    assert hashed == secret_hash(secret)
    assert (key.name, key.scopes) == ("backend", frozenset({Scope.SUBMIT, Scope.READ}))
    assert stat.S_IMODE((state / "jobs.sqlite3").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_list_and_revoke(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--requests-per-minute", "60", "--jobs-in-work", "5"]
    assert run("create", "ops", "--scope", "admin", "--scope", "read", *limits, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    secret = made.pop("secret")
    assert run("list", "--json") == 0
    listed = capsys.readouterr().out
    assert json.loads(listed) == {"keys": [made]}
    assert (made["scopes"], made["requests_per_minute"], made["jobs_in_work"]) == (["admin", "read"], 60, 5)
    assert run("revoke", made["id"]) == 0
    assert "revoked" in capsys.readouterr().out
    assert run("list") == 0
    told = capsys.readouterr().out
    assert made["id"] in told
    assert secret not in listed + told
    assert "no valid key" in str(run("revoke", made["id"]))


def test_a_name_is_given_once(state: Path) -> None:
    assert run("create", "backend") == 0
    assert "already" in str(run("create", "backend"))


def test_a_database_that_can_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_APP_DATABASE_URL", "postgresql+psycopg://app:hunter2@127.0.0.1:1/jobs")
    told = str(run("list"))
    assert "SERVE_APP_DATABASE_URL" in told
    assert "hunter2" not in told
