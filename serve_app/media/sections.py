"""`sections_of`: the media files that one file holds, one behind the other.

FFmpeg takes a header at its word, and reads one file of most formats only. Taggers write an ID3 tag in front of any
format, recorders leave headers unfinished, and people join files by `cat`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from serve_app.media.section import HEADER, SCANNED, Section, read_at
from serve_app.media.wav import is_wav, wav_section

_JUNK_BYTES = 4096  # in front of a header: of another protocol, or a block of zeros
# The start of what FFmpeg finds behind junk by itself: MPEG audio, ADTS, AC-3, MPEG-TS, MPEG-PS, ASF.
_SYNCHRONISED = re.compile(rb"\xff[\xe0-\xff]|\x0b\x77|\x47|\x00\x00\x01\xba|\x30\x26\xb2\x75")
_MAX_TAGS = 16
_MAX_BOXES = 100_000
_BOX_TYPES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
_OGG_FIRST = re.compile(rb"OggS\x00[\x02\x06]")
_SCAN_BYTES, _PATTERN_BYTES = 1 << 20, 32


def sections_of(file: BinaryIO) -> list[Section]:
    """Return the sections of a file, at least one; bytes in front of the first header are left out.

    A file of a format that is not known here is one section.
    """
    end = file.seek(0, 2)
    start = _first_start(file, end)
    sections = []
    while True:
        section, next_start = _section(file, start, end)
        sections.append(section)
        if next_start is None:
            return sections
        start = next_start


def _section(file: BinaryIO, start: int, end: int) -> tuple[Section, int | None]:
    """Return the section that starts there, and where the next one does; None: it is the last."""
    head = read_at(file, start, 64)
    if is_wav(head):
        section, section_end = wav_section(file, start, end)
        return section, _following(file, section_end, end)
    find_end = _end_finder(head)
    section_end = find_end(file, start, end) if find_end else end
    next_start = _following(file, section_end, end)
    is_cut_off = _riff_end(head, start) > end
    return Section(start, end if next_start is None else section_end, is_cut_off=is_cut_off), next_start


def _end_finder(head: bytes) -> Callable[[BinaryIO, int, int], int] | None:
    if head[4:8] in _BOX_TYPES:
        return _mp4_end
    if head[:4] == b"FORM":
        return lambda file, start, end: start + 8 + _even(int.from_bytes(head[4:8], "big"))
    if head[:4] == b"RIFF":
        return lambda file, start, end: _riff_end(head, start) or end
    if head[:4] == b".snd":
        return lambda file, start, end: start + sum(struct.unpack(">II", head[4:12]))
    if head[:4] == b"OggS":
        return _ogg_end
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska_end
    if head[:4] == b"caff":
        return _caf_end
    if head[:4] == b"riff" and len(head) >= 24:
        return lambda file, start, end: start + int.from_bytes(head[16:24], "little")
    for pattern in SCANNED:
        if re.match(pattern, head, re.DOTALL):
            return partial(_scan, re.compile(pattern + rb"|RIFF....WAVE", re.DOTALL))
    return None


def _first_start(file: BinaryIO, end: int) -> int:
    start = _after_tags(file, 0)
    head = read_at(file, start, _JUNK_BYTES)
    if start < end and not HEADER.match(head):
        found = None if _SYNCHRONISED.match(head) else HEADER.search(head)
        # FFmpeg reads the tags of what has no header of these
        return start + found.start() if found else 0
    return start if start < end else 0


def _following(file: BinaryIO, position: int, end: int) -> int | None:
    """Return where another file starts, at `position` or behind tags and zeros there; None where there is none."""
    if position >= end:
        return None
    behind_tags = _after_tags(file, position)
    head = read_at(file, behind_tags, _JUNK_BYTES)
    if behind_tags > position and _SYNCHRONISED.match(head):
        return position
    position = behind_tags
    found = HEADER.search(head)
    if found and not head[: found.start()].strip(b"\0"):
        return position + found.start()
    return None


def _after_tags(file: BinaryIO, position: int) -> int:
    """Return where the ID3v2 tags that start at a position end (id3.org, ID3v2.4.0, section 3.1)."""
    for _ in range(_MAX_TAGS):
        head = read_at(file, position, 10)
        if head[:3] != b"ID3" or len(head) < 10 or max(head[6:]) > 0x7F:
            break
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        position += 10 + size + (10 if head[5] & 0x10 else 0)
    return position


def _riff_end(head: bytes, start: int) -> int:
    """Return where an AVI file's header says that it ends; 0 where it does not know, or it is another format."""
    if head[:4] != b"RIFF" or len(head) < 8:
        return 0
    declared = int.from_bytes(head[4:8], "little")
    return start + declared + 8 if declared < 0x7FFF0000 else 0


def _mp4_end(file: BinaryIO, start: int, end: int) -> int:
    """Return where an MP4's boxes are followed by another file's (ISO/IEC 14496-12, section 4.2), or `end`."""
    position, has_index = start, False
    for _ in range(_MAX_BOXES):
        head = read_at(file, position, 16)
        if len(head) < 8:
            return end
        size, kind = struct.unpack(">I4s", head[:8])
        if has_index and (kind == b"ftyp" or HEADER.match(read_at(file, position, _PATTERN_BYTES * 2))):
            return position
        has_index |= kind in (b"moov", b"mdat")
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
        if size < 8:
            return end
        position += size
    return end


def _ogg_end(file: BinaryIO, start: int, end: int) -> int:
    """Return where the first pages of other streams stand behind those of the first (RFC 3533, section 4)."""
    position = start
    while (page := read_at(file, position, 27 + 255))[:4] == b"OggS" and len(page) > 27 and page[5] & 2:
        position += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return _scan(_OGG_FIRST, file, position, end)


def _matroska_end(file: BinaryIO, start: int, end: int) -> int:
    """Return where the top elements of a Matroska file end (RFC 8794, sections 4 and 5), or `end`."""
    position = start
    for _ in range(_MAX_BOXES):
        head = read_at(file, position, 12)
        if len(head) < 12 or not head[0] or (position > start and head[:4] == b"\x1a\x45\xdf\xa3"):
            break
        id_bytes = 9 - head[0].bit_length()
        if id_bytes > 4 or not (first := head[id_bytes]):
            break
        size_bytes = 9 - first.bit_length()
        size = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & (1 << 7 * size_bytes) - 1
        if size == (1 << 7 * size_bytes) - 1:  # not known
            return end
        position += id_bytes + size_bytes + size
    return min(position, end)


def _caf_end(file: BinaryIO, start: int, end: int) -> int:
    """Return where the chunks of a CAF file end (Apple Core Audio Format 1.0), at most `end`."""
    position = start + 8
    for _ in range(_MAX_BOXES):
        head = read_at(file, position, 12)
        if len(head) < 12 or HEADER.match(read_at(file, position, 16)):
            return min(position, end)
        size = int.from_bytes(head[4:], "big", signed=True)
        if size < 0:
            return end
        position += 12 + size
    return end


def _scan(pattern: re.Pattern[bytes], file: BinaryIO, start: int, end: int) -> int:
    """Return where a pattern is found behind `start`, or `end`."""
    for offset in range(start + 1, end, _SCAN_BYTES):
        found = pattern.search(read_at(file, offset, _SCAN_BYTES + _PATTERN_BYTES - 1))
        if found:
            return offset + found.start()
    return end


def _even(number: int) -> int:
    return number + number % 2
