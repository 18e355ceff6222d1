"""Files made to hurt a decoder: small ones that claim or hold a lot, loops, endless repetitions, no pictures at all."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO

from PIL import Image

from loadtests.images.mutations import PNG_SIGNATURE, Case, png_chunk, with_size

_BIG = 60_000
_SIDE_PX = 7_000  # squared just below 50 million pixels: all of it is decoded
_TEXT_BYTES = 64 << 20


def crafted_cases() -> list[Case]:
    """Return all of them; some seconds' work."""
    return [Case(f"crafted-{name}", "crafted", make()) for name, make in CRAFTED.items()]


def png(
    width: int,
    height: int,
    raw: bytes,
    *,
    depth: int = 8,
    colour: int = 0,
    interlaced: bool = False,
    extra: bytes = b"",
) -> bytes:
    """Return a PNG with those rows, each behind its filter's byte, and further chunks before them."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced)))
    body = png_chunk(b"IDAT", zlib.compress(raw, 1))
    return PNG_SIGNATURE + head + extra + body + png_chunk(b"IEND", b"")


def blank_png(width: int, height: int, *, depth: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    """Return a PNG of zeros, made in blocks: its rows are never all in memory."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = b"\0" * (1 + (width * channels * depth + 7) // 8)
    packer = zlib.compressobj(1)
    block = row * max(1, (1 << 22) // len(row))
    packed = [packer.compress(block) for _ in range(height * len(row) // len(block))]
    packed += [packer.compress(block[: height * len(row) % len(block)]), packer.flush()]
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return PNG_SIGNATURE + head + extra + png_chunk(b"IDAT", b"".join(packed)) + png_chunk(b"IEND", b"")


def _text_bomb(kind: bytes, before: bytes, num: int = 1) -> Callable[[], bytes]:
    def make() -> bytes:
        packed = zlib.compress(b"\0" * _TEXT_BYTES, 9)
        return png(8, 8, b"\0" * 72, extra=png_chunk(kind, before + packed) * num)

    return make


def _jpeg(size: tuple[int, int], **options: object) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, (90, 120, 150)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _many_scans(size: tuple[int, int], num: int) -> bytes:
    """Return a progressive JPEG that repeats its last scan: each costs a pass over all coefficients."""
    data = _jpeg(size, progressive=True, quality=50)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * num + data[-2:]


def _many_segments() -> bytes:
    data = _jpeg((64, 64))
    return data[:2] + (b"\xff\xe1" + struct.pack(">H", 34) + b"Exif\0\0" + b"\0" * 26) * 50_000 + data[2:]


def _tiff(entries: list[tuple[int, int, int, int]], next_ifd: int = 0, tail: bytes = b"") -> bytes:
    """Return a little-endian TIFF with one directory at offset 8."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", next_ifd) + tail


def _grey_tiff(width: int, height: int, *, next_ifd: int = 0, num_strips: int = 1, extra: int = 0) -> bytes:
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, num_strips, 200),
        (277, 3, 1, 1),
        (278, 4, 1, max(1, height // num_strips)),
        (279, 4, num_strips, width * height & 0xFFFF_FFFF),
        *([(330, 4, 1, 8)] * extra),
        *([(34665, 4, 1, 8)] * extra),
    ]
    return _tiff(entries, next_ifd, b"\x80" * 4096)


def _exif_loop() -> bytes:
    loop = _tiff([(0x0112, 3, 1, 6), (0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8)], next_ifd=8)
    data, segment = _jpeg((64, 64)), b"Exif\0\0" + loop
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def _gif(size: tuple[int, int], num_frames: int = 1) -> bytes:
    """Return a GIF whose frames all claim `size` and hold one pixel."""
    head = b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, *size, 0) + b"\x02\x02\x44\x01\0"
    return head + frame * num_frames + b"\x3b"


def _bmp(width: int, height: int, *, compression: int = 0, tail: bytes = b"\0" * 64) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, len(tail), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(tail), 0, 0, 54 + 1024) + info + b"\0" * 1024 + tail


def _webp(size: tuple[int, int], num_frames: int = 1) -> bytes:
    buffer = BytesIO()
    image = Image.new("RGB", (16, 16))
    frames = [Image.new("RGB", (16, 16), (number % 256, number // 256, 9)) for number in range(1, num_frames)]
    image.save(buffer, "WEBP", save_all=num_frames > 1, append_images=frames, method=0)
    return with_size(buffer.getvalue(), *size) or b""


def _whole(kind: str, mode: str, side_px: int, **options: object) -> Callable[[], bytes]:
    def make() -> bytes:
        buffer = BytesIO()
        Image.new(mode, (side_px, side_px)).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


CRAFTED: Mapping[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "one-byte": lambda: b"\xff",
    "zeros": lambda: b"\0" * 1_000_000,
    "text": lambda: b"hello, I am no picture\n" * 100,
    "html": lambda: b"<!doctype html><img src=x onerror=alert(1)>",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
    "pdf": lambda: b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>",
    "eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(/etc/passwd) run\n",
    "zip": lambda: b"PK\x03\x04" + b"\0" * 100,
    "pickle": lambda: b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x94.",
    "png-claims-60000": lambda: with_size(png(1, 1, b"\0\0"), _BIG, _BIG) or b"",
    "png-holds-60000-1-bit": lambda: blank_png(_BIG, _BIG, depth=1),
    "png-no-size": lambda: with_size(png(1, 1, b"\0\0"), 0, 0) or b"",
    "png-49-megapixels-grey": lambda: blank_png(_SIDE_PX, _SIDE_PX),
    "png-49-megapixels-alpha": lambda: blank_png(_SIDE_PX, _SIDE_PX, colour=6),
    "png-49-megapixels-alpha-16-bit": lambda: blank_png(_SIDE_PX, _SIDE_PX, colour=6, depth=16),
    "png-49-megapixels-grey-16-bit": lambda: blank_png(_SIDE_PX, _SIDE_PX, depth=16),
    "png-49-megapixels-transparent-palette": lambda: blank_png(
        _SIDE_PX, _SIDE_PX, colour=3, extra=png_chunk(b"PLTE", b"\1\2\3" * 2) + png_chunk(b"tRNS", b"\0\x80")
    ),
    "png-49-megapixels-claimed": lambda: with_size(png(1, 1, b"\0\0"), _SIDE_PX, _SIDE_PX) or b"",
    "png-strip-wide": lambda: blank_png(49_000_000, 1),
    "png-strip-high": lambda: blank_png(1, 49_000_000),
    "png-ztxt-bomb": _text_bomb(b"zTXt", b"k\0\0"),
    "png-ztxt-bombs": _text_bomb(b"zTXt", b"k\0\0", num=32),
    "png-itxt-bomb": _text_bomb(b"iTXt", b"k\0\1\0\0\0"),
    "png-iccp-bomb": _text_bomb(b"iCCP", b"k\0\0"),
    "png-many-chunks": lambda: png(8, 8, b"\0" * 72, extra=png_chunk(b"tEXt", b"a\0b") * 100_000),
    "png-apng-frames": lambda: png(8, 8, b"\0" * 72, extra=png_chunk(b"acTL", struct.pack(">II", 0xFFFF_FFFF, 0))),
    "jpeg-claims-65500": lambda: with_size(_jpeg((8, 8)), 65_500, 65_500) or b"",
    "jpeg-49-megapixels-claimed": lambda: with_size(_jpeg((8, 8)), _SIDE_PX, _SIDE_PX) or b"",
    "jpeg-5000-scans": lambda: _many_scans((1024, 1024), 5_000),
    "jpeg-480-scans": lambda: _many_scans((1024, 1024), 480),
    "jpeg-480-scans-49-megapixels": lambda: _many_scans((_SIDE_PX, _SIDE_PX), 480),
    "jpeg-many-segments": _many_segments,
    "jpeg-exif-loop": _exif_loop,
    "gif-claims-65535": lambda: _gif((65_535, 65_535)),
    "gif-49-megapixels-claimed": lambda: _gif((_SIDE_PX, _SIDE_PX)),
    "gif-frames": lambda: _gif((1_000, 1_000), 20_000),
    "bmp-claims-2-31": lambda: _bmp(0x7FFF_FFFF, 0x7FFF_FFFF),
    "bmp-negative": lambda: _bmp(-1, -0x8000_0000),
    "bmp-rle-endless": lambda: _bmp(_SIDE_PX, _SIDE_PX, compression=1, tail=b"\0\2\xff\xff" * 16_384),
    "tiff-ifd-loop": lambda: _grey_tiff(64, 64, next_ifd=8),
    "tiff-sub-ifd-loop": lambda: _grey_tiff(64, 64, next_ifd=8, extra=2),
    "tiff-claims-60000": lambda: _grey_tiff(_BIG, _BIG),
    "tiff-49-megapixels-claimed": lambda: _grey_tiff(_SIDE_PX, _SIDE_PX),
    "tiff-strips": lambda: _grey_tiff(64, 64, num_strips=0x7FFF_FFFF),
    "tiff-49-megapixels-float": _whole("TIFF", "F", _SIDE_PX, compression="tiff_deflate"),
    "tiff-49-megapixels-cmyk": _whole("TIFF", "CMYK", _SIDE_PX, compression="tiff_deflate"),
    "webp-claims-16384": lambda: _webp((16_384, 16_384)),
    "webp-frames": lambda: _webp((16, 16), 500),
    "webp-49-megapixels": _whole("WEBP", "RGBA", _SIDE_PX, lossless=True, method=0, quality=0),
}
