"""What the measured cells say: percentiles, medians over rounds, ratios, the table and the goals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

GOALS = {"resnet50": (1.6, 1.3), "mobilenet_v3_small": (1.5, 1.2)}  # × (a), × the better of (b) and (c)
CALIBRATED_GOALS = {"resnet50": (4.0, 0.0)}  # in 8 bits
MAX_P50_MS = 100.0  # ResNet50, one connection
# Beside other work PyTorch with as many threads as cores is up to a hundred times slower: (a) then says nothing.
_QUIET_CORES = 0.2


@dataclass(frozen=True, slots=True)
class Cell:
    """One server under one load in one round.

    Attributes:
        network: architecture.
        server: letter and settings.
        name: of the server.
        concurrency: connections.
        num: answers.
        num_failed: that were not 200, or had no probabilities.
        per_s: answers a second.
        p50_ms: median latency.
        p99_ms: 99th percentile, nearest rank.
        cpu_ms: of the server's processes, an answer.
        generator_ms: CPU of the load generator, an answer.
        others_cores: cores that the rest of the machine kept busy.
        rss_mb: of the server's processes.
        pss_mb: of the server's processes.
        drift: largest difference of a probability from plain PyTorch.
        agreement: share of answers with PyTorch's class.
        first_failure: what a failed answer said.
    """

    network: str
    server: str
    name: str
    concurrency: int
    num: int
    num_failed: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    generator_ms: float
    others_cores: float
    rss_mb: float
    pss_mb: float
    drift: float
    agreement: float
    first_failure: str = ""


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value at the nearest rank; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(1, math.ceil(percent / 100 * len(values))) - 1]


def table(cells: Sequence[Cell]) -> list[str]:
    """Return lines of Markdown: a row for each network, load and server, its figures the medians over rounds."""
    columns = "network | connections | server | req/s | p50 ms | p99 ms | CPU ms/req | × (a) | PSS MB | RSS MB "
    columns += "| drift | same class | failed | others, cores | generator ms/req"
    lines = [f"| {columns} |", "|" + " --- |" * 15]
    for key, own in _grouped(cells).items():
        network, concurrency, _ = key
        floor = [each.per_s for each in cells if (each.network, each.concurrency, each.server) == (*key[:2], "a")]
        ratio = f"{_median(own, 'per_s') / statistics.median(floor):.2f}" if floor else ""
        lines.append(
            f"| {network} | {concurrency} | {own[0].name} | {_median(own, 'per_s'):.1f} | {_median(own, 'p50_ms'):.1f} "
            f"| {_median(own, 'p99_ms'):.1f} | {_median(own, 'cpu_ms'):.1f} | {ratio} "
            f"| {_median(own, 'pss_mb'):.0f} | {_median(own, 'rss_mb'):.0f} | {max(each.drift for each in own):.1e} "
            f"| {min(each.agreement for each in own):.1%} | {sum(each.num_failed for each in own)} "
            f"| {_median(own, 'others_cores'):.2f} | {_median(own, 'generator_ms'):.2f} |"
        )
    return lines


def verdicts(cells: Sequence[Cell]) -> list[str]:
    """Return a line for each goal and load: what was reached, and whether that is enough."""
    grouped = _grouped(cells)
    lines = []
    for network, concurrency in dict.fromkeys((network, concurrency) for network, concurrency, _ in grouped):
        here = {
            server: _median(own, "per_s")
            for (net, num, server), own in grouped.items()
            if (net, num) == (network, concurrency)
        }
        against = (("(a)", _best(here, "a")), ("the better of (b), (c)", max(_best(here, "b"), _best(here, "c"))))
        for server, ours in here.items():
            is_calibrated = "calibration=" in server
            goals = CALIBRATED_GOALS.get(network, (0.0, 0.0)) if is_calibrated else GOALS[network]
            for (what, theirs), goal in zip(against, goals, strict=True):
                if server[0] == "d" and ours > 0 and theirs > 0 and goal:
                    ratio = ours / theirs
                    lines.append(
                        f"{network}{', 8 bits' if is_calibrated else ''}, {concurrency} connections: {ratio:.2f} × "
                        f"{what}, goal {goal:g}: {_said(ratio >= goal)}"
                    )
    p50 = {
        server: _median(own, "p50_ms") for (net, num, server), own in grouped.items() if (net, num) == ("resnet50", 1)
    }
    if "a" in p50 and "d" in p50:
        met = p50["d"] < p50["a"] and p50["d"] < MAX_P50_MS
        lines.append(f"resnet50, 1 connection: p50 {p50['d']:.1f} ms, (a) {p50['a']:.1f} ms: {_said(met)}")
    if lines and (others := max(_median(own, "others_cores") for own in grouped.values())) > _QUIET_CORES:
        lines.append(f"NOT VALID: the machine was not quiet, others kept up to {others:.2f} cores busy")
    return lines


def _best(per_s: Mapping[str, float], letter: str) -> float:
    return max((value for server, value in per_s.items() if server[0] == letter), default=0.0)


def _said(met: bool) -> str:
    return "met" if met else "NOT met"


def _median(cells: Iterable[Cell], name: str) -> float:
    return statistics.median(getattr(each, name) for each in cells)


def _grouped(cells: Iterable[Cell]) -> dict[tuple[str, int, str], list[Cell]]:
    grouped: dict[tuple[str, int, str], list[Cell]] = {}
    for each in sorted(cells, key=lambda cell: (cell.network, cell.concurrency, cell.server)):
        grouped.setdefault((each.network, each.concurrency, each.server), []).append(each)
    return grouped
