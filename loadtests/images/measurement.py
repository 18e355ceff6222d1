"""One cell: a load on a running server, with its CPU and memory, every answer held against plain PyTorch."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from loadtests.images.figures import Cell, percentile
from loadtests.images.load import Answer, Plan, run_apart
from loadtests.images.peers.settings import Settings
from loadtests.images.process_tree import machine_cpu_s, memory, tree, tree_cpu_s
from loadtests.images.servers import Server, ServerSpec


@dataclass(frozen=True, slots=True)
class _Moment:
    at_s: float
    server_s: float
    machine_s: float


def expected_probabilities(settings: Settings, images: Sequence[Path]) -> list[dict[str, float]]:
    """Return plain PyTorch's, for each image; in a process of its own, so that torch does not stay in this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_expected, settings, tuple(images)).result()


def _expected(settings: Settings, images: Sequence[Path]) -> list[dict[str, float]]:
    from loadtests.images.peers.classifier import Classifier

    # one thread: with more, PyTorch is a hundred times slower while the cores have other work
    classifier = Classifier.from_settings(replace(settings, threads=1))
    rows = [classifier.probabilities(classifier.read(image.read_bytes()).unsqueeze(0))[0] for image in images]
    return [dict(zip(classifier.classes, row, strict=True)) for row in rows]


def measure(
    server: Server, spec: ServerSpec, network: str, plan: Plan, expected: Sequence[Mapping[str, float]]
) -> Cell:
    """Put a load on a server and return what it did."""
    moments: list[_Moment] = []

    def hear(event: str) -> None:
        if event in ("begin", "end"):
            moments.append(_Moment(time.perf_counter(), tree_cpu_s(server.pid), machine_cpu_s()))

    outcome = run_apart(plan, hear)
    taken = memory(tree(server.pid))
    begin, end = moments
    cpu_s = end.server_s - begin.server_s
    others_s = end.machine_s - begin.machine_s - cpu_s - outcome.cpu_s
    num = len(outcome.answers)
    checked = [drift_of(answer, expected[answer.image]) for answer in outcome.answers]
    drifts = [each for each in checked if each is not None]
    failures = [answer for answer, each in zip(outcome.answers, checked, strict=True) if each is None]
    latencies_ms = [answer.latency_ms for answer in outcome.answers]
    return Cell(
        network=network,
        server=spec.key,
        name=spec.name,
        concurrency=plan.concurrency,
        num=num,
        num_failed=len(failures),
        per_s=num / outcome.wall_s,
        p50_ms=percentile(latencies_ms, 50),
        p99_ms=percentile(latencies_ms, 99),
        cpu_ms=1e3 * cpu_s / max(num, 1),
        generator_ms=1e3 * outcome.cpu_s / max(num, 1),
        others_cores=max(0.0, others_s) / (end.at_s - begin.at_s),
        rss_mb=taken.rss_mb,
        pss_mb=taken.pss_mb,
        drift=max((drift for drift, _ in drifts), default=float("nan")),
        agreement=sum(same for _, same in drifts) / max(len(drifts), 1),
        first_failure=f"{failures[0].status} {failures[0].body[:200]}" if failures else "",
    )


def drift_of(answer: Answer, expected: Mapping[str, float]) -> tuple[float, bool] | None:
    """Return an answer's largest difference of a probability, and whether its class is the same; None of no answer."""
    if answer.status != 200:
        return None
    try:
        value = json.loads(answer.body)
        # BentoML's batches come in lists and go out as such
        [value] = value if isinstance(value, list) else [value]
        found = {name: float(value["probabilities"][name]) for name in expected}
    except (ValueError, KeyError, TypeError):
        return None
    drift = max(abs(found[name] - expected[name]) for name in expected)
    return drift, max(found, key=found.__getitem__) == max(expected, key=expected.__getitem__)
