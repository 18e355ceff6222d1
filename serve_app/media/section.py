"""`Section`: one media file inside a file, as FFmpeg should see it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a file that is a media file of its own: `head`, then the file's bytes from `start` to `end`.

    Attributes:
        start: offset in the file.
        end: offset in the file.
        head: a header written anew; empty where the file's own is right.
        is_cut_off: whether its header declares more bytes than there are.
        notes: what was repaired, one sentence each.
    """

    start: int
    end: int
    head: bytes = b""
    is_cut_off: bool = False
    notes: tuple[str, ...] = ()


class SectionFile:
    """Reads a section as a file, for PyAV; moves the position of the file that holds it."""

    def __init__(self, file: BinaryIO, section: Section) -> None:
        self._file, self._section = file, section
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        num_bytes = len(self._section.head) + self._section.end - self._section.start
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: num_bytes}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, num_bytes: int) -> bytes:
        """Return the next bytes, of the head or of the file."""
        head = self._section.head
        if self._position < len(head):
            data = head[self._position : self._position + num_bytes]
        else:
            offset = self._section.start + self._position - len(head)
            data = read_at(self._file, offset, max(0, min(num_bytes, self._section.end - offset)))
        self._position += len(data)
        return data


def read_at(file: BinaryIO, offset: int, num_bytes: int) -> bytes:
    """Return the bytes from an offset on, fewer at the file's end."""
    file.seek(offset)
    return file.read(num_bytes)
