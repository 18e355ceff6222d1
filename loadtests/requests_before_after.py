"""Requests per second of two checkouts: `python -m loadtests.requests_before_after --before DIR --after DIR`.

In turns, each checkout's graph starts alone, answers small pictures (`POST /classify-reusable`, the classifier inside
the ingress) and takes video jobs (SQLite), both from 8 connections, and stops. The only runner holds one job, whose
file server never answers, so that no job takes CPU. Both run with this interpreter and its packages. The exit status is
1 where a median after is slower than before by more than the tolerance.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from loadtests.burst.orders import PICTURE_PATH, VIDEO_PATH, small_jpeg
from loadtests.burst.servers import SilentServer
from loadtests.images.figures import percentile
from loadtests.images.graph import write_models_config
from loadtests.images.inputs import machine
from loadtests.images.load import Plan, run_apart
from loadtests.images.process_tree import machine_cpu_s, tree_cpu_s
from loadtests.images.servers import wait_until_it_answers
from serve_app.commands.demo.local_graph import LocalGraph

_READY_S = 600.0
_ANSWER_S = 60.0
SIDES = ("before", "after")


@dataclass(frozen=True, slots=True)
class Figures:
    """One load on one graph.

    Attributes:
        side: before or after.
        load: what was asked.
        per_s: answers a second.
        p50_ms, p99_ms: until an answer.
        cpu_ms: of all of the graph's processes, for each answer.
        num_failed: answers that were not 200.
        others_cores: CPUs that other processes of the machine took meanwhile, this one's included.
    """

    side: str
    load: str
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    num_failed: int
    others_cores: float


@dataclass(frozen=True, slots=True)
class _Cpu:
    """CPU seconds at a moment."""

    at_s: float
    graph_s: float
    machine_s: float

    @classmethod
    def now(cls, pid: int) -> _Cpu:
        return cls(time.monotonic(), tree_cpu_s(pid), machine_cpu_s())


def _figures(side: str, load: str, latencies_ms: list[float], num_failed: int, began: _Cpu, over: _Cpu) -> Figures:
    num, seconds = len(latencies_ms), over.at_s - began.at_s
    graph_s = over.graph_s - began.graph_s
    return Figures(
        side,
        load,
        num / seconds,
        percentile(latencies_ms, 50),
        percentile(latencies_ms, 99),
        1e3 * graph_s / max(num, 1),
        num_failed,
        max(0.0, over.machine_s - began.machine_s - graph_s) / seconds,
    )


def pictures(side: str, graph: LocalGraph, picture: Path, arguments: argparse.Namespace) -> Figures:
    """Put the load of pictures on a graph."""
    moments: list[_Cpu] = []

    def hear(event: str) -> None:
        if event in ("begin", "end"):
            moments.append(_Cpu.now(graph.pid))

    plan = Plan(
        graph.port,
        PICTURE_PATH,
        (str(picture),),
        arguments.concurrency,
        warm_up_s=arguments.warm_up_s,
        seconds=arguments.seconds,
    )
    answers = run_apart(plan, hear).answers
    num_failed = sum(answer.status != 200 for answer in answers)
    return _figures(side, "pictures", [answer.latency_ms for answer in answers], num_failed, *moments)


def submissions(side: str, graph: LocalGraph, video_url: str, arguments: argparse.Namespace) -> Figures:
    """Put the load of new jobs on a graph."""
    latencies_ms: list[float] = []
    failed: list[int] = []
    counting, stop = threading.Event(), threading.Event()

    def submit() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", graph.port, timeout=_ANSWER_S)
        with contextlib.closing(connection):
            while not stop.is_set():
                body = json.dumps({"job_id": str(uuid.uuid4()), "video_url": video_url})
                began_s = time.perf_counter()
                connection.request("POST", VIDEO_PATH, body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if counting.is_set() and not stop.is_set():
                    latencies_ms.append(1e3 * (time.perf_counter() - began_s))
                    if answer.status != 200:
                        failed.append(answer.status)

    threads = [threading.Thread(target=submit, daemon=True) for _ in range(arguments.concurrency)]
    for thread in threads:
        thread.start()
    time.sleep(arguments.warm_up_s)
    began = _Cpu.now(graph.pid)
    counting.set()
    time.sleep(arguments.seconds)
    stop.set()
    over = _Cpu.now(graph.pid)
    for thread in threads:
        thread.join()
    return _figures(side, "submissions", latencies_ms, len(failed), began, over)


def one_turn(side: str, root: Path, folder: Path, arguments: argparse.Namespace) -> list[Figures]:
    """Start a checkout's graph, measure both loads, and stop it."""
    config = write_models_config(folder / "graph.yaml", {"container": {"in_ingress": True}}, root)
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content["applications"][0]["args"]["job_runner"] |= {"min_replicas": 1, "max_replicas": 1, "jobs_per_replica": 1}
    config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    picture = folder / "picture.jpg"
    picture.write_bytes(small_jpeg())
    environment = {
        "PYTHONPATH": str(root),
        "SERVE_APP_ALLOWED_HOSTS": "127.0.0.0/8",
        "SERVE_APP_MAX_QUEUED_JOBS": "10000000",
    }
    graph = LocalGraph(config, folder / "g", environment)
    with SilentServer("127.0.1.1") as silent:
        # the folder from which `python -m serve_app` takes the package
        with contextlib.chdir(root):
            graph.start()
        try:
            graph.wait_until_ready(_READY_S)
            _check_is_of(root, graph)
            wait_until_it_answers(graph, PICTURE_PATH, picture)
            found = [pictures(side, graph, picture, arguments)]
            found.append(submissions(side, graph, f"{silent.base_url}/video.mp4", arguments))
        finally:
            graph.stop()
    return found


def _check_is_of(root: Path, graph: LocalGraph) -> None:
    """Raise RuntimeError unless the graph's processes work in the checkout."""
    if Path(f"/proc/{graph.pid}/cwd").resolve() != root:
        raise RuntimeError(f"the graph does not run in {root}")


def main() -> None:
    """Print each turn, and the medians."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.requests_before_after",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--before", type=Path, required=True, help="checkout")
    parser.add_argument("--after", type=Path, required=True, help="checkout")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--warm-up-s", type=float, default=5.0, help="before each load")
    parser.add_argument("--concurrency", type=int, default=8, help="connections")
    parser.add_argument("--tolerance", type=float, default=0.05, help="share by which `after` may be slower")
    parser.add_argument("--json", type=Path, help="file for the figures of each turn")
    arguments = parser.parse_args()
    roots = {side: getattr(arguments, side).resolve() for side in SIDES}
    print(f"{time.strftime('%F %H:%M')}, {machine()}", flush=True)
    found: list[Figures] = []
    for number in range(arguments.rounds):
        for side in SIDES:
            with tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as name:
                turn = one_turn(side, roots[side], Path(name), arguments)
            for each in turn:
                print(
                    f"  {number + 1} {side:6} {each.load:11}: {each.per_s:7.1f} a second, p50 {each.p50_ms:.1f}, p99 "
                    f"{each.p99_ms:.1f} ms, CPU {each.cpu_ms:.2f} ms each, failed {each.num_failed}, "
                    f"others {each.others_cores:.2f} CPUs",
                    flush=True,
                )
            found += turn
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(each) for each in found], indent=1))
    lines, is_slower = medians(found, arguments.tolerance)
    print("\n".join(["", *lines]))
    sys.exit(1 if is_slower or any(each.num_failed for each in found) else 0)


def medians(found: list[Figures], tolerance: float) -> tuple[list[str], bool]:
    """Return the medians as lines of Markdown, and whether one after is slower than before by more than a share."""

    def median(side: str, load: str, value: Callable[[Figures], float]) -> float:
        return statistics.median(value(each) for each in found if (each.side, each.load) == (side, load))

    lines = [
        "| load | before, a second | after, a second | after/before | CPU before, ms each | CPU after, ms each |",
        "|" + " --- |" * 6,
    ]
    is_slower = False
    for load in dict.fromkeys(each.load for each in found):
        before, after = (median(side, load, lambda each: each.per_s) for side in SIDES)
        cpu = [f"{median(side, load, lambda each: each.cpu_ms):.2f}" for side in SIDES]
        is_slower = is_slower or after < (1 - tolerance) * before
        lines.append(f"| {load} | {before:.1f} | {after:.1f} | {after / before:.3f} | {cpu[0]} | {cpu[1]} |")
    return lines, is_slower


if __name__ == "__main__":
    main()
