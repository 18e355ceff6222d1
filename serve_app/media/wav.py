"""`wav_section`: where the sound of a WAV file ends, whatever its header says, and a header that says so.

RIFF (Microsoft and IBM, 1991), RIFX (the same, with its numbers in big-endian), RF64 and BW64 (EBU Tech 3306, ITU-R
BS.2088: sizes of 64 bits in a ds64 chunk).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from serve_app.media.section import Section, read_at
from serve_app.sentences import Sentence

_START = re.compile(rb"(?:RIFF|RIFX|RF64|BW64)....WAVE", re.DOTALL)
_NEXT = re.compile(rb"(?:RIFF|RIFX|RF64|BW64)....WAVE(?:fmt |JUNK|ds64|bext|LIST|junk)", re.DOTALL)
_NEXT_BYTES = 16
_ID = re.compile(rb"[ -~]{4}")
# Chunks that may follow the sound, even where the file ends inside one.
_KNOWN_IDS = frozenset(
    b"LIST,id3 ,ID3 ,bext,cue ,fact,smpl,inst,iXML,axml,chna,JUNK,junk,PAD ,FLLR,afsp,DISP,acid,strc,minf,elm1,regn,"
    b"umid,_PMX,levl,cart,plst,note,labl,ltxt,link,slnt,aXML,SAUR,ovwf,CDif,LGWV,Cr8r,tlst,MD5 ,dbmd,SyLp,r64m".split(
        b","
    )
)
_TAILS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS")  # tags of other formats, which players leave alone here too
_MAX_CHUNKS = 10_000
_MAX_FORMAT_BYTES = 1 << 16
_MIN_MORE_S = 0.05  # less behind the sound is padding
_SCAN_BYTES = 1 << 20
# Writers to a pipe can't go back to write the size; they write the greatest, a little less, or with the header's more.
_UNKNOWN = ((0x7FFF0000, 0x8000FFFF), (0xFFFF0000, 0xFFFFFFFF))
_UNKNOWN_64 = 1 << 62
_EXTENSIBLE = 0xFFFE
_PCM, _FLOAT = 1, 3
# AU has the same samples in big-endian, which FFmpeg reads: its encodings by format and bytes of a sample.
_AU = {(_PCM, 2): 3, (_PCM, 3): 4, (_PCM, 4): 5, (_FLOAT, 4): 6, (_FLOAT, 8): 7}


def is_wav(head: bytes) -> bool:
    return _START.match(head) is not None


@dataclass(frozen=True, slots=True)
class _Header:
    order: str  # of the bytes: "<" or ">"
    format: bytes  # content of the fmt chunk
    begin: int  # of the sound
    declared: int  # bytes of sound
    is_regular: bool  # whether FFmpeg finds the sound too

    @property
    def byte_rate(self) -> int:
        return max(1, struct.unpack_from(self.order + "I", self.format, 8)[0])

    @property
    def is_unknown(self) -> bool:
        return any(low <= self.declared <= high for low, high in _UNKNOWN) or self.declared >= _UNKNOWN_64


def wav_section(file: BinaryIO, start: int, end: int) -> tuple[Section, int]:
    """Return the section of a WAV file that starts there, and where its last chunk ends, at most `end`.

    Sound goes on to the file's end where its header declares less and no chunks follow: a recorder that was stopped, or
    that writes to a pipe, never comes back to write the size.
    """
    header = _read_header(file, start, end)
    if header is None:
        return Section(start, end), end
    begin, declared = header.begin, header.declared
    if header.is_unknown or begin + declared > end:
        sound_end = _next_wav(file, begin, end) if header.is_unknown else end
        is_cut_off = not header.is_unknown
        # FFmpeg reads to the end in both cases, and takes a size of its own for the length
        rewritten = header.is_unknown or not header.is_regular
        return _section(header, start, sound_end, rewritten=rewritten, is_cut_off=is_cut_off), sound_end
    chunks_end = _end_of_chunks(file, begin + declared, end, header.order)
    more_s = (end - begin - declared) / header.byte_rate
    if chunks_end is not None or (more_s < _MIN_MORE_S and declared):
        until = end if chunks_end is None else chunks_end
        if header.is_regular and header.order == "<":
            return Section(start, until), until
        return _section(header, start, begin + declared), until
    sound_end = _next_wav(file, begin + declared, end)
    note = Sentence(
        "The file's header declares {declared:.1f} s of sound, but more follows; it was read to its end",
        declared=declared / header.byte_rate,
    )
    return _section(header, start, sound_end, note), sound_end


def _section(
    header: _Header, start: int, sound_end: int, *notes: str, rewritten: bool = True, is_cut_off: bool = False
) -> Section:
    if header.order == "<" and not rewritten:
        return Section(start, sound_end, is_cut_off=is_cut_off, notes=notes)
    num_bytes = sound_end - header.begin
    return Section(header.begin, sound_end, _new_head(header, num_bytes), is_cut_off, notes)


def _read_header(file: BinaryIO, start: int, end: int) -> _Header | None:
    """Return what stands before the sound; None where a chunk is missing or broken."""
    kind = read_at(file, start, 12)[:4]
    order = ">" if kind == b"RIFX" else "<"
    about, size_64 = b"", None
    position, is_regular = start + 12, True
    for _ in range(_MAX_CHUNKS):
        head = read_at(file, position, 8)
        if len(head) < 8 or not _ID.match(head):
            return None
        (size,) = struct.unpack(order + "I", head[4:])
        if head[:4] == b"data":
            if len(about) < 16:
                return None
            if size == 0xFFFFFFFF and size_64 is not None:
                size = size_64 or _UNKNOWN_64
            return _Header(order, about, position + 8, size, is_regular)
        if head[:4] == b"fmt ":
            about = read_at(file, position + 8, min(size, _MAX_FORMAT_BYTES))
        elif head[:4] == b"ds64" and kind in (b"RF64", b"BW64") and size >= 24:
            (size_64,) = struct.unpack("<Q", read_at(file, position + 16, 8).ljust(8, b"\0"))
        position += 8 + size
        if size % 2:
            if _is_chunk(file, position + 1, end, order):
                position += 1
            else:  # some writers forget the byte that makes the size even
                is_regular = False
    return None


def _is_chunk(file: BinaryIO, position: int, end: int, order: str) -> bool:
    head = read_at(file, position, 8)
    if len(head) < 8 or not _ID.match(head):
        return False
    (size,) = struct.unpack(order + "I", head[4:])
    return bool(position + 8 + size <= end or head[:4] in _KNOWN_IDS | {b"data"})


def _end_of_chunks(file: BinaryIO, position: int, end: int, order: str) -> int | None:
    """Return where the chunks behind the sound end: at another file's header, or the end; None where none are there."""
    if position >= end:
        return end
    for begin in {position + position % 2: None, position: None}:  # with the byte that makes a size even, and without
        if begin >= end or (found := _walk(file, begin, end, order)) is not None:
            return end if begin >= end else found
    return None


def _walk(file: BinaryIO, position: int, end: int, order: str) -> int | None:
    for _ in range(_MAX_CHUNKS):
        head = read_at(file, position, _NEXT_BYTES)
        if not head.strip(b"\0"):
            return end if end - position <= _NEXT_BYTES else None
        if _START.match(head) or head.startswith(_TAILS):
            return position
        if len(head) < 8 or not _ID.match(head):
            return None
        (size,) = struct.unpack(order + "I", head[4:8])
        following = position + 8 + size
        if following > end and head[:4] not in _KNOWN_IDS:
            return None
        if following + size % 2 >= end:
            return end
        padded = following + size % 2
        position = padded if padded == following or _ID.match(read_at(file, padded, 4)) else following
    return None


def _next_wav(file: BinaryIO, begin: int, end: int) -> int:
    """Return where another WAV file's header stands behind `begin`; `end` where there is none."""
    for offset in range(begin, end, _SCAN_BYTES):
        found = _NEXT.search(read_at(file, offset, min(_SCAN_BYTES + _NEXT_BYTES - 1, end - offset)))
        if found:
            return offset + found.start()
    return end


def _new_head(header: _Header, num_bytes: int) -> bytes:
    about = header.format
    if header.order == ">":
        tag, num_channels, rate_hz, byte_rate, block, bits = struct.unpack_from(">HHIIHH", about)
        rest = about[16:]
        if tag == _EXTENSIBLE and len(about) >= 26:
            tag = int.from_bytes(about[24:26], "big") or about[24]
        encoding = _AU.get((tag, block // max(1, num_channels)))
        if encoding is not None:
            return struct.pack(">4s5I", b".snd", 24, min(num_bytes, 0xFFFFFFFF), encoding, rate_hz, num_channels)
        # bytes, or blocks of a codec: they have no order
        about = struct.pack("<HHIIHH", tag, num_channels, rate_hz, byte_rate, block, bits) + _swapped(rest)
    size = min(num_bytes, 0xFFFFFFFF)
    return (
        b"RIFF\xff\xff\xff\xffWAVEfmt "
        + struct.pack("<I", len(about))
        + about
        + b"\0" * (len(about) % 2)
        + b"data"
        + struct.pack("<I", size)
    )


def _swapped(words: bytes) -> bytes:
    return b"".join(words[at : at + 2][::-1] for at in range(0, len(words), 2))
