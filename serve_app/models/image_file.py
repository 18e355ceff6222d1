"""Image files as PIL pictures, decoded safely: bytes are checked before PIL reads them, and sizes before it decodes.

The camera's orientation (EXIF) is applied, transparent pixels are laid on white, deeper channels are cut to their upper
8 bits, and grey, palette and CMYK pictures become RGB as PIL does it, without colour profiles. The first of several
frames is used. Imports no torch.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pi_heif
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from serve_app.errors import ImageTooLarge, ImageUnreadable
from serve_app.sentences import Sentence

MAX_PIXELS = 50_000_000  # a phone's 48 megapixels fit; PIL keeps RGB in 200 MB
BYTES_PER_PIXEL = 10  # of the limit of pixels: what decoding may take in all

# No format that runs a program (EPS), draws by instructions (WMF) or is not a picture (PDF). JPEG includes MPO.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
# A progressive JPEG has some ten scans. Thousands of empty ones fit into a small file, and each costs a pass over the
# whole picture: 500 is the limit of libjpeg's own fuzzers, and a large picture may have fewer. Extended XMP has a
# segment for each 64 KB; 50 000 of them take seconds to read.
_MAX_SCANS = 500
_MAX_SCANNED_PIXELS = 1_000_000_000
_MAX_APP1_SEGMENTS = 1000
_START_OF_SCAN, _APP1 = b"\xff\xda", b"\xff\xe1"  # can't occur within a scan, where 0xff is followed by 0x00
_MAX_SIDE_PX = 65_535  # of JPEG; PIL keeps 8 bytes for each row beside its pixels
# libwebp keeps a picture four times, each with 4 bytes a pixel.
_WEBP_BYTES_PER_PIXEL = 16
_TIFF_BYTES_PER_PIXEL = 9  # of the limit of pixels: of a strip or tile, and of PIL's picture at 4 bytes a pixel
_PIXELS_AT_ONCE = 1 << 20
_BITS, _SAMPLES, _ROWS_PER_STRIP, _PLANES, _TILE_WIDTH, _TILE_LENGTH = 258, 277, 278, 284, 322, 323  # tags of TIFF
_TRANSPARENT = ("RGBA", "RGBa", "LA", "La", "PA")

pi_heif.register_heif_opener(thumbnails=False)
# They report broken metadata, and sizes that are checked here. `catch_warnings` is not for several threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


@contextmanager
def opened_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a picture's file without decoding it; errors of PIL within the block become ours.

    Args:
        max_pixels: of the file's picture, half as many with transparency or more than 8 bits.

    Raises:
        ImageUnreadable: the file is no picture of a known format, or is broken.
        ImageTooLarge: it has too many pixels.
    """
    if not data:
        raise ImageUnreadable(Sentence("The file is empty"))
    num_scans = _num_scans(data)
    with _picture_errors(max_pixels), Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
        _check_size(opened, num_scans, max_pixels)
        yield opened


@contextmanager
def _picture_errors(max_pixels: int) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError:
        raise ImageUnreadable(
            Sentence("The file is no picture of a known kind (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC)")
        ) from None
    except Image.DecompressionBombError:
        raise _too_many(max_pixels) from None
    except (ImageUnreadable, ImageTooLarge, MemoryError):
        raise
    except Exception as error:  # PIL's plugins raise whatever their parsers meet: ValueError, IndexError, struct.error
        text = " ".join(str(error).split())[:200]
        # PIL quotes the object that it read from, with its address
        cause = text if text and " object at 0x" not in text else type(error).__name__
        raise ImageUnreadable(Sentence("The picture is broken or cut off: {cause}", cause=cause)) from error


@contextmanager
def decoded_image(
    data: bytes, *, max_pixels: int = MAX_PIXELS, at_least_px: int | None = None
) -> Iterator[Image.Image]:
    """Decode a picture's file to RGB, upright and without transparency; arguments and errors as of `opened_image`.

    Args:
        at_least_px: of the longer side; a larger JPEG may be decoded at a half, a quarter or an eighth of its size,
            which takes less time and memory. None: at its own size.
    """
    with opened_image(data, max_pixels=max_pixels) as opened:
        if at_least_px is not None:
            opened.draft(None, (at_least_px, 1) if opened.width > opened.height else (1, at_least_px))
        yield _upright_rgb(opened)


@contextmanager
def upright_rgb(image: Image.Image, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Do what `decoded_image` does with an image that a program opened itself, which stays as it is."""
    with _picture_errors(max_pixels):
        _check_size(image, 1, max_pixels)
        yield _upright_rgb(image.copy())


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    with suppress(Exception):  # of broken metadata: the pixels are good
        ImageOps.exif_transpose(image, in_place=True)
    return _as_rgb(image)


def has_several_frames(data: bytes) -> bool:
    """Return whether a file that can be decoded holds more pictures than its first, as far as memory allows to look."""
    try:
        file = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Exception:
        return False
    with file as opened:
        try:
            return bool(getattr(opened, "is_animated", False))
        except Exception:  # of a broken second frame: the first one is good
            return True


def _num_scans(data: bytes) -> int:
    if not data.startswith(b"\xff\xd8"):
        return 1
    if data.count(_APP1) > _MAX_APP1_SEGMENTS:
        raise ImageUnreadable(
            Sentence("The file is a JPEG with more than {most} segments of metadata", most=_MAX_APP1_SEGMENTS)
        )
    num_scans = data.count(_START_OF_SCAN)
    if num_scans > _MAX_SCANS:
        raise ImageUnreadable(Sentence("The file is a JPEG with more than {most} scans", most=_MAX_SCANS))
    return num_scans


def _check_size(image: Image.Image, num_scans: int, max_pixels: int) -> None:
    width, height = image.size
    # their conversion to RGB takes twice the memory
    is_large = image.mode.startswith(("I", "F")) or _is_transparent(image)
    limit = max_pixels // 2 if is_large else max_pixels
    if width * height > limit:
        raise _too_many(limit)
    if max(width, height) > _MAX_SIDE_PX:
        raise ImageTooLarge(Sentence("The picture is more than {most} pixels long", most=_MAX_SIDE_PX))
    if num_scans * width * height > _MAX_SCANNED_PIXELS:
        raise ImageUnreadable(Sentence("The file is a JPEG with {num} scans, too many for its size", num=num_scans))
    if image.format == "WEBP" and width * height * _WEBP_BYTES_PER_PIXEL > max_pixels * BYTES_PER_PIXEL:
        raise _too_many(max_pixels * BYTES_PER_PIXEL // _WEBP_BYTES_PER_PIXEL)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiff(image, max_pixels)


def _check_tiff(image: TiffImagePlugin.TiffImageFile, max_pixels: int) -> None:
    """Refuse what makes libtiff allocate more than the picture's size tells: it decodes a strip or a tile at a time."""
    width, height = image.size
    part_width, part_height = width, min(height, _tag(image, _ROWS_PER_STRIP, height))
    if _TILE_WIDTH in image.tag_v2 or _TILE_LENGTH in image.tag_v2:
        part_width, part_height = _tag(image, _TILE_WIDTH, 0), _tag(image, _TILE_LENGTH, 0)
        if part_width > -(-width // 16) * 16 or part_height > -(-height // 16) * 16:
            raise ImageUnreadable(Sentence("The file is a TIFF with tiles larger than the picture"))
    samples = _tag(image, _SAMPLES, 1) if _tag(image, _PLANES, 1) == 1 else 1
    part_bytes = part_width * part_height * samples * -(-_tag(image, _BITS, 8) // 8)
    if part_bytes + 4 * width * height > _TIFF_BYTES_PER_PIXEL * max_pixels:
        raise ImageTooLarge(
            Sentence("The picture takes too much memory to decode: save it in 8 bits, or in smaller strips")
        )


def _tag(image: TiffImagePlugin.TiffImageFile, tag: int, default: int) -> int:
    values = image.tag_v2.get(tag, default)
    return max(map(int, values)) if isinstance(values, tuple) else int(values)


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in _TRANSPARENT or "transparency" in image.info


def _too_many(max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(
        Sentence("The picture has more than {millions:g} million pixels: send a smaller one", millions=max_pixels / 1e6)
    )


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_upper_byte(image)).convert("RGB")
    if _is_transparent(image):
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Return a transparent picture on white; by some rows at a time, as each step takes another copy."""
    width, height = image.size
    result = Image.new("RGB", image.size)
    num_rows = max(1, _PIXELS_AT_ONCE // width)
    for top in range(0, height, num_rows):
        rows = image.crop((0, top, width, min(top + num_rows, height))).convert("RGBA")
        white = Image.new("RGBA", rows.size, (255, 255, 255, 255))
        result.paste(Image.alpha_composite(white, rows).convert("RGB"), (0, top))
    return result


def _upper_byte(image: Image.Image) -> np.ndarray:
    """Return a deep grey picture in 8 bits; PIL's own conversion would clip everything above 255.

    Integers count as 16 bits, in which PIL opens deep PNG and TIFF files. Real numbers range from 0 to 1, or to 255
    where one is greater than 1.
    """
    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
        return np.clip(values * (255.0 if values.max(initial=0.0) <= 1.0 else 1.0), 0, 255).astype(np.uint8)
    if values.dtype != np.uint16:
        values = np.clip(values, 0, 65535)
    return (values >> 8).astype(np.uint8)
