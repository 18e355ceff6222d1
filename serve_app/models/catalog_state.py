"""Which models of the catalog are on this machine, and what came from where. Loads no client of any source."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serve_app.models.built_folder import is_whole
from serve_app.models.catalog import CatalogFile, CatalogModel
from serve_app.models.file_hashes import sha256_of

SOURCE_NOTE = ".source.json"


@dataclass(frozen=True, slots=True)
class CatalogState:
    """What is on this machine of a file of the catalog.

    Attributes:
        file: name, size and SHA-256 as they are here.
        source: where it came from.
        is_damaged: it has another SHA-256 than the catalog's.
    """

    file: CatalogFile
    source: str
    is_damaged: bool


def model_folder(model: CatalogModel, cache_dir: Path) -> Path:
    """Return where a complete model lies."""
    return catalog_root(cache_dir) / folder_name(model)


def files_here(model: CatalogModel, cache_dir: Path) -> tuple[CatalogState, ...]:
    """Return the files of a model as they are on this machine; none where it was not fetched."""
    folder = model_folder(model, cache_dir)
    if not is_whole(folder):
        return ()
    sources = {}
    with suppress(OSError, ValueError, KeyError, TypeError):
        sources = dict(json.loads((folder / SOURCE_NOTE).read_text("utf-8"))["files"])
    states = []
    for file in model.files:
        path = folder / file.name
        here = CatalogFile(file.name, path.stat().st_size, sha256_of(path, cache_dir))
        is_damaged = file.sha256 is not None and here.sha256 != file.sha256
        states.append(CatalogState(here, str(sources.get(file.name, "unknown")), is_damaged))
    return tuple(states)


def catalog_root(cache_dir: Path) -> Path:
    """Return the folder of all that belongs to the catalog."""
    return cache_dir / "catalog"


def folder_name(model: CatalogModel) -> str:
    """Return what a model's folder is called: another name for other files."""
    return f"{model.name}-{model.key}"
