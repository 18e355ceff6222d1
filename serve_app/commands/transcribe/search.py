"""`find_files`: the files of a batch; `why_passed_over`: whether a file is a recording, by its content."""

from __future__ import annotations

import fnmatch
import glob
import mimetypes
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.errors import InvalidRequest, Unavailable
from serve_app.sentences import Sentence


@dataclass(slots=True)
class Found:
    """What was found.

    Attributes:
        folder: that all files lie below, absolute.
        names: of the files, sorted: their paths below the folder.
        asked: of those, the ones that the caller named, one by one or by a pattern with a suffix: `*.raw`.
        is_one: whether the caller named a single file.
        passed_over: what can't be a recording, and why, by name.
        num_hidden: hidden files and folders, which are left out (macOS leaves `._talk.wav` beside `talk.wav`).
        num_unsearched: folders in a folder that was not searched recursively.
    """

    folder: Path
    names: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    is_one: bool = False
    passed_over: dict[str, str] = field(default_factory=dict)
    num_hidden: int = 0
    num_unsearched: int = 0


def find_files(
    sources: Sequence[str], *, recursive: bool, pattern: str | None, leave_out: frozenset[Path] = frozenset()
) -> Found:
    """Return the files of folders, of patterns and of single names; a file that is named twice counts once.

    Links to files are followed, links to folders are not.

    Args:
        sources: each a folder, a file, or a pattern such as `calls/**/*.wav`.
        recursive: search the folders' folders too.
        pattern: of the folders' files, e.g. `*.wav` or `calls/*.ogg`, matched from the right; with `**`, which stands
            for any number of folders, from the folder on and recursively.
        leave_out: paths of the run's own files.

    Raises:
        InvalidRequest: a source is not there.
        OSError: a source can't be read.
    """
    searches = [_search(source, recursive, pattern) for source in sources]
    folder = Path(os.path.commonpath([base for base, _, _, _ in searches]))
    found = Found(folder)
    names: set[str] = set()
    for base, one, matching, deep in searches:
        if one is not None:
            name = one.relative_to(folder).as_posix()
            names.add(name)
            found.asked.add(name)
        else:
            names.update(_walk(found, base, matching, deep, leave_out))
    found.names = sorted(names)
    found.is_one = len(searches) == 1 and searches[0][1] is not None
    for name in found.names:
        found.passed_over.pop(name, None)
    return found


def why_passed_over(path: Path) -> str | None:
    """Return why the service would find no sound in a file; None: it may, or only the service can tell.

    A file that can't be opened although its name says that it is audio or video is no other kind of file: it is sent,
    and the service says what is wrong with it.
    """
    from serve_app.media.caged_audio import why_no_sound  # here: it starts processes

    try:
        why = why_no_sound(str(path))
    except (OSError, Unavailable):
        return None
    if why is None or (why.is_broken and _names_media(path)):
        return None
    return why.reason


def _names_media(path: Path) -> bool:
    kind, _ = mimetypes.guess_type(path.name.lower())
    return (kind or "").startswith(("audio/", "video/"))


def _search(source: str, recursive: bool, pattern: str | None) -> tuple[Path, Path | None, str | None, bool]:
    """Return the folder to search, or the one file; the pattern of its files; whether its folders count."""
    path, num_there = _as_stored(Path(source).expanduser())
    if path.is_dir():
        return path.resolve(), None, pattern, recursive or (pattern is not None and "**" in pattern)
    if path.exists() or path.is_symlink():
        one = path.parent.resolve() / path.name
        return one.parent, one, None, False
    parts = path.parts
    magic = (number for number, part in enumerate(parts) if number >= num_there and glob.has_magic(part))
    first = next(magic, None)
    if first is None or not (base := Path(*parts[:first])).is_dir():
        raise InvalidRequest(Sentence("{name} is not a folder, a file or a pattern of files", name=source))
    return base.resolve(), None, "/" + "/".join(parts[first:]), True


def _as_stored(path: Path) -> tuple[Path, int]:
    """Return a path with its names as the folders spell them, composed or decomposed; how many of them are there."""
    stored, num_there = Path(), 0
    for part in path.parts:
        candidate = stored / part
        if not os.path.lexists(candidate) and stored.is_dir():
            wanted = unicodedata.normalize("NFC", part)
            names = (each.name for each in stored.iterdir() if unicodedata.normalize("NFC", each.name) == wanted)
            candidate = stored / min(names, default=part)
        if not os.path.lexists(candidate):
            break
        stored, num_there = candidate, num_there + 1
    return Path(stored, *path.parts[num_there:]), num_there


def _walk(found: Found, base: Path, pattern: str | None, deep: bool, leave_out: frozenset[Path]) -> list[str]:
    names: list[str] = []

    def fail(error: OSError) -> None:
        if error.filename is None or Path(error.filename) == base:
            raise error
        found.passed_over[_below(found.folder, Path(error.filename))] = Sentence(
            "the folder can't be read: {reason}", reason=error.strerror
        )

    for parent, folders, files in os.walk(base, onerror=fail):
        visible = [name for name in folders if not name.startswith(".")]
        found.num_hidden += len(folders) - len(visible)
        if deep:
            for name in visible:
                if (link := Path(parent, name)).is_symlink() and pattern is None:
                    found.passed_over[_below(found.folder, link)] = Sentence(
                        "a link to a folder, which is not followed"
                    )
        else:
            found.num_unsearched += len(visible)
        folders[:] = visible if deep else []
        for path in (Path(parent, name) for name in files):
            if path in leave_out or not _matches(path.relative_to(base), pattern):
                continue
            if path.name.startswith("."):
                found.num_hidden += 1
            elif path.is_file():
                names.append(_below(found.folder, path))
                if pattern is not None and (suffix := Path(pattern).suffix) and not glob.has_magic(suffix):
                    found.asked.add(names[-1])
            else:
                leads_nowhere = path.is_symlink() and not path.exists()
                found.passed_over[_below(found.folder, path)] = (
                    Sentence("a link that leads nowhere") if leads_nowhere else Sentence("not a file with content")
                )
    return names


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _matches(path: Path, pattern: str | None) -> bool:
    """Return whether a path below a folder matches; letters with accents match however they are composed."""
    if pattern is None:
        return True
    composed, wanted = (Path(unicodedata.normalize("NFC", each)) for each in (str(path), pattern))
    if pattern.startswith("/"):
        return _matches_whole(composed.parts, wanted.parts[1:])
    if "**" in pattern:
        return _matches_whole(composed.parts, wanted.parts)
    return composed.match(str(wanted))


def _matches_whole(names: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        rest = patterns[1:] or ("*",)
        return any(_matches_whole(names[skipped:], rest) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _matches_whole(names[1:], patterns[1:])
