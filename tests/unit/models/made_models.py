"""Small models of a catalog, and wheels that hold them, made on the spot."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from serve_app.models.catalog import CatalogFile, CatalogModel, HubRepository, ModelKind, Wheel

FILES = {"config.json": b'{"n": 1}', "model.bin": b"weights" * 1000}


def catalog_file(name: str, content: bytes) -> CatalogFile:
    return CatalogFile(name, len(content), hashlib.sha256(content).hexdigest())


def make_model(
    files: Mapping[str, bytes] = FILES,
    name: str = "made",
    hub: HubRepository | None = None,
    wheels: tuple[Wheel, ...] = (),
) -> CatalogModel:
    """Return an entry of the catalog for these files."""
    described = tuple(catalog_file(file, content) for file, content in files.items())
    return CatalogModel(name, ModelKind.WHISPER, (), "MIT", described, hub, wheels, "")


def make_wheel(
    folder: Path, members: Mapping[str, tuple[str, bytes]], name: str = "made", tags: str = "py3-none-any"
) -> Wheel:
    """Write a wheel that pip takes.

    Args:
        folder: where it is put, for `--find-links`.
        members: file of the model → (path inside the wheel, content).
        name: of the package.
        tags: python-abi-platform.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-{tags}.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for where, content in members.values():
            archive.writestr(where, content)
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('this package was imported')")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n")
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(
        requirement=f"{name}==1.0",
        filename=path.name,
        size_bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        members={file: where for file, (where, _) in members.items()},
    )
