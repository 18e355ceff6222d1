"""`until_made`: waits for results in Ray's object store, without fetching them, in one thread for the whole process."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import ray

_ROUND_S = 0.01  # a reference that comes while Ray is asked about others waits so long


async def until_made(reference: ray.ObjectRef[Any]) -> None:
    """Return once the call that makes the referenced result has ended, well or not.

    The result stays where it is: to await the reference itself would move 0.9 GB of audio into this process.
    """
    await asyncio.wrap_future(_WAITING.add(reference))


class _Waiting:
    """References that somebody waits for, and the thread that asks Ray about all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: dict[Any, list[Future[None]]] = {}
        self._thread: threading.Thread | None = None

    def add(self, reference: Any) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            self._futures.setdefault(reference, []).append(future)
            if self._thread is None:
                self._thread = threading.Thread(target=self._ask, name="serve_app-references", daemon=True)
                self._thread.start()
        return future

    def _ask(self) -> None:
        while True:
            with self._lock:
                for reference in [each for each, futures in self._futures.items() if all(f.done() for f in futures)]:
                    del self._futures[reference]  # whoever waited has left
                references = list(self._futures)
                if not references:
                    self._thread = None
                    return
            try:
                made, _ = ray.wait(references, num_returns=1, timeout=_ROUND_S, fetch_local=False)
                error = None
            except Exception as raised:  # Ray is shut down
                made, error = references, raised
            with self._lock:
                ended = [future for reference in made for future in self._futures.pop(reference)]
            for future in ended:
                if not future.set_running_or_notify_cancel():
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)


_WAITING = _Waiting()
