"""Image classification side by side: the old way, LitServe, BentoML and ours, on the same weights and JPEGs.

    python -m loadtests.images [--network both] [--servers a b c d] [--concurrency 1 8 32] [--seconds 15] [--rounds 3]
        [--weights-dir DIR] [--images DIR] [--calibrated] [--json FILE]

A round starts each server alone, every other round in the opposite order, warms it up, measures it at each load and
stops it. The table's figures are medians over rounds. What is not at hand is made: random weights, made-up photographs,
and an environment with LitServe and BentoML, from the package registry. A server may be tried with other settings:
`--servers b:workers=1,wait_ms=10 b:workers=2`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtests.images.figures import Cell, table, verdicts
from loadtests.images.inputs import TASK_OF, jpegs, machine, settings_for
from loadtests.images.load import Plan
from loadtests.images.measurement import expected_probabilities, measure
from loadtests.images.peers.settings import Settings
from loadtests.images.peers_venv import NotInstalled
from loadtests.images.servers import NAMES, ServerSpec, start, wait_until_it_answers


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.images", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=[*TASK_OF, "both"], default="both")
    parser.add_argument("--servers", type=ServerSpec.parse, nargs="+", default=[ServerSpec(each) for each in NAMES])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=15.0, help="of each cell")
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds before each cell")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights-dir", type=Path, help="with reusable_classifier.pth, beverage_detector.pth, or one")
    parser.add_argument("--images", type=Path, help="folder of JPEGs")
    parser.add_argument("--calibrated", action="store_true", help="ours in 8 bits, too, calibrated on the pictures")
    parser.add_argument("--json", type=Path, help="file for the figures of each cell")
    arguments = parser.parse_args()
    networks = list(TASK_OF) if arguments.network == "both" else [arguments.network]
    print(f"{time.strftime('%F %H:%M')}, {machine()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        images = jpegs(arguments.images, folder)
        if arguments.calibrated:
            arguments.servers.append(ServerSpec("d", (("calibration", str(images[0].parent)),)))
        cells: list[Cell] = []
        for network in networks:
            settings = settings_for(network, arguments.weights_dir, images, folder)
            expected = expected_probabilities(settings, images)
            for number in range(arguments.rounds):
                order = arguments.servers if number % 2 == 0 else arguments.servers[::-1]
                for spec in order:
                    cells += _cells(spec, network, settings, images, expected, arguments, folder / f"{len(cells)}")
                    if arguments.json:
                        arguments.json.write_text(json.dumps([dataclasses.asdict(cell) for cell in cells], indent=1))
    print("\n".join(["", *table(cells), "", *verdicts(cells)]))


def _cells(
    spec: ServerSpec,
    network: str,
    settings: Settings,
    images: Sequence[Path],
    expected: Sequence[Mapping[str, float]],
    arguments: argparse.Namespace,
    folder: Path,
) -> list[Cell]:
    try:
        server = start(spec, settings, folder)
    except NotInstalled as error:
        print(f"  {spec.name}: not installed here: {error}", flush=True)
        return []
    cells = []
    try:
        ready_s = wait_until_it_answers(server, settings.path, images[0])
        print(f"  {network}, {spec.name}: answers after {ready_s:.1f} s", flush=True)
        for concurrency in sorted(arguments.concurrency):
            plan = Plan(
                server.port,
                settings.path,
                tuple(str(image) for image in images),
                concurrency,
                warm_up_s=arguments.warm_up,
                seconds=arguments.seconds,
            )
            cell = measure(server, spec, network, plan, expected)
            cells.append(cell)
            print(
                f"    {concurrency:3}: {cell.per_s:7.1f} req/s, p50 {cell.p50_ms:.1f}, p99 {cell.p99_ms:.1f} ms, CPU "
                f"{cell.cpu_ms:.1f} ms, PSS {cell.pss_mb:.0f} MB, drift {cell.drift:.1e}, failed {cell.num_failed} "
                f"{cell.first_failure}, others {cell.others_cores:.2f}, generator {cell.generator_ms:.2f} ms",
                flush=True,
            )
    except RuntimeError as error:
        print(f"  {spec.name}: {error}", flush=True)
    finally:
        server.stop()
    return cells


if __name__ == "__main__":
    main()
