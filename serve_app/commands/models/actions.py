"""`serve-app models list`, `check` and `reload`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from serve_app.client import Client
from serve_app.commands.terminal import echo, reason, short_path, stdout_console
from serve_app.errors import ServeAppError
from serve_app.models.catalog import CatalogModel, CatalogState, catalog, files_here
from serve_app.settings import Settings

_HASH_DIGITS = 12


def show(arguments: argparse.Namespace) -> int:
    """Print what a service serves, and the catalog; a service that does not answer is no failure."""
    deployed: list[dict[str, Any]] | None = None
    no_answer = ""
    try:
        with Client(arguments.url) as client:
            deployed = client.models()
    except ServeAppError as error:
        no_answer = reason(error)
    cache_dir = Settings.from_environment().models_dir
    here = [(model, files_here(model, cache_dir)) for model in catalog()]
    if arguments.json:
        answer = {"models": deployed, "catalog": [_entry(model, files) for model, files in here]}
        sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=2) + "\n")
        return 0
    if deployed is None:
        echo(stdout_console(), f"No service reports what it serves ({no_answer}).")
    else:
        _print_deployed(deployed)
        if arguments.verbose:
            _print_speeds(deployed)
    _print_catalog(here, cache_dir)
    return 0


def reload(arguments: argparse.Namespace) -> int:
    """Have every replica of a model read its weights anew; return 1 if one could not."""
    with Client(arguments.url) as client:
        answer = client.reload_model(arguments.name)
    _print_deployed(answer["models"])
    return 0 if answer["reloaded"] else 1


def check(arguments: argparse.Namespace) -> int:
    """Load weights as a replica would, and print which engine would run them; ModelLoadingError if they can't serve."""
    if arguments.task == "drums":
        return _check_drums(arguments)
    from serve_app.models.images.architectures import Activation
    from serve_app.models.images.loading import load_classifier
    from serve_app.models.images.options import ClassifierOptions
    from serve_app.models.images.tasks import TASKS

    settings = Settings.from_environment()
    options = ClassifierOptions(
        cache_dir=settings.models_dir,
        device=arguments.device,
        activation=Activation(arguments.activation) if arguments.activation else None,
        calibration=arguments.calibration,
        hf_token=settings.hf_token.get_secret_value() if settings.hf_token else None,
    )
    loaded = load_classifier(arguments.spec, TASKS[arguments.task], options, keep_last=False)
    echo(
        stdout_console(),
        f"{loaded.facts.model_version} can serve as {arguments.task}: {', '.join(loaded.facts.classes)}",
        f"engine: {loaded.engine.name} in {loaded.engine.precision} on {loaded.engine.device}; probabilities differ by "
        f"at most {loaded.difference:.1e} from PyTorch's in float32",
        *(
            f"measured: {each.engine} in {each.precision}, {each.layout}: {each.failure}"
            if each.failure
            else f"measured: {each.engine} in {each.precision}, {each.layout}: {each.lone_ms:.1f} ms, "
            f"{each.batch_ms:.1f} ms each"
            for each in loaded.timings
        ),
        f"between the head's layers: {loaded.facts.activation} (a state_dict does not store it; see --activation)",
        *loaded.facts.findings,
        *loaded.notes,
    )
    return 0


def _check_drums(arguments: argparse.Namespace) -> int:
    from serve_app.models.drums.checkpoint import load_drums

    settings = Settings.from_environment()
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    loaded = load_drums(arguments.spec, cache_dir=settings.models_dir, device=arguments.device, hf_token=token)
    thresholds = ", ".join(f"{label} {value:g}" for label, value in loaded.thresholds.items())
    echo(
        stdout_console(),
        f"{loaded.model_version} can serve as drums: {', '.join(loaded.hyper_parameters.labels)}",
        f"thresholds: {thresholds}",
        *loaded.facts.get("layers", ()),
        *loaded.notes,
    )
    return 0


def _print_deployed(models: Sequence[dict[str, Any]]) -> None:
    table = Table("model", "deployment", "state", "replica", "node", "weights", "engine", "device", "warm", "since")
    failures = []
    for model in models:
        row = [model["name"], model["deployment"], model["state"]]
        if not model["replicas"]:
            table.add_row(*map(escape, row), "none runs")
        for replica in model["replicas"]:
            cells = [
                f"{replica['replica']} (pid {replica['pid']})",
                replica["node"],
                replica["model_version"] or "none",
                replica["engine"] or "",
                replica["device"],
                "yes" if replica["warm"] else "no",
                replica["loaded_at"] or "",
            ]
            table.add_row(*map(escape, row + cells))
            if replica["failure"]:
                failures.append(f"{model['deployment']} {replica['replica']}: {replica['failure']}")
    console = stdout_console()
    console.print(table)
    echo(console, *failures)


def _print_speeds(models: Sequence[dict[str, Any]]) -> None:
    """Print how fast each engine ran on the machine of each replica; an arrow marks what serves."""
    table = Table("deployment", "replica", "", "engine", "cores", "ms, one", "ms each, several", "differs by")
    for model in models:
        for replica in model["replicas"]:
            serving = (replica["engine"], replica.get("cores", ""))
            for speed in replica.get("speeds", ()):  # a service of an older version has none
                figures = (
                    [f"{speed['lone_ms']:.1f}", f"{speed['batch_ms']:.1f}", f"{speed['max_difference']:.1e}"]
                    if not speed["failure"]
                    else ["", "", speed["failure"]]
                )
                table.add_row(
                    *map(escape, (model["deployment"], replica["replica"])),
                    "→" if speed["engine"] == serving[0] else "",
                    *map(escape, (speed["engine"], speed["cores"], *figures)),
                )
            if replica.get("speeds"):
                table.add_row("", "", "", "uses", escape(serving[1]), "", "", "", end_section=True)
    console = stdout_console()
    if table.row_count:
        console.print(table)
    else:
        echo(console, "No replica had a choice of engines to measure.")


def _print_catalog(here: Sequence[tuple[CatalogModel, Sequence[CatalogState]]], cache_dir: Path) -> None:
    table = Table("catalog", "kind", "file", "bytes", "SHA-256", "from", "licence")
    for model, files in here:
        if not files:
            table.add_row(model.name, str(model.kind), "not fetched", "", "", "", model.licence)
        for index, state in enumerate(files):
            sha256 = (state.file.sha256 or "")[:_HASH_DIGITS]
            table.add_row(
                *(("", "") if index else (model.name, str(model.kind))),
                escape(state.file.name),
                str(state.file.size_bytes),
                f"{sha256} DAMAGED" if state.is_damaged else sha256,
                escape(state.source),
                "" if index else model.licence,
            )
    console = stdout_console()
    console.print(table)
    folder = short_path(cache_dir / "catalog")
    echo(console, f"Fetched models are in {folder}; `serve-app models fetch NAME` fetches one.")


def _entry(model: CatalogModel, files: Sequence[CatalogState]) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": str(model.kind),
        "aliases": list(model.aliases),
        "licence": model.licence,
        "note": model.note,
        "files": [asdict(state.file) | {"source": state.source, "damaged": state.is_damaged} for state in files],
    }
