"""What happens to the service during the burst, and when."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Fault:
    """One fault.

    Attributes:
        name: in the tables.
        at: share of the burst's time at which it begins.
        lasts: share of the burst's time that it lasts.
        begin: makes it; returns what was done, in words.
        end: undoes it.
        repeats: whether an event may come twice because of it: a courier died, or could not note what it had sent.
        began_s, ended_s: of `time.monotonic`.
        told: what `begin` returned.
    """

    name: str
    at: float
    lasts: float
    begin: Callable[[], str]
    end: Callable[[], None]
    repeats: bool
    began_s: float | None = None
    ended_s: float | None = None
    told: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something to do at a share of the burst's time."""

    at: float
    act: Callable[[], object]


def run(faults: Sequence[Fault], moments: Sequence[Moment], seconds: float) -> None:
    """Do everything at its time; return after `seconds`, with every fault undone."""
    began_s = time.monotonic()
    threads = [threading.Thread(target=_run_fault, args=(fault, began_s, seconds), daemon=True) for fault in faults]
    for thread in threads:
        thread.start()
    for moment in sorted(moments, key=lambda each: each.at):
        _wait_until(began_s + moment.at * seconds)
        moment.act()
    _wait_until(began_s + seconds)
    for thread in threads:
        thread.join()


def _run_fault(fault: Fault, began_s: float, seconds: float) -> None:
    _wait_until(began_s + fault.at * seconds)
    fault.began_s = time.monotonic()
    try:
        fault.told = fault.begin()
        print(f"  {fault.began_s - began_s:6.1f} s: {fault.name}: {fault.told}", flush=True)
        _wait_until(fault.began_s + fault.lasts * seconds)
    except Exception:
        fault.told = traceback.format_exc()
        print(f"  {fault.name} could not be made:\n{fault.told}", flush=True)
    finally:
        fault.end()
        fault.ended_s = time.monotonic()
        print(f"  {fault.ended_s - began_s:6.1f} s: {fault.name}: over", flush=True)


def _wait_until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.monotonic()))
