"""`wav_section`: where the sound of a WAV file ends, whatever its header says, and a header that says so.

RIFF (Microsoft and IBM, 1991), RIFX (the same, with its numbers in big-endian), RF64 and BW64 (EBU Tech 3306, ITU-R
BS.2088: sizes of 64 bits in a ds64 chunk).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from serve_app.media.section import HEADER, Section, read_at
from serve_app.sentences import Sentence

_START = re.compile(rb"(?:RIFF|RIFX|RF64|BW64)....WAVE", re.DOTALL)
_NEXT = re.compile(rb"(?:RIFF|RIFX|RF64|BW64)....WAVE(?:fmt |JUNK|ds64|bext|LIST|junk)", re.DOTALL)
_NEXT_BYTES = 16
_HEAD_BYTES = 80  # of what tells how a file begins
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
_GUID_TAIL = bytes.fromhex("00001000800000aa00389b71")  # behind the tag, in 32 bits
_PCM, _FLOAT = 1, 3
# AU has the same samples in big-endian, which FFmpeg reads: its encodings by format and bytes of a sample.
_AU = {(_PCM, 2): 3, (_PCM, 3): 4, (_PCM, 4): 5, (_FLOAT, 4): 6, (_FLOAT, 8): 7}


def is_wav(head: bytes) -> bool:
    """Return whether a file that starts so is a WAV file, of whatever size and byte order."""
    return _START.match(head) is not None


@dataclass(frozen=True, slots=True)
class _Format:
    """Content of the fmt chunk, with the tag and bits of WAVE_FORMAT_EXTENSIBLE resolved."""

    tag: int
    num_channels: int
    rate_hz: int
    byte_rate: int
    block: int  # bytes of a sample of all channels, or of a codec's block
    bits: int
    mask: int  # of the channels; 0: not known
    extra: bytes  # of a codec

    @property
    def sample_bytes(self) -> int:
        return self.block // max(1, self.num_channels)

    @property
    def bytes_per_s(self) -> int:
        exact = self.rate_hz * self.block if self.tag in (_PCM, _FLOAT) else 0
        return max(1, exact or self.byte_rate)


@dataclass(frozen=True, slots=True)
class _Header:
    is_big_endian: bool
    format: _Format
    begin: int  # of the sound
    declared: int  # bytes of sound

    @property
    def is_unknown(self) -> bool:
        return any(low <= self.declared <= high for low, high in _UNKNOWN) or self.declared >= _UNKNOWN_64

    def section(self, sound_end: int, *notes: str, is_cut_off: bool = False) -> Section:
        """Return the sound with a header of its own: FFmpeg fails on some chunks that stand around it."""
        head = _au_head(self.format) if self.is_big_endian else b""
        head = head or _wav_head(self.format, sound_end - self.begin)
        return Section(self.begin, sound_end, head, is_cut_off, notes)


def wav_section(file: BinaryIO, start: int, end: int) -> tuple[Section, int]:
    """Return the section of a WAV file that starts there, and where its last chunk ends, at most `end`.

    Sound goes on to the file's end where its header declares less and no chunks follow: a recorder that was stopped, or
    that writes to a pipe, never comes back to write the size.
    """
    header = _read_header(file, start, end)
    if header is None:
        return Section(start, end), end
    begin, declared = header.begin, header.declared
    if header.is_unknown:
        sound_end = _next_wav(file, begin, end)
        return header.section(sound_end), sound_end
    if begin + declared > end:
        return header.section(end, is_cut_off=True), end
    chunks_end = _end_of_chunks(file, begin + declared, end, header.is_big_endian)
    more_s = (end - begin - declared) / header.format.bytes_per_s
    if chunks_end is not None or (more_s < _MIN_MORE_S and declared):
        return header.section(begin + declared), end if chunks_end is None else chunks_end
    sound_end = _next_wav(file, begin + declared, end)
    note = Sentence(
        "The file's header declares {declared:.1f} s of sound, but more follows; it was read to its end",
        declared=declared / header.format.bytes_per_s,
    )
    return header.section(sound_end, note), sound_end


def _read_header(file: BinaryIO, start: int, end: int) -> _Header | None:
    """Return what stands before the sound; None where a chunk is missing or broken."""
    kind = read_at(file, start, 12)[:4]
    order = ">" if kind == b"RIFX" else "<"
    about, size_64 = b"", None
    position = start + 12
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
            return _Header(order == ">", _read_format(about, order), position + 8, size)
        if head[:4] == b"fmt ":
            about = read_at(file, position + 8, min(size, _MAX_FORMAT_BYTES))
        elif head[:4] == b"ds64" and kind in (b"RF64", b"BW64") and size >= 24:
            (size_64,) = struct.unpack("<Q", read_at(file, position + 16, 8).ljust(8, b"\0"))
        position += 8 + size
        if size % 2 and _is_chunk(file, position + 1, end, order):  # some writers forget the byte that makes it even
            position += 1
    return None


def _read_format(about: bytes, order: str) -> _Format:
    tag, num_channels, rate_hz, byte_rate, block, bits = struct.unpack_from(order + "HHIIHH", about)
    extra, mask = about[18:], 0
    if tag == _EXTENSIBLE and len(about) >= 40:
        valid, mask, tag = struct.unpack_from(order + "HII", about, 18)
        if tag > 0xFFFF:  # a RIFX file with its GUID in the order of RIFF
            (tag,) = struct.unpack_from("<I", about, 24)
        extra = about[40:]
        # what is valid of a sample stands in its high bits, so the others may be read too
        bits = bits if tag in (_PCM, _FLOAT) else valid or bits
    elif order == ">":
        extra = b"".join(extra[at : at + 2][::-1] for at in range(0, len(extra), 2))  # words, of the codecs in use
    return _Format(tag & 0xFFFF, num_channels, rate_hz, byte_rate, block, bits, mask, extra)


def _is_chunk(file: BinaryIO, position: int, end: int, order: str) -> bool:
    head = read_at(file, position, 8)
    if len(head) < 8 or not _ID.match(head):
        return False
    (size,) = struct.unpack(order + "I", head[4:])
    return bool(position + 8 + size <= end or head[:4] in _KNOWN_IDS | {b"data"})


def _end_of_chunks(file: BinaryIO, position: int, end: int, is_big_endian: bool) -> int | None:
    """Return where the chunks behind the sound end: at another file's header, or the end; None where none are there."""
    if position >= end:
        return end
    for begin in {position + position % 2: None, position: None}:  # with the byte that makes a size even, and without
        if begin >= end or (found := _walk(file, begin, end, ">" if is_big_endian else "<")) is not None:
            return end if begin >= end else found
    return None


def _walk(file: BinaryIO, position: int, end: int, order: str) -> int | None:
    for _ in range(_MAX_CHUNKS):
        head = read_at(file, position, _HEAD_BYTES)
        if not head.strip(b"\0"):
            return end if end - position <= _NEXT_BYTES else None
        if HEADER.match(head) or head.startswith(_TAILS):
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


def _au_head(about: _Format) -> bytes:
    """Return a header of AU, whose samples are in big-endian; empty where bytes have no order."""
    encoding = _AU.get((about.tag, about.sample_bytes))
    if encoding is None:
        return b""
    return struct.pack(">4s5I", b".snd", 24, 0xFFFFFFFF, encoding, about.rate_hz, about.num_channels)


def _wav_head(about: _Format, num_bytes: int) -> bytes:
    bits = 8 * about.sample_bytes if about.tag in (_PCM, _FLOAT) and about.sample_bytes else about.bits
    numbers = (about.num_channels, about.rate_hz, about.byte_rate, about.block, bits)
    if about.mask and about.tag in (_PCM, _FLOAT):
        content = struct.pack("<HHIIHHHHII", _EXTENSIBLE, *numbers, 22, bits, about.mask, about.tag) + _GUID_TAIL
    else:
        content = struct.pack("<HHIIHHH", about.tag, *numbers, len(about.extra)) + about.extra
    size = min(num_bytes, 0xFFFFFFFF)
    content += b"\0" * (len(content) % 2)
    sizes = struct.pack("<I", len(content)), struct.pack("<I", size)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + sizes[0] + content + b"data" + sizes[1]
