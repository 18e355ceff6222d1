"""Small files of pictures with large claims."""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_FORMATS = {3: "H", 4: "I"}
_STRIP_OFFSET, _TILE_OFFSET = 273, 324


def _entries(tags: dict[int, tuple[int, tuple[int, ...]]]) -> bytes:
    """Return a little-endian TIFF of one directory; tags: type and values by number."""
    base = 8 + 2 + 12 * len(tags) + 4
    directory, behind = struct.pack("<H", len(tags)), b""
    for tag, (kind, values) in sorted(tags.items()):
        raw = struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
        place = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack("<I", base + len(behind))
        behind += raw if len(raw) > 4 else b""
        directory += struct.pack("<HHI", tag, kind, len(values)) + place
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + behind


def tiff(
    width: int,
    height: int,
    *,
    bits: tuple[int, ...] = (8, 8, 8),
    photometric: int = 2,
    compression: int = 8,
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
    planar: int = 1,
    is_float: bool = False,
    has_alpha: bool = False,
    data: bytes | None = None,
) -> bytes:
    """Return a TIFF of one strip or tile."""
    data = zlib.compress(bytes(1000)) if data is None else data
    tags: dict[int, tuple[int, tuple[int, ...]]] = {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, bits),
        259: (3, (compression,)),
        262: (3, (photometric,)),
        277: (3, (len(bits),)),
        284: (3, (planar,)),
    }
    if is_float:
        tags[339] = (3, (3,))
    if has_alpha:
        tags[338] = (3, (2,))
    if tile:
        tags |= {322: (4, (tile[0],)), 323: (4, (tile[1],)), _TILE_OFFSET: (4, (0,)), 325: (4, (len(data),))}
    else:
        tags |= {278: (4, (rows or height,)), _STRIP_OFFSET: (4, (0,)), 279: (4, (len(data),))}
    place = _TILE_OFFSET if tile else _STRIP_OFFSET
    tags[place] = (4, (len(_entries(tags)),))
    return _entries(tags) + data


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int = 8, color: int = 2, chunks: bytes = b"") -> bytes:
    """Return a black PNG."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width * _CHANNELS[color] * depth // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def by_pil(kind: str, size: tuple[int, int], mode: str = "RGB", **options: Any) -> bytes:
    """Return a black picture."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def _packed(num_bytes: int) -> bytes:
    return zlib.compress(bytes(num_bytes), 9)


PALETTE = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256))

BOMBS: dict[str, Callable[[], bytes]] = {
    "tiff: tile of 29 984 px in 100": lambda: tiff(100, 100, tile=(29_984, 29_984)),
    "tiff: tile of 16 368 px, 4 x 16 bits, in 16": lambda: tiff(
        16, 16, bits=(16,) * 4, tile=(16_368, 16_368), has_alpha=True
    ),
    "tiff: wide tile": lambda: tiff(16, 16, tile=(1 << 20, 16)),
    "tiff: high tile": lambda: tiff(16, 16, tile=(16, 1 << 20)),
    "tiff: tile of no width": lambda: tiff(16, 16, tile=(0, 1 << 20)),
    "tiff: rows of a strip 2^31": lambda: tiff(100, 100, rows=1 << 31),
    "tiff: 49 MP in one strip": lambda: tiff(7000, 7000, data=_packed(7000 * 7000 * 3)),
    "tiff: 49 MP in planes": lambda: tiff(7000, 7000, planar=2, data=_packed(7000 * 7000 * 3)),
    "tiff: 49 MP of 16 bits": lambda: tiff(7000, 7000, bits=(16,) * 3, data=_packed(7000 * 7000 * 6)),
    "tiff: 25 MP of floats": lambda: tiff(
        5000, 5000, bits=(32,), photometric=1, is_float=True, data=_packed(5000 * 5000 * 4)
    ),
    "tiff: 49 MP of CMYK": lambda: tiff(7000, 7000, bits=(8,) * 4, photometric=5, data=_packed(7000 * 7000 * 4)),
    "tiff: 49 MP of 1 bit": lambda: tiff(7000, 7000, bits=(1,), photometric=1, compression=4, data=bytes(100)),
    "tiff: 49 MP claimed": lambda: tiff(7000, 7000),
    "tiff: 49 MP by LZMA": lambda: tiff(7000, 7000, compression=34_925, data=lzma.compress(bytes(7000 * 7000 * 3))),
    "png: 50 MP": lambda: png(7071, 7071),
    "png: 25 MP, transparent": lambda: png(5000, 5000, 8, 6),
    "png: 49 MP of 16 bits": lambda: png(7000, 7000, 16, 2),
    "png: 25 MP of 16 bits, grey": lambda: png(5000, 5000, 16, 0),
    "png: 25 MP of a transparent palette": lambda: png(5000, 5000, 8, 3, PALETTE),
    "png: 60 MB of text": lambda: png(
        10, 10, 8, 2, b"".join(chunk(b"zTXt", b"k%d\0\0" % index + _packed(1_000_000)) for index in range(62))
    ),
    "png: 60 MB of a profile": lambda: png(10, 10, 8, 2, chunk(b"iCCP", b"x\0\0" + _packed(60 << 20))),
    "webp: 49 MP, lossless": lambda: by_pil("WEBP", (7000, 7000), lossless=True, quality=0, method=0),
    "webp: 31 MP, lossless": lambda: by_pil("WEBP", (5500, 5600), lossless=True, quality=0, method=0),
    "avif: 49 MP": lambda: by_pil("AVIF", (7000, 7000), speed=10),
    "jpeg: 49 MP, progressive": lambda: by_pil("JPEG", (7000, 7000), progressive=True, quality=10),
    "jpeg: 49 MP, CMYK": lambda: by_pil("JPEG", (7000, 7000), "CMYK", quality=10),
}
QUICK = [name for name in BOMBS if "tile" in name or "rows" in name or name == "webp: 49 MP, lossless"]
