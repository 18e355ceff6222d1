"""Cold start, memory and idle CPU of `make run`: `python -m loadtests.cold_start [--rounds 3] [--config …]`."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from loadtests.process_memory import ProcessGroup, process_groups
from serve_app.commands.demo.local_graph import LocalGraph

ROOT = Path(__file__).resolve().parents[1]
IDLE_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "local.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    starts, idles, groups = [], [], []
    for number in range(arguments.rounds):
        ready_s, idle_cores, groups = _measure(arguments.config)
        starts.append(ready_s)
        idles.append(idle_cores)
        print(f"round {number + 1}: ready after {ready_s:.1f} s, {idle_cores:.2f} cores while idle")
    print("\n| what | RSS MB | PSS MB | peak RSS MB |\n| --- | --- | --- | --- |")
    for group in groups:
        print(f"| {group.name} | {group.rss_mb:.0f} | {group.pss_mb:.0f} | {group.peak_mb:.0f} |")
    print(
        f"| all | {sum(g.rss_mb for g in groups):.0f} | {sum(g.pss_mb for g in groups):.0f} | |\n\n"
        f"cold start to /health/ready: median {statistics.median(starts):.1f} s of {arguments.rounds}; "
        f"idle CPU: median {statistics.median(idles):.2f} cores; config {arguments.config.name}, {time.strftime('%F')}"
    )


def _measure(config: Path) -> tuple[float, float, list[ProcessGroup]]:
    with (
        tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as folder,
        LocalGraph(config, Path(folder)) as graph,
    ):
        ready_s = graph.wait_until_ready(300.0)
        time.sleep(5.0)  # what starting left to do
        before = sum(group.cpu_s for group in process_groups(graph.pid))
        time.sleep(IDLE_S)
        groups = process_groups(graph.pid)
        return ready_s, (sum(group.cpu_s for group in groups) - before) / IDLE_S, groups


if __name__ == "__main__":
    main()
