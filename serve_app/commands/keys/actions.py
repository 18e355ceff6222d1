"""`serve-app keys create`, `list` and `revoke`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from serve_app.commands.terminal import echo, stdout_console
from serve_app.errors import StorageUnavailable
from serve_app.jobs.record import ApiKey, Scope
from serve_app.jobs.store import JobStore
from serve_app.settings import Settings


def create(arguments: argparse.Namespace) -> int:
    """Make a key and print its secret."""
    scopes = frozenset(map(Scope, arguments.scopes or (Scope.SUBMIT, Scope.READ)))
    with _open_store() as store:
        key, secret = store.create_key(
            arguments.name,
            scopes,
            requests_per_minute=arguments.requests_per_minute,
            jobs_in_work=arguments.jobs_in_work,
        )
    if arguments.json:
        return _print_json(_entry(key) | {"secret": secret})
    sys.stdout.write(f"{secret}\n")
    echo(
        Console(stderr=True),
        f"This is the secret of key {key.id} ({key.name}: {_scopes(key)}). It is not stored and not shown again: keep "
        "it now.",
        "Clients send it as `Authorization: Bearer SECRET` or `X-API-Key: SECRET`. serve-app and its Python client "
        "read SERVE_APP_API_KEY, OpenAI's clients OPENAI_API_KEY; a browser takes it as the password, with any name.",
        f"`serve-app keys revoke {key.id}` makes it invalid.",
    )
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Print all keys."""
    with _open_store() as store:
        keys = store.all_keys()
    if arguments.json:
        return _print_json({"keys": [_entry(key) for key in keys]})
    table = Table("id", "name", "scopes", "requests/min", "jobs in work", "created", "last used", "revoked")
    for key in keys:
        limits = [str(limit or "") for limit in (key.requests_per_minute, key.jobs_in_work)]
        times = [_time(moment) or "" for moment in (key.created_at, key.last_used_at, key.revoked_at)]
        table.add_row(key.id, escape(key.name), _scopes(key), *limits, *times)
    console = stdout_console()
    if keys:
        console.print(table)
    else:
        echo(console, "There is no API key; `serve-app keys create NAME` makes one.")
    return 0


def revoke(arguments: argparse.Namespace) -> int:
    """Make a key invalid."""
    with _open_store() as store:
        key = store.revoke_key(arguments.key)
    if arguments.json:
        return _print_json(_entry(key))
    echo(stdout_console(), f"Key {key.id} ({key.name}) is revoked; a running service refuses it within ten seconds.")
    return 0


@contextmanager
def _open_store() -> Iterator[JobStore]:
    """Open the job table, and make it before the service's first start; StorageUnavailable where it can't be used."""
    settings = Settings.from_environment()
    os.umask(0o077)  # the file is the service's own, whoever makes it first
    store = JobStore(settings.database_url.get_secret_value(), locale=settings.locale)
    try:
        store.create_schema()
        yield store
    except StorageUnavailable as error:
        raise StorageUnavailable(f"The database of SERVE_APP_DATABASE_URL can't be used. {error.detail}") from None
    except SQLAlchemyError as error:  # its text may name the database's password
        raise StorageUnavailable(
            f"The database of SERVE_APP_DATABASE_URL can't be used ({type(error).__name__})"
        ) from None
    finally:
        store.close()


def _scopes(key: ApiKey) -> str:
    return ", ".join(sorted(key.scopes))


def _entry(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "requests_per_minute": key.requests_per_minute,
        "jobs_in_work": key.jobs_in_work,
        "created_at": _time(key.created_at),
        "last_used_at": _time(key.last_used_at),
        "revoked_at": _time(key.revoked_at),
    }


def _time(posix_s: float | None) -> str | None:
    return None if posix_s is None else datetime.fromtimestamp(posix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print_json(value: dict[str, Any]) -> int:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    return 0
