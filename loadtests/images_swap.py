"""Weights replaced under load: `python -m loadtests.images_swap [--requests 10000] [--concurrency 8] [--replicas 1]`.

A closed loop of uploads; in the middle of it another file takes the place of the model's, and `serve-app models reload`
is called, as an operator would. Every answer must be 200, and its probabilities plain PyTorch's with the weights that
the answer's X-Model-Version names; both versions must be seen, and the old one no more once the command has returned.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests.images.figures import percentile
from loadtests.images.graph import write_config
from loadtests.images.inputs import TASK_OF, jpegs, machine, settings_for, weights_in_new_process
from loadtests.images.load import ROOT, Answer, Outcome, Plan, run_apart
from loadtests.images.measurement import drift_of, expected_probabilities
from loadtests.images.servers import wait_until_it_answers
from serve_app.commands.demo.local_graph import LocalGraph

_SERVING = "serving.pth"


@dataclass(frozen=True, slots=True)
class Swap:
    """What the operator's command did.

    Attributes:
        at_answer: how many answers had come when the file was replaced.
        took_s: the command, until it returned.
        status: its exit status.
        said: by it.
        returned_at_answer: how many answers had come then, at least.
    """

    at_answer: int
    took_s: float
    status: int
    said: str
    returned_at_answer: int


def problems(
    answers: Sequence[Answer],
    expected: Mapping[str, Sequence[Mapping[str, float]]],
    swap: Swap,
    concurrency: int,
    max_drift: float,
) -> list[str]:
    """Return what went wrong, in words; nothing if all went well.

    Args:
        answers: all, in the order they came.
        expected: probabilities for each image, by the version that gives them; the first version is the old one.
        swap: in the middle.
        concurrency: so many answers may be under way, or uncounted, when the command returns.
        max_drift: by how much a probability may differ.
    """
    found = []
    failed = [answer for answer in answers if answer.status != 200]
    if failed:
        found.append(f"{len(failed)} requests failed, the first with {failed[0].status} {failed[0].body[:200]}")
    seen = Counter(answer.version for answer in answers if answer.status == 200)
    if missing := [version for version in expected if not seen[version]]:
        found.append(f"never seen: {', '.join(missing)}")
    if unknown := [version for version in seen if version not in expected]:
        found.append(f"unknown versions: {', '.join(unknown)}")
    drifts = [
        drift_of(answer, expected[answer.version][answer.image]) for answer in answers if answer.version in expected
    ]
    wrong = sum(each is None or each[0] > max_drift for each in drifts)
    if wrong:
        furthest = max((each[0] for each in drifts if each), default=float("nan"))
        found.append(
            f"{wrong} answers have other probabilities than the version that they name, by up to {furthest:.3f}"
        )
    if swap.status != 0:
        found.append(f"the command ended with {swap.status}: {swap.said}")
    old = next(iter(expected))
    late = sum(answer.version == old for answer in answers[swap.returned_at_answer + concurrency :])
    if late:
        found.append(f"{late} answers of the old version after the command had returned")
    return found


def version_of(weights: Path) -> str:
    """Return the X-Model-Version of a file that serves."""
    return f"{_SERVING} ({hashlib.sha256(weights.read_bytes()).hexdigest()[:8]})"


class _Operator:
    """Replaces the file and calls the command, beside the load."""

    def __init__(self, serving: Path, new: Path, graph: LocalGraph, task: str) -> None:
        self._serving, self._new, self._graph, self._task = serving, new, graph, task
        self._thread: threading.Thread | None = None
        self._num_answers = 0
        self.swap: Swap | None = None

    def hear(self, event: str, swap_at: int) -> None:
        """Take an event of the load generator."""
        if not event.startswith("answers "):
            return
        self._num_answers = int(event.split()[1])
        if self._num_answers >= swap_at and self._thread is None:
            self._thread = threading.Thread(target=self._act, args=(self._num_answers,))
            self._thread.start()

    def wait(self) -> Swap:
        """Return what the command did."""
        if self._thread is None:
            raise RuntimeError("the load ended before the swap")
        self._thread.join()
        assert self.swap is not None
        return self.swap

    def _act(self, at_answer: int) -> None:
        started_s = time.monotonic()
        partial = self._serving.with_suffix(".part")
        shutil.copyfile(self._new, partial)
        os.replace(partial, self._serving)
        command = [sys.executable, "-m", "serve_app", "models", "reload", self._task, "--url", self._graph.base_url]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        self.swap = Swap(
            at_answer,
            time.monotonic() - started_s,
            done.returncode,
            (done.stdout + done.stderr).strip(),
            self._num_answers,
        )


def main() -> None:
    """Print what happened; exit status 1 where anything went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.images_swap",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--network", choices=list(TASK_OF), default="resnet50")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--weights-dir", type=Path, help="with the weights that serve first; random ones without")
    parser.add_argument("--images", type=Path, help="folder of JPEGs")
    parser.add_argument("--max-drift", type=float, default=0.02, help="from plain PyTorch, as in the graph's config")
    arguments = parser.parse_args()
    print(f"{time.strftime('%F %H:%M')}, {machine()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as name:
        sys.exit(1 if _run(arguments, Path(name)) else 0)


def _run(arguments: argparse.Namespace, folder: Path) -> list[str]:
    images = jpegs(arguments.images, folder)
    settings = settings_for(arguments.network, arguments.weights_dir, images, folder)
    new = folder / "new" / "weights.pth"
    weights_in_new_process(new, arguments.network, settings.task, images, seed=1)
    expected = {
        version_of(Path(each.weights)): expected_probabilities(each, images)
        for each in (settings, replace(settings, weights=str(new)))
    }
    step = max(1, arguments.requests // 200)
    serving = folder / _SERVING
    shutil.copyfile(settings.weights, serving)
    config = write_config(folder / "config.yaml", settings.task, str(serving), replicas=arguments.replicas)
    with LocalGraph(config, folder / "g") as graph:
        graph.wait_until_ready(600.0)
        wait_until_it_answers(graph, settings.path, images[0])
        operator = _Operator(serving, new, graph, settings.task)
        plan = Plan(
            graph.port,
            settings.path,
            tuple(str(image) for image in images),
            arguments.concurrency,
            num_requests=arguments.requests,
            progress_every=step,
            with_version=True,
        )
        outcome = run_apart(plan, lambda event: operator.hear(event, arguments.requests // 2))
        swap = operator.wait()
    # the generator tells how many answers came in steps: as many may be uncounted when the command returns
    found = problems(outcome.answers, expected, swap, arguments.concurrency + step, arguments.max_drift)
    print("\n".join([*_report(outcome, swap, arguments.network), *(f"WRONG: {each}" for each in found)]))
    return found


def _report(outcome: Outcome, swap: Swap, network: str) -> list[str]:
    answers = outcome.answers
    during = answers[swap.at_answer : swap.returned_at_answer]
    rest = [*answers[: swap.at_answer], *answers[swap.returned_at_answer :]]
    lines = [
        f"{network}: {len(answers)} requests in {outcome.wall_s:.0f} s, {len(answers) / outcome.wall_s:.1f}/s; "
        f"{sum(answer.status != 200 for answer in answers)} failed",
        f"versions: {json.dumps(Counter(answer.version for answer in answers))}",
        f"the swap took {swap.took_s:.1f} s, from answer {swap.at_answer} to {swap.returned_at_answer}:",
        swap.said,
        "| | answers | p50 ms | p99 ms | longest ms |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, part in (("while it swapped", during), ("else", rest)):
        latencies_ms = [answer.latency_ms for answer in part]
        lines.append(
            f"| {name} | {len(part)} | {percentile(latencies_ms, 50):.1f} | {percentile(latencies_ms, 99):.1f} "
            f"| {percentile(latencies_ms, 100):.1f} |"
        )
    return lines


if __name__ == "__main__":
    main()
