"""Ways to break a picture's file. Each takes a source of chance and good files, and gives the same file each time."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

Mutation = Callable[[random.Random, bytes, bytes], bytes]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# ends of the ranges that parsers compute with
_SIZES = (0, 1, 2, 255, 256, 16_383, 16_384, 32_767, 32_768, 60_000, 65_535, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)


@dataclass(frozen=True, slots=True)
class Case:
    """One broken file.

    Attributes:
        name: number, mutation and what was mutated.
        kind: mutation.
        data: the file.
    """

    name: str
    kind: str
    data: bytes


def cases(seeds: Mapping[str, bytes], num: int, seed: int) -> Iterator[Case]:
    """Yield so many, all mutations and all seeds in turns; case N is the same whatever `num` is."""
    names, kinds = sorted(seeds), sorted(MUTATIONS)
    for number in range(num):
        rng = random.Random(f"{seed}/{number}")
        kind, name = kinds[number % len(kinds)], names[(number // len(kinds)) % len(names)]
        other = rng.choice(names)
        data = MUTATIONS[kind](rng, seeds[name], seeds[other])
        yield Case(f"{number:05}-{kind}-{name}", kind, data)


def flip_bits(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Flip up to 64 bits anywhere."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_early_bits(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Flip bits in the first 512 bytes, where the headers are."""
    return flip_bits(rng, data[:512], other) + data[512:]


def insert_bytes(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Insert up to 4096 bytes of chance."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 16, 256, 4096))) + data[at:]


def delete_bytes(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Leave up to 4096 bytes out."""
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.choice((1, 2, 16, 256, 4096)) :]


def truncate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Cut the end off; half of the time only little is left, or only little missing."""
    if rng.random() < 0.5:
        return data[: rng.choice((1, 2, 4, 8, 16, 32, 64, len(data) - 1, len(data) - 2, len(data) - 16))]
    return data[: rng.randrange(len(data))]


def swap_ranges(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Exchange two ranges of the file."""
    a, b, c, d = sorted(rng.randrange(len(data) + 1) for _ in range(4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def repeat_range(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Repeat a range up to 200 times."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    end = min(end, start + 2048)
    return data[:end] + data[start:end] * rng.choice((1, 2, 20, 200)) + data[end:]


def edge_values(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Write numbers at the ends of their ranges over some of the first 1024 bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        form = rng.choice(("<H", ">H", "<I", ">I"))
        at = rng.randrange(min(len(changed), 1024))
        value = rng.choice(_SIZES) & (0xFFFF if form[1] == "H" else 0xFFFF_FFFF)
        changed[at : at + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(changed)


def resize_header(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Have the header claim another size, checksums right; where it is not found, as `edge_values`."""
    changed = with_size(data, rng.choice(_SIZES), rng.choice(_SIZES))
    return edge_values(rng, data, other) if changed is None else changed


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Put the start of one file before the end of another."""
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def corrupt_chunk(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Flip bits within PNG chunks and set their checksums right, so that decoders look at them; else `flip_bits`."""
    if not data.startswith(PNG_SIGNATURE):
        return flip_bits(rng, data, other)
    chunks = png_chunks(data)
    at = rng.randrange(len(chunks))
    kind, body = chunks[at]
    if body:
        chunks[at] = (kind, flip_bits(rng, body, other))
    return PNG_SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks)


def chance(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Give bytes of chance, half of the time behind a good file's first 32."""
    return data[: rng.choice((0, 32))] + rng.randbytes(rng.choice((1, 16, 1024, 65_536)))


MUTATIONS: Mapping[str, Mutation] = {
    each.__name__: each
    for each in (
        flip_bits,
        flip_early_bits,
        insert_bytes,
        delete_bytes,
        truncate,
        swap_ranges,
        repeat_range,
        edge_values,
        resize_header,
        splice,
        corrupt_chunk,
        chance,
    )
}


def with_size(data: bytes, width: int, height: int) -> bytes | None:
    """Return a file whose header claims that size, as far as its fields hold it; None of an unknown kind."""
    changed = bytearray(data)
    if data.startswith(PNG_SIGNATURE):
        changed[16:24] = struct.pack(">II", width, height)
        changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
    elif data.startswith(b"\xff\xd8"):
        at = _jpeg_frame(data)
        if at is None:
            return None
        changed[at + 5 : at + 9] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    elif data.startswith(b"GIF8"):
        size = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
        changed[6:10] = size
        at = data.find(b"\x2c\0\0\0\0")
        if at >= 0:
            changed[at + 5 : at + 9] = size
    elif data.startswith(b"BM"):
        changed[18:26] = struct.pack("<II", width, height)
    elif data[:4] == b"RIFF" and data[12:16] == b"VP8X":
        changed[24:30] = b"".join((side - 1 & 0xFF_FFFF).to_bytes(3, "little") for side in (width, height))
    elif data[:4] == b"RIFF" and data[12:16] == b"VP8 ":
        changed[26:30] = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    elif data[:4] == b"RIFF" and data[12:16] == b"VP8L":
        packed = (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14
        changed[21:25] = struct.pack("<I", packed | struct.unpack("<I", data[21:25])[0] & 0xF000_0000)
    elif data.startswith(b"II*\0"):
        _set_tiff_size(changed, width, height)
    elif data[4:8] == b"ftyp" and (at := data.find(b"ispe")) >= 0:
        changed[at + 8 : at + 16] = struct.pack(">II", width, height)
    else:
        return None
    return bytes(changed)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return kind and body of each chunk of a good PNG."""
    chunks, at = [], len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _jpeg_frame(data: bytes) -> int | None:
    """Return where a JPEG's SOF marker is."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        if data[at + 1] in (0xC0, 0xC1, 0xC2):
            return at
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


def _set_tiff_size(changed: bytearray, width: int, height: int) -> None:
    at = struct.unpack_from("<I", changed, 4)[0]
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", changed, at)[0], 12):
        tag = struct.unpack_from("<H", changed, entry)[0]
        if tag in (256, 257):  # as a LONG, whatever it was
            struct.pack_into("<HHII", changed, entry, tag, 4, 1, width if tag == 256 else height)
