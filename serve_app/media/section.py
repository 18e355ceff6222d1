"""`Section`: one media file inside a file, as FFmpeg should see it; and how media files begin."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import BinaryIO

# The first block of a WavPack file has the number 0 and is the first one of its channels.
_IS_INITIAL = b"".join(re.escape(bytes([value])) for value in range(256) if value & 8)
# Formats whose header does not say where the file ends, and of which FFmpeg reads the first file only, or a second one
# of the same rate and kind only.
SCANNED = (
    rb"fLaC[\x00\x80]\x00\x00\x22",
    rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09\x00{4}",
    rb"TTA1\x01\x00",
    rb"wvpk.{4}[\x02-\x10]\x04.{6}\x00{4}.{5}[" + _IS_INITIAL + b"]",
)
HEADER = re.compile(
    rb"(?:RIFF|RIFX|RF64|BW64)....WAVE|RIFF....AVI |FORM....AIF[FC]|caff\x00[\x01\x02]"
    rb"|OggS\x00[\x02\x06]|\x00\x00[\x00-\x0f].ftyp|\x1a\x45\xdf\xa3.{1,60}?(?:webm|matroska)|riff\x2e\x91\xcf\x11"
    rb"|\.snd\x00\x00.{6}\x00\x00\x00|" + b"|".join(SCANNED),
    re.DOTALL,
)


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
