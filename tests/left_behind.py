"""What a test leaves behind: threads and child processes that were not there before it.

A thread that outlives its test disturbs other tests: it takes their time, holds ports and locks, and answers for its
own test long after. Threads of fixtures with a longer life (session, module) are there before the test, so they don't
count, nor do the threads that those start.
"""

from __future__ import annotations

import gc
import multiprocessing.resource_tracker
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import psutil

GRACE_S = 5.0  # a busy machine may let a thread wait for its last step
_POLL_S = 0.005

# Threads that are kept for the whole process, by the beginning of their names, each with its reason.
_KEPT_FOR_THE_PROCESS = {
    "serve_app-": "the groups of serve_app.threads",
    "fsspecIO": "fsspec's one event loop, of all its asynchronous file systems",
    "gcsfs-deferred-close": "gcsfs's one closer of files that nobody closed",
    "tqdm": "tqdm's one monitor of all progress bars",
}


@dataclass(frozen=True, slots=True)
class Running:
    """Threads and child processes of this process at one moment."""

    threads: frozenset[threading.Thread]
    process_ids: frozenset[int]

    @classmethod
    def now(cls) -> Running:
        """Return what runs now."""
        return cls(frozenset(threading.enumerate()), _child_ids())

    def left_behind(self) -> list[str]:
        """Wait up to `GRACE_S` until all that came after this moment has ended; describe each that has not."""
        began_s = time.monotonic()
        collected = False
        while (newer := self._newer()) and (waited_s := time.monotonic() - began_s) < GRACE_S:
            if waited_s > GRACE_S / 20 and not collected:
                gc.collect()  # the workers of an executor end once it is collected; takes a second with PyTorch loaded
                collected = True
            time.sleep(_POLL_S)
        return [describe() for describe in newer]

    def _newer(self) -> list[Callable[[], str]]:
        threads = [thread for thread in threading.enumerate() if not self._belongs(thread)]
        describe: list[Callable[[], str]] = [lambda thread=thread: _describe_thread(thread) for thread in threads]
        return describe + [lambda pid=pid: _describe_process(pid) for pid in _child_ids() - self.process_ids]

    def _belongs(self, thread: threading.Thread) -> bool:
        """Say whether a thread was there before, is kept for the process, or was started by one of these."""
        # what Python did not start shows up when it calls into Python, and can't be joined
        if thread in self.threads or isinstance(thread, threading._DummyThread):
            return True
        starter = _starters.get(thread)
        by_fixture = starter is not None and starter is not threading.main_thread() and self._belongs(starter)
        return by_fixture or thread.name.startswith(tuple(_KEPT_FOR_THE_PROCESS))


# by which thread each was started: a server of a fixture serves each connection in a thread of its own
_starters: weakref.WeakKeyDictionary[threading.Thread, threading.Thread] = weakref.WeakKeyDictionary()


def watch_starts() -> None:
    """Note from now on which thread starts which."""
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        _starters[thread] = threading.current_thread()
        start(thread)

    threading.Thread.start = noted  # type: ignore[method-assign]


def _child_ids() -> frozenset[int]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there are none: far quicker than to look through all processes
        return frozenset()
    tracker = multiprocessing.resource_tracker._resource_tracker._pid  # one, until this process ends
    kept = {tracker, *_decoders()}
    return frozenset(each.pid for each in psutil.Process().children() if each.pid not in kept and _runs(each))


def _decoders() -> set[int | None]:
    """Return the processes of the two cages that this process keeps until it ends."""
    found = set()
    for module, cage in (
        ("serve_app.media.caged_audio", "sound_cage"),
        ("serve_app.models.caged_pictures", "picture_cage"),
    ):
        if module in sys.modules:
            found.add(getattr(sys.modules[module], cage)().pid)
    return found


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _describe_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    stack = "".join(traceback.format_stack(frame)) if frame else "  (ended just now)\n"
    return f"thread {thread.name!r} of {type(thread).__module__}.{type(thread).__qualname__} stands at:\n{stack}"


def _describe_process(pid: int) -> str:
    try:
        return f"process {pid}: {' '.join(psutil.Process(pid).cmdline())}\n"
    except psutil.Error:
        return f"process {pid} (ended just now)\n"
