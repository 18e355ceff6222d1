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
from PIL import Image, ImageOps, UnidentifiedImageError

from serve_app.errors import ImageTooLarge, ImageUnreadable

MAX_PIXELS = 50_000_000  # a phone's 48 megapixels fit; as RGB it takes 150 MB

# No format that runs a program (EPS), draws by instructions (WMF) or is not a picture (PDF). JPEG includes MPO.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
_KNOWN = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"
# A progressive JPEG has some ten scans. Thousands of empty ones fit into a small file, and each costs a pass over the
# whole picture: 500 is the limit of libjpeg's own fuzzers, and a large picture may have fewer. Extended XMP has a
# segment for each 64 KB; 50 000 of them take seconds to read.
_MAX_SCANS = 500
_MAX_SCANNED_PIXELS = 1_000_000_000
_MAX_APP1_SEGMENTS = 1000
_START_OF_SCAN, _APP1 = b"\xff\xda", b"\xff\xe1"  # can't occur within a scan, where 0xff is followed by 0x00
_MAX_SIDE_PX = 65_535  # of JPEG; PIL keeps 8 bytes for each row beside its pixels
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
        raise ImageUnreadable("The file is empty")
    num_scans = _num_scans(data)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            _check_size(opened, num_scans, max_pixels)
            yield opened
    except UnidentifiedImageError:
        raise ImageUnreadable(f"The file is no picture of a known kind ({_KNOWN})") from None
    except Image.DecompressionBombError:
        raise _too_many(max_pixels) from None
    except (ImageUnreadable, ImageTooLarge):
        raise
    except Exception as error:  # PIL's plugins raise whatever their parsers meet: ValueError, IndexError, struct.error
        text = " ".join(str(error).split())[:200]
        # PIL quotes the object that it read from, with its address
        cause = text if text and " object at 0x" not in text else type(error).__name__
        raise ImageUnreadable(f"The picture is broken or cut off: {cause}") from error


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
        opened.load()
        with suppress(Exception):  # of broken metadata: the pixels are good
            ImageOps.exif_transpose(opened, in_place=True)
        yield _as_rgb(opened)


def has_several_frames(data: bytes) -> bool:
    """Return whether a file that can be decoded holds more pictures than its first."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
        try:
            return bool(getattr(opened, "is_animated", False))
        except Exception:  # of a broken second frame: the first one is good
            return True


def _num_scans(data: bytes) -> int:
    if not data.startswith(b"\xff\xd8"):
        return 1
    if data.count(_APP1) > _MAX_APP1_SEGMENTS:
        raise ImageUnreadable(f"The file is a JPEG with more than {_MAX_APP1_SEGMENTS} segments of metadata")
    num_scans = data.count(_START_OF_SCAN)
    if num_scans > _MAX_SCANS:
        raise ImageUnreadable(f"The file is a JPEG with more than {_MAX_SCANS} scans")
    return num_scans


def _check_size(image: Image.Image, num_scans: int, max_pixels: int) -> None:
    width, height = image.size
    # their conversion to RGB takes twice the memory
    is_large = image.mode.startswith(("I", "F")) or _is_transparent(image)
    limit = max_pixels // 2 if is_large else max_pixels
    if width * height > limit:
        raise _too_many(limit)
    if max(width, height) > _MAX_SIDE_PX:
        raise ImageTooLarge(f"The picture is more than {_MAX_SIDE_PX} pixels long")
    if num_scans * width * height > _MAX_SCANNED_PIXELS:
        raise ImageUnreadable(f"The file is a JPEG with {num_scans} scans, too many for its size")


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in _TRANSPARENT or "transparency" in image.info


def _too_many(max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(f"The picture has more than {max_pixels / 1e6:g} million pixels: send a smaller one")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_upper_byte(image)).convert("RGB")
    if _is_transparent(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


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
