"""`serve-app models list`: what a running service serves, and what of the catalog is on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_app.commands.models.printing import console_of, folder_of, plain
from serve_app.errors import ServeAppError

if TYPE_CHECKING:
    from serve_app.models.catalog import CatalogModel
    from serve_app.models.catalog_state import CatalogState

_HASH_DIGITS = 12


def show_list(arguments: argparse.Namespace) -> int:
    """Print both; a service that does not answer is told, and is no failure."""
    from serve_app.client import Client
    from serve_app.models.catalog import catalog
    from serve_app.models.catalog_state import files_here
    from serve_app.settings import Settings

    deployed: list[dict[str, Any]] | None = None
    silence = ""
    try:
        with Client(arguments.url) as client:
            deployed = client.models()
    except ServeAppError as error:
        silence = error.detail or error.code
    cache_dir = Settings.from_environment().models_dir
    here = [(model, files_here(model, cache_dir)) for model in catalog()]
    if arguments.json:
        answer = {"models": deployed, "catalog": [_entry(model, files) for model, files in here]}
        sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=2) + "\n")
        return 0
    console = console_of()
    if deployed is None:
        told = f"No service tells what it serves ({silence})."
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    else:
        print_deployed(deployed)
    _print_catalog(here, cache_dir)
    return 0


def print_deployed(models: Sequence[dict[str, Any]]) -> None:
    """Print what each replica of a service serves."""
    from rich.table import Table

    table = Table("model", "deployment", "state", "replica", "node", "weights", "engine", "device", "warm", "since")
    for model in models:
        for replica in model["replicas"] or [{}]:
            row = [model["name"], model["deployment"], model["state"]]
            if replica:
                row += [
                    f"{replica['replica']} (pid {replica['pid']})",
                    replica["node"],
                    replica["model_version"] or "none",
                    replica["engine"] or "",
                    replica["device"],
                    "yes" if replica["warm"] else "no",
                    replica["loaded_at"] or "",
                ]
            else:
                row += ["none runs"]
            table.add_row(*map(plain, row))
    console = console_of()
    console.print(table)
    for model in models:
        for replica in model["replicas"]:
            if replica["failure"]:
                told = f"{model['deployment']} {replica['replica']}: {replica['failure']}"
                console.print(told, markup=False, highlight=False, soft_wrap=True)


def _print_catalog(here: Sequence[tuple[CatalogModel, Sequence[CatalogState]]], cache_dir: Path) -> None:
    from rich.table import Table

    table = Table("catalog", "kind", "file", "bytes", "SHA-256", "from", "licence")
    for model, files in here:
        if not files:
            table.add_row(model.name, str(model.kind), "not fetched", "", "", "", model.licence)
        for index, state in enumerate(files):
            sha256 = (state.file.sha256 or "")[:_HASH_DIGITS]
            table.add_row(
                *(("", "") if index else (model.name, str(model.kind))),
                plain(state.file.name),
                str(state.file.size_bytes),
                f"{sha256} DAMAGED" if state.is_damaged else sha256,
                plain(state.source),
                "" if index else model.licence,
            )
    console = console_of()
    console.print(table)
    told = f"Fetched models are in {folder_of(cache_dir / 'catalog')}; `serve-app models fetch NAME` fetches one."
    console.print(told, markup=False, highlight=False, soft_wrap=True)


def _entry(model: CatalogModel, files: Sequence[CatalogState]) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": str(model.kind),
        "aliases": list(model.aliases),
        "licence": model.licence,
        "note": model.note,
        "files": [asdict(state.file) | {"source": state.source, "damaged": state.is_damaged} for state in files],
    }
