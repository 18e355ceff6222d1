"""Broken picture files against the real graph: `python -m loadtests.images_fuzz [--cases 2400] [--seed 0]`.

Mutations of good files in every kind that the routes take, half to each route, and files made to hurt a decoder, to
both. None may get a 5xx, break its connection or go without an answer; the replicas must be the same processes after
as before, answer as before, and keep their memory bounded. The same files every time for the same seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.images.crafted import crafted_cases
from loadtests.images.graph import DEPLOYMENTS, ROUTES, write_models_config
from loadtests.images.inputs import machine
from loadtests.images.load import Answer, Plan, run_apart
from loadtests.images.mutations import Case, cases
from loadtests.images.photographs import write_photographs
from loadtests.images.seeds import seed_pictures
from loadtests.images.servers import wait_until_it_answers
from serve_app.commands.demo.local_graph import LocalGraph

_REPLICA = "ray::ServeReplica:serve_app:"
_NUM_SLOWEST = 8


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica's process.

    Attributes:
        pid: of it.
        name: deployment.
        peak_mb: of its resident memory since it started.
    """

    pid: int
    name: str
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Judged:
    """One file and what it got.

    Attributes:
        case: the file.
        route: it was sent to.
        answer: to it.
    """

    case: Case
    route: str
    answer: Answer

    @property
    def is_bad(self) -> bool:
        """Whether the server, and not the file, is at fault."""
        return self.answer.status == 0 or self.answer.status >= 500


def replicas(root_pid: int) -> list[Replica]:
    """Return the graph's replicas that answer for images: the classifiers and the ingress."""
    wanted = {"Ingress", *DEPLOYMENTS.values()}
    found = []
    for process in psutil.Process(root_pid).children(recursive=True):
        try:
            command = " ".join(process.cmdline())
            name = command.partition(_REPLICA)[2].partition("#")[0].split(":")[0].strip()
            if name in wanted:
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
                peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
                found.append(Replica(process.pid, name, peak_kb / 1e3))
        except (psutil.Error, OSError, StopIteration):
            continue
    return sorted(found, key=lambda each: (each.name, each.pid))


def table(judged: Sequence[Judged]) -> list[str]:
    """Return how many files of each kind got which status, as lines of Markdown."""
    counts = Counter((each.case.kind, each.answer.status) for each in judged)
    statuses = sorted({status for _, status in counts})
    lines = [f"| mutation | {' | '.join(str(status or 'none') for status in statuses)} |"]
    lines.append("|" + " --- |" * (len(statuses) + 1))
    lines += [
        f"| {kind} | {' | '.join(str(counts[kind, status]) for status in statuses)} |"
        for kind in sorted({kind for kind, _ in counts})
    ]
    sums = (sum(counts[kind, status] for kind, each in counts if each == status) for status in statuses)
    return [*lines, f"| all | {' | '.join(map(str, sums))} |"]


def problems(
    judged: Sequence[Judged], before: Sequence[Replica], after: Sequence[Replica], max_growth_mb: float
) -> list[str]:
    """Return what went wrong, in words; nothing if all went well."""
    found = [
        f"{each.case.name} to {each.route}: {each.answer.status or 'no answer'} {each.answer.body[:200]}"
        for each in judged
        if each.is_bad
    ]
    pids = [{replica.pid: replica.name for replica in each} for each in (before, after)]
    if pids[0] != pids[1]:
        found.append(f"the replicas were {pids[0]} and are {pids[1]}")
    peaks_mb = {replica.pid: replica.peak_mb for replica in before}
    for replica in after:
        growth_mb = replica.peak_mb - peaks_mb.get(replica.pid, replica.peak_mb)
        if growth_mb > max_growth_mb:
            found.append(
                f"{replica.name} took {growth_mb:.0f} MB more than with good files, {max_growth_mb:.0f} allowed"
            )
    return found


def send(
    graph: LocalGraph, route: str, batch: Sequence[Case], folder: Path, concurrency: int, timeout_s: float
) -> list[Judged]:
    """Send files to a route and return what each got."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for case in batch:
        paths.append(folder / f"{case.name}.jpg")
        paths[-1].write_bytes(case.data)
    images = tuple(str(path) for path in paths)
    plan = Plan(graph.port, route, images, concurrency, num_requests=len(images), timeout_s=timeout_s)
    answers = run_apart(plan).answers
    return [Judged(batch[answer.image], route, answer) for answer in answers]


def main() -> None:
    """Print what happened; exit status 1 where anything went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.images_fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", type=int, default=2_400, help="mutated files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that an answer may take")
    parser.add_argument("--max-growth", type=float, default=3_000.0, help="MB that a replica's peak may grow by")
    parser.add_argument("--keep", type=Path, help="folder for files that got a 5xx or no answer")
    parser.add_argument("--container", help="spec of weights; the embedded ones without")
    parser.add_argument("--beverage", help="spec of weights; the embedded ones without")
    arguments = parser.parse_args()
    print(f"{time.strftime('%F %H:%M')}, {machine()}, seed {arguments.seed}", flush=True)
    mutated = list(cases(seed_pictures(), arguments.cases, arguments.seed))
    crafted = crafted_cases()
    with tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        models = {task: {"model": spec} if (spec := getattr(arguments, task)) else {} for task in DEPLOYMENTS}
        config = write_models_config(folder / "config.yaml", models)
        with LocalGraph(config, folder / "g") as graph:
            graph.wait_until_ready(600.0)
            found = _fuzz(graph, mutated, crafted, folder, arguments)
    sys.exit(1 if found else 0)


def _fuzz(
    graph: LocalGraph, mutated: Sequence[Case], crafted: Sequence[Case], folder: Path, arguments: argparse.Namespace
) -> list[str]:
    good = write_photographs(folder / "good", 8)
    first = _good_answers(graph, good)
    before = replicas(graph.pid)
    judged: list[Judged] = []
    for part, (task, route) in enumerate(ROUTES.items()):
        for what, batch in (("mutated", mutated[part :: len(ROUTES)]), ("crafted", crafted)):
            started_s = time.monotonic()
            judged += send(graph, route, batch, folder / task / what, arguments.concurrency, arguments.timeout)
            print(f"  {len(batch)} {what} files to {route}: {time.monotonic() - started_s:.0f} s", flush=True)
    after = replicas(graph.pid)
    found = problems(judged, before, after, arguments.max_growth)
    if _good_answers(graph, good) != first:
        found.append("good pictures are not answered as before")
    lines = ["", *table(judged), "", *_slowest(judged), "", *_memory(before, after), ""]
    lines += [f"WRONG: {each}" for each in found] or ["no 5xx, no lost answer; the same processes, the same answers"]
    print("\n".join(lines), flush=True)
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for each in judged:
            if each.is_bad:
                (arguments.keep / each.case.name).write_bytes(each.case.data)
    return found


def _good_answers(graph: LocalGraph, good: Sequence[Path]) -> Mapping[str, list[str]]:
    """Return the routes' answers to good pictures, one after the other: a batch may round otherwise."""
    answers = {}
    for route in ROUTES.values():
        wait_until_it_answers(graph, route, good[0])
        plan = Plan(graph.port, route, tuple(str(path) for path in good), 1, num_requests=len(good))
        answers[route] = [answer.body for answer in run_apart(plan).answers]
    return answers


def _slowest(judged: Sequence[Judged]) -> list[str]:
    slowest = sorted(judged, key=lambda each: -each.answer.latency_ms)[:_NUM_SLOWEST]
    lines = ["| slowest (with what waited before them) | route | status | s |", "| --- | --- | --- | --- |"]
    return lines + [
        f"| {each.case.name} | {each.route} | {each.answer.status} | {each.answer.latency_ms / 1e3:.1f} |"
        for each in slowest
    ]


def _memory(before: Sequence[Replica], after: Sequence[Replica]) -> list[str]:
    peaks_mb = {replica.pid: replica.peak_mb for replica in before}
    lines = ["| replica | peak RSS MB with good files | after all |", "| --- | --- | --- |"]
    return lines + [
        f"| {replica.name} | {peaks_mb.get(replica.pid, float('nan')):.0f} | {replica.peak_mb:.0f} |"
        for replica in after
    ]


if __name__ == "__main__":
    main()
