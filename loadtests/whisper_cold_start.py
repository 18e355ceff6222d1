"""What a first request to each Whisper backend waits for, and the memory of its replica.

    python -m loadtests.whisper_cold_start [--config configs/local.yaml] [--rounds 2]

In configs/local.yaml the backends have no replica until somebody asks. A short recording is uploaded for each of them
twice. In the first round of a state folder the checkpoint is converted, in the others it is there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from loadtests.process_memory import process_groups
from loadtests.whisper_graph import ROOT
from loadtests.whisper_parity import BACKENDS
from loadtests.whisper_speech import FlacWriter
from serve_app.client import Client
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.models.speech.backends import BackendName

_DEPLOYMENTS = {
    BackendName.FASTER_WHISPER: "FasterWhisper",
    BackendName.TRANSFORMERS: "TransformersWhisper",
    BackendName.OPENAI_WHISPER: "OpenAIWhisper",
}


def main() -> None:
    """Print a row for each backend and round."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.whisper_cold_start", description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "local.yaml")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sa-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with FlacWriter(folder / "noise.flac") as flac:
            flac.write(np.random.default_rng(0).standard_normal(32_000).astype(np.float32) * 0.01)
        environment = {"SERVE_APP_STATE_DIR": str(folder / "state")}
        print("| round | backend | first answer, s | of it the start | second, s | RSS MB | PSS MB |\n|" + " --- |" * 7)
        for number in range(1, arguments.rounds + 1):
            with (
                LocalGraph(arguments.config, folder / f"g{number}", environment) as graph,
                Client(graph.base_url) as client,
            ):
                graph.wait_until_ready(300.0)
                for backend in BACKENDS:
                    (first_s, start_s), (second_s, _) = (_ask(client, folder / "noise.flac", backend) for _ in "12")
                    [group] = [each for each in process_groups(graph.pid) if each.name == _DEPLOYMENTS[backend]]
                    print(
                        f"| {number} | {backend} | {first_s:.1f} | {start_s:.1f} | {second_s:.2f} "
                        f"| {group.rss_mb:.0f} | {group.pss_mb:.0f} |",
                        flush=True,
                    )


def _ask(client: Client, path: Path, backend: BackendName) -> tuple[float, float]:
    """Return seconds until the answer came, and what the answer says of the start."""
    began = time.perf_counter()
    answer = client.transcribe(path, language="en", backend=backend, timeout_s=300.0)
    return time.perf_counter() - began, answer["stage_seconds"].get("backend_start", 0.0)


if __name__ == "__main__":
    main()
