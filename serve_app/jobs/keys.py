"""`Keys`: API keys in the job table. Their secrets are kept as SHA-256 alone.

A secret has 256 random bits, so that a plain hash can't be searched for it, and begins with `sa_`, so that scanners of
repositories find one that was committed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from secrets import token_hex, token_urlsafe

from sqlalchemy import select, update

from serve_app.errors import InvalidRequest
from serve_app.jobs.database import Database
from serve_app.jobs.record import ApiKey, Scope
from serve_app.jobs.tables import AnyRow, api_keys
from serve_app.sentences import Sentence

_PREFIX = "sa_"
_SECRET_BYTES = 32
_ID_BYTES = 6
_NAME = re.compile(r"[^\W_][\w .@/-]{0,99}")
_COLUMNS = tuple(column for column in api_keys.c if column.name != "secret_hash")


class Keys:
    """API keys, on one job database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create_key(
        self,
        name: str,
        scopes: frozenset[Scope],
        *,
        requests_per_minute: int | None = None,
        jobs_in_work: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Store a new key; return it, and its secret, which nothing can show again.

        Raises:
            InvalidRequest: the name has other characters or is taken, there is no scope, or a limit is below 1.
        """
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                Sentence("a key's name has 1 to 100 letters, digits and ' .@/_-', the first a letter or digit")
            )
        if not scopes:
            raise InvalidRequest(Sentence("give the key a scope: {scopes}", scopes=", ".join(Scope)))
        if any(limit is not None and limit < 1 for limit in (requests_per_minute, jobs_in_work)):
            raise InvalidRequest(Sentence("a key's limits are at least 1; leave a limit out to have none"))
        secret = _PREFIX + token_urlsafe(_SECRET_BYTES)
        with self._db.write() as (connection, now):
            self._db.lock(connection, "api_keys")
            valid = select(api_keys.c.id).where(api_keys.c.name == name, api_keys.c.revoked_at.is_(None))
            if connection.execute(valid).first() is not None:
                raise InvalidRequest(
                    Sentence("there is a key {name} already: choose another name, or revoke that one first", name=name)
                )
            key = ApiKey(token_hex(_ID_BYTES), name, scopes, requests_per_minute, jobs_in_work, created_at=now)
            connection.execute(
                api_keys.insert().values(
                    id=key.id,
                    name=key.name,
                    secret_hash=secret_hash(secret),
                    scopes=" ".join(sorted(scopes)),
                    requests_per_minute=requests_per_minute,
                    jobs_in_work=jobs_in_work,
                    created_at=now,
                )
            )
        return key, secret

    def all_keys(self) -> list[ApiKey]:
        """Return all keys, also revoked ones, the oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(select(*_COLUMNS).order_by(api_keys.c.created_at, api_keys.c.id))
            return [_to_key(row) for row in rows]

    def valid_keys(self) -> dict[str, ApiKey]:
        """Return the keys that are not revoked, by the hashes of their secrets."""
        with self._db.read() as connection:
            rows = connection.execute(select(*_COLUMNS, api_keys.c.secret_hash).where(api_keys.c.revoked_at.is_(None)))
            return {row.secret_hash: _to_key(row) for row in rows}

    def revoke_key(self, id_or_name: str) -> ApiKey:
        """Make a key invalid for good, by its id or its name; its jobs stay. InvalidRequest: no valid key has it."""
        named = (api_keys.c.id == id_or_name) | (api_keys.c.name == id_or_name)
        with self._db.write() as (connection, now):
            row = connection.execute(
                update(api_keys)
                .where(named, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=now)
                .returning(*_COLUMNS)
            ).first()
        if row is None:
            raise InvalidRequest(
                Sentence("no valid key has the id or name {wanted}: see `serve-app keys list`", wanted=id_or_name)
            )
        return _to_key(row)

    def note_key_use(self, used: Mapping[str, float]) -> None:
        """Store when keys were used last, by their ids, in POSIX seconds."""
        with self._db.write() as (connection, _now):
            for key_id, used_at in sorted(used.items()):
                connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=used_at))


def secret_hash(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _to_key(row: AnyRow) -> ApiKey:
    # a scope of a newer version allows nothing here
    scopes = frozenset(Scope(name) for name in row.scopes.split() if name in tuple(Scope))
    return ApiKey(**{column.name: getattr(row, column.name) for column in _COLUMNS} | {"scopes": scopes})
