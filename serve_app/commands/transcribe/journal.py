"""The journal of a batch: one JSON line for each file that ended, on the disk before it counts.

The first line says what the batch is; a later line of a file replaces an earlier one. Texts stay in the file: memory
holds one short entry a file, however long their transcripts are. A line that a crash left unfinished is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serve_app.commands.transcribe.media_files import Fingerprint
from serve_app.commands.transcribe.outcome import Heard, Outcome
from serve_app.errors import InvalidRequest

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a file without reading its line.

    Attributes:
        fingerprint: of the content that was sent; None where the file could not be read.
        heard: whether it has words.
        offset: where its line begins.
    """

    fingerprint: Fingerprint | None
    heard: bool
    offset: int


class Journal:
    """An open journal. One process, one thread; close it, or use it as a context manager.

    Args:
        path: of the journal, which is made where it is missing.
        batch: what every run on this journal must agree in, e.g. folder and language.

    Raises:
        InvalidRequest: the journal is another batch's, another version's, or damaged.
        OSError: it can't be read or written.
    """

    def __init__(self, path: Path, batch: Mapping[str, str | None]) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._end = self._load(dict(batch))
            if not self._end:
                self._append([{"serve_app_batch": _VERSION, **batch}])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def entry(self, name: str) -> Entry | None:
        """Return what is known of a file."""
        return self._entries.get(name)

    def forget(self, name: str) -> None:
        """Leave a file out of the results until it is recorded again: its content has changed."""
        self._entries.pop(name, None)

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Append outcomes; they are on the disk once this returns."""
        ended = list(outcomes)
        offsets = self._append([outcome.to_record() for outcome in ended])
        for outcome, offset in zip(ended, offsets, strict=True):
            self._entries[outcome.name] = Entry(outcome.fingerprint, isinstance(outcome.end, Heard), offset)

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the last outcome of each file, by name; each is read as it is asked for."""
        with open(self._path, "rb") as file:
            for name in sorted(self._entries):
                file.seek(self._entries[name].offset)
                yield Outcome.from_record(_parse(file.readline()))

    def _load(self, batch: dict[str, str | None]) -> int:
        """Read the entries and return where the last whole line ends."""
        end = 0
        with open(self._path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # torn by a crash, and thus never counted
                try:
                    record = _parse(line)
                    if number == 1:
                        self._check(record, batch)
                    else:
                        outcome = Outcome.from_record(record)
                        self._entries[outcome.name] = Entry(outcome.fingerprint, isinstance(outcome.end, Heard), end)
                except (ValueError, KeyError, TypeError, AttributeError):
                    raise InvalidRequest(
                        f"{self._path}: line {number} is damaged; remove that line to do its file again,"
                        " or say --start-over"
                    ) from None
                end += len(line)
        return end

    def _check(self, header: dict[str, Any], batch: dict[str, str | None]) -> None:
        if header.pop("serve_app_batch") != _VERSION:
            raise InvalidRequest(f"{self._path} was written by another version; name another --out")
        for name, value in batch.items():
            if header.get(name) != value:
                raise InvalidRequest(
                    f"{self._path} was begun with {name} {header.get(name)!r}, not {value!r}: name another --out,"
                    f" or say --start-over (a folder that was only moved: mend the first line)"
                )

    def _append(self, records: list[dict[str, Any]]) -> list[int]:
        """Write lines after the last one that counts, and return where each begins."""
        lines = [
            json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape") + b"\n"
            for record in records
        ]
        # what an interrupted call left behind is not part of the journal
        os.ftruncate(self._handle, self._end)
        rest = memoryview(b"".join(lines))
        at = self._end
        while rest:
            written = os.pwrite(self._handle, rest, at)
            at, rest = at + written, rest[written:]
        os.fsync(self._handle)
        offsets = []
        for line in lines:
            offsets.append(self._end)
            self._end += len(line)
        return offsets


def _parse(line: bytes) -> dict[str, Any]:
    return json.loads(line.decode("utf-8", "surrogateescape"))
