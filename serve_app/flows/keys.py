"""`StoredKeys`: the API keys as an ingress replica knows them: a copy of the table's, read every few seconds.

A stranger's guesses cost the database nothing: an unknown key has the copy read again once a second at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from serve_app.errors import StorageUnavailable
from serve_app.jobs.keys import secret_hash
from serve_app.jobs.record import ApiKey
from serve_app.jobs.store import JobStore
from serve_app.sentences import Sentence
from serve_app.threads import STORE

_FRESH_S = 5.0  # a copy of this age is read again beside the requests that use it
_STALE_S = 10.0  # one of this age is not used before that
_LAST_RESORT_S = 300.0  # but where the database gives no answer
_MISS_S = 1.0  # an unknown key may have been made since a copy of this age
_READ_WITHIN_S = 2.0
_AGAIN_AFTER_S = 2.0  # a read that failed
_USE_NOTED_EVERY_S = 60.0

logger = logging.getLogger("ray.serve")


class StoredKeys:
    """`services.KeyService` over the job table. An instance is for one event loop.

    Args:
        store: the job table.
        clock: monotonic seconds.
    """

    def __init__(self, store: JobStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._keys: dict[str, ApiKey] = {}
        self._read_at = self._failed_at = self._noted_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._noting: asyncio.Task[None] | None = None
        self._used: dict[str, float] = {}

    async def find(self, secret: str) -> ApiKey | None:
        """Return the key of a secret; None: there is none, or it was revoked ten seconds ago or more."""
        await self._freshen(_STALE_S)
        hashed = secret_hash(secret)
        key = self._keys.get(hashed)
        if key is None:
            await self._freshen(_MISS_S)
            key = self._keys.get(hashed)
        if key is not None:
            self._used[key.id] = time.time()
            self._note_uses()
        return key

    async def exist(self) -> bool:
        """Return whether there is any valid key."""
        await self._freshen(_STALE_S)
        return bool(self._keys)

    async def _freshen(self, most_s: float) -> None:
        """Read the table where the copy is older than `most_s`; StorageUnavailable once it is too old for all use."""
        age_s = self._clock() - self._read_at
        if age_s > _FRESH_S or age_s > most_s:
            is_failing = self._clock() - self._failed_at < _AGAIN_AFTER_S
            if not is_failing and (self._reading is None or self._reading.done()):
                self._reading = asyncio.create_task(self._read())
            if age_s > most_s and self._reading is not None:
                await asyncio.shield(self._reading)  # shared: one client that leaves must not end it
        if self._clock() - self._read_at > _LAST_RESORT_S:
            raise StorageUnavailable(
                Sentence("API keys can't be checked: the job table does not answer; try again later")
            )

    async def _read(self) -> None:
        started_at = self._clock()
        try:
            self._keys = await STORE.run_within(_READ_WITHIN_S, self._store.valid_keys)
            self._read_at = started_at
        except Exception as error:
            self._failed_at = self._clock()
            logger.warning("the API keys can't be read, known ones go on: %s", type(error).__name__)

    def _note_uses(self) -> None:
        if self._clock() - self._noted_at < _USE_NOTED_EVERY_S or (self._noting and not self._noting.done()):
            return
        self._noted_at = self._clock()
        used, self._used = self._used, {}
        self._noting = asyncio.create_task(self._note(used))

    async def _note(self, used: dict[str, float]) -> None:
        try:
            await STORE.run(self._store.note_key_use, used)
        except Exception as error:
            logger.warning("the use of API keys can't be noted: %s", type(error).__name__)
