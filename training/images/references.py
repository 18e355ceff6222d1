"""From what a Label Studio export calls a picture to a file in a folder, and never to one outside it.

| reference | file, in the folder |
| --- | --- |
| `/data/upload/1/0a1b2c3d-name.jpg` | `0a1b2c3d-name.jpg`, else `name.jpg` |
| `/data/local-files/?d=photos/name.jpg` | `photos/name.jpg`, else `name.jpg` |
| `s3://bucket/photos/name.jpg`, `https://host/photos/name.jpg?…` | likewise; nothing is fetched |
| `photos/name.jpg`, `name.jpg` | likewise |

The longest end of the reference that is a file counts; else a file of its name at any depth, if there is only one.
Letters may be composed or not (NFC, NFD: macOS has the latter), and percent-encoded.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class Unresolved(ValueError):
    """Raised when a reference leads to no file, to several, or out of the folder."""


class Library:
    """The files in a folder, by the ends of their paths."""

    def __init__(self, images: Path) -> None:
        self._root = images.resolve()
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_path: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self._root.rglob("*")):
            if path.is_file():
                self._by_name[_composed(path.name)].append(path)
                self._by_path[_composed(path.relative_to(self._root).as_posix())].append(path)

    def find(self, reference: str) -> Path:
        """Return the file, resolved.

        Raises:
            Unresolved: there is none, there are several, or it is outside the folder.
        """
        named = _path_of(reference).replace("\\", "/")
        for text in dict.fromkeys((named, unquote(named))):
            parts = [part for part in text.split("/") if part not in ("", ".")]
            if ".." in parts or "\0" in text:
                raise Unresolved("unsafe path")
            if not parts:
                raise Unresolved("names no file")
            for names in (parts, [*parts[:-1], _UPLOAD_PREFIX.sub("", parts[-1], count=1)]):
                if (path := self._at_an_end(names)) is not None:
                    return path
        raise Unresolved("no such file")

    def _at_an_end(self, names: list[str]) -> Path | None:
        for start in range(len(names) - 1):  # from the whole path to the last folder; names alone come below
            path = self._root.joinpath(*names[start:])
            if _is_file(path):
                return self._inside(path)
            found = self._by_path.get(_composed("/".join(names[start:])), [])
            if len(found) == 1:
                return self._inside(found[0])
        found = self._by_name.get(_composed(names[-1]), [])
        if len(found) > 1:
            shown = ", ".join(str(path.relative_to(self._root)) for path in found)
            raise Unresolved(f"several files of this name: {shown}")
        return self._inside(found[0]) if found else None

    def _inside(self, path: Path) -> Path:
        resolved = path.resolve()
        if not resolved.is_relative_to(self._root):
            raise Unresolved("unsafe path")
        return resolved


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long to be one
        return False


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _path_of(reference: str) -> str:
    reference = reference.strip()
    if reference.startswith("data:"):
        raise Unresolved("the export holds the picture itself, not a reference")
    try:
        split = urlsplit(reference)
    except ValueError as error:
        raise Unresolved(f"no reference: {error}") from error
    if "/data/local-files" in split.path:
        return "".join(parse_qs(split.query).get("d", [])[:1])  # decoded already
    if _SCHEME.match(reference) or split.path.startswith("/data/"):
        return unquote(split.path)
    return reference
