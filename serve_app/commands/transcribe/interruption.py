"""Ctrl-C at a moment of our choosing: never between writing something down and remembering that it was written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# by the signal that a process manager sends, too: a container that is stopped leaves complete results
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptions() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, instead of what they do otherwise; a second one does that.

    A signal that is ignored stays so: a shell's background job hears no Ctrl-C. Only the main thread can use it.
    """
    asked = threading.Event()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    # None: a handler that is not Python's, and could not be put back
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
