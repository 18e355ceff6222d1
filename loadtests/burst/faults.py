"""What happens to the service during the burst, and when."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from loadtests.burst.disk import SmallDisk
from serve_app.commands.demo.local_graph import LocalGraph
from tests.integration.processes import kill, replicas

if TYPE_CHECKING:  # it needs a package that not everybody has
    from loadtests.burst.postgres import Postgres

NAMES = ("disk full", "Postgres hangs", "runner killed", "Postgres away", "ingress killed")
INGRESS_KILLED = NAMES[-1]
_MINUTE = 0.1  # of ten
_KILL = 0.05  # share of the time for which a job counts as having met a kill


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
    """Do everything at its time; return after `seconds`, or by an exception, with every fault undone."""
    began_s = time.monotonic()
    stop = threading.Event()
    threads = [threading.Thread(target=_run_fault, args=(fault, began_s, seconds, stop)) for fault in faults]
    for thread in threads:
        thread.start()
    try:
        for moment in sorted(moments, key=lambda each: each.at):
            time.sleep(max(0.0, began_s + moment.at * seconds - time.monotonic()))
            moment.act()
        time.sleep(max(0.0, began_s + seconds - time.monotonic()))
    except BaseException:
        stop.set()
        raise
    finally:
        for thread in threads:
            thread.join()


def _run_fault(fault: Fault, began_s: float, seconds: float, stop: threading.Event) -> None:
    if stop.wait(began_s + fault.at * seconds - time.monotonic()):
        return
    fault.began_s = time.monotonic()
    try:
        fault.told = fault.begin()
        print(f"  {fault.began_s - began_s:6.1f} s: {fault.name}: {fault.told}", flush=True)
        stop.wait(fault.began_s + fault.lasts * seconds - time.monotonic())
    except Exception:
        fault.told = traceback.format_exc()
        print(f"  {fault.name} could not be made:\n{fault.told}", flush=True)
    finally:
        fault.end()
        fault.ended_s = time.monotonic()
        print(f"  {fault.ended_s - began_s:6.1f} s: {fault.name}: over", flush=True)


def planned_faults(graph: LocalGraph, postgres: Postgres, disk: SmallDisk | None) -> list[Fault]:
    """Return all faults, or all but the full disk."""

    def kill_one(deployment: str) -> Callable[[], str]:
        def begin() -> str:
            pids = replicas(graph, deployment)
            # a process that a replica forked has its title too
            pid = next(each for each in pids if psutil.Process(each).ppid() not in pids)
            kill(pid)
            return f"process {pid}"

        return begin

    def said(act: Callable[[], None]) -> Callable[[], str]:
        def begin() -> str:
            act()
            return "done"

        return begin

    def nothing() -> None:
        pass

    found = [
        Fault(NAMES[1], 0.30, _MINUTE, said(postgres.freeze), postgres.thaw, repeats=True),
        Fault(NAMES[2], 0.48, _KILL, kill_one("JobRunner"), nothing, repeats=True),
        Fault(NAMES[3], 0.58, _MINUTE, said(postgres.stop), postgres.start, repeats=True),
        Fault(INGRESS_KILLED, 0.78, _KILL, kill_one("Ingress"), nothing, repeats=True),
    ]
    if disk is None:
        return found

    def fill() -> str:
        disk.fill()
        return f"{disk.free_bytes} bytes free"

    return [Fault(NAMES[0], 0.12, _MINUTE, fill, disk.empty, repeats=False), *found]
