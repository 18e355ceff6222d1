"""From a file's bytes to the pixels that torchvision's transforms give."""

from __future__ import annotations

import io
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from torchvision import transforms

from serve_app.errors import ImageTooLarge, ImageUnreadable
from serve_app.models import image_file
from serve_app.models.images.preprocessing import Fit, read_image
from tests.unit.models.images.pictures import QUARTERS, encoded, noise, png, quarters

# `image_file` hushes PIL itself, but pytest sets the filters anew for each test
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

PROJECT = Path(__file__).parents[4]
SAMPLES = PROJECT / "tests" / "data" / "images"
WHITE = (255, 255, 255)
CROP = transforms.Compose([transforms.Resize(224), transforms.CenterCrop(224)])
STRETCH = transforms.Resize((224, 224))
SIZES = [
    (1, 1),
    (1, 2),
    (3, 2),
    (7, 100),
    (223, 223),
    (224, 224),
    (225, 224),
    (224, 225),
    (223, 449),
    (300, 200),
    (333, 1000),
    (449, 448),
    (640, 480),
    (480, 640),
    (1000, 333),
    (1017, 763),
    (64, 1023),
    (1023, 64),
]


def plain(image: Image.Image, transform: Callable[[Image.Image], Image.Image] = CROP) -> np.ndarray:
    """Return what the notebooks' transforms make of an opened picture."""
    return np.asarray(transform(image.convert("RGB")))


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """Return a pixel within each quarter, as the quarters are numbered."""
    return [tuple(int(value) for value in pixels[y, x]) for y in (50, 174) for x in (50, 174)]


def assert_colours(found: list[tuple[int, ...]], expected: list[tuple[int, ...]], tolerance: int = 0) -> None:
    assert np.abs(np.subtract(found, expected)).max() <= tolerance, (found, expected)


def refusal(data: bytes, kind: type[Exception] = ImageUnreadable) -> str:
    with pytest.raises(kind) as caught:
        read_image(data)
    assert " at 0x" not in caught.value.detail
    assert "\n" not in caught.value.detail
    assert 10 < len(caught.value.detail) < 300
    return caught.value.detail


# As torchvision does it


@pytest.mark.parametrize("size", SIZES)
def test_the_crop_is_torchvisions_to_the_last_bit(size: tuple[int, int]) -> None:
    image = noise(*size)
    np.testing.assert_array_equal(read_image(encoded(image, "PNG")), plain(image))


def test_the_crop_is_torchvisions_for_sizes_nobody_thought_of() -> None:
    draw = random.Random(7)
    for _ in range(40):
        short = draw.randint(1, 320)
        size = [short, min(draw.randint(short, short * 15), 1500)]
        draw.shuffle(size)
        image = noise(*size)
        np.testing.assert_array_equal(read_image(encoded(image, "BMP")), plain(image), err_msg=str(size))


@pytest.mark.parametrize("size", [*SIZES, (3, 2000), (2000, 1)])
def test_stretching_is_torchvisions_to_the_last_bit(size: tuple[int, int]) -> None:
    image = noise(*size)
    np.testing.assert_array_equal(read_image(encoded(image, "PNG"), fit=Fit.STRETCH), plain(image, STRETCH))


def test_the_two_fits_differ() -> None:
    data = encoded(quarters(300, 200), "PNG")
    assert not np.array_equal(read_image(data), read_image(data, fit=Fit.STRETCH))


def test_a_lossy_file_gives_what_pil_and_torchvision_give() -> None:
    for kind, options in (("JPEG", {"quality": 60}), ("WEBP", {"quality": 60}), ("AVIF", {"quality": 60})):
        data = encoded(quarters(300, 400), kind, **options)
        np.testing.assert_array_equal(read_image(data), plain(Image.open(io.BytesIO(data))), err_msg=kind)


def test_a_large_jpeg_is_decoded_whole() -> None:
    """PIL's `draft` would decode at half the size, which is faster and other pixels."""
    data = encoded(noise(1800, 1350), "JPEG", quality=90)
    np.testing.assert_array_equal(read_image(data), plain(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("size", [(20, 400), (400, 20), (10, 1601), (1601, 10), (33, 3000), (1, 300)])
def test_a_strip_is_torchvisions_but_for_single_steps(size: tuple[int, int]) -> None:
    image = noise(*size)
    differences = np.abs(read_image(encoded(image, "PNG")).astype(int) - plain(image).astype(int))
    assert differences.max() <= 1
    assert differences.mean() < 0.3


@pytest.mark.parametrize("size", [(1, 65_535), (65_535, 1), (2, 65_000)])
def test_an_extreme_strip_costs_no_more_than_its_crop(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision would make 14.7 million rows of the first, 10 GB, to keep 224."""
    made: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def recorded(self: Image.Image, size: tuple[int, int], *args: object, **options: object) -> Image.Image:
        made.append(size)
        return resize(self, size, *args, **options)  # type: ignore[arg-type]

    length = max(size)
    ramp = (np.arange(length) * 255 // length).astype(np.uint8)[:, None].repeat(min(size), 1)
    image = Image.fromarray(ramp if size[1] == length else np.ascontiguousarray(ramp.T))
    data = encoded(image, "PNG")
    monkeypatch.setattr(Image.Image, "resize", recorded)
    pixels = read_image(data)
    assert pixels.shape == (224, 224, 3)
    assert np.abs(pixels.astype(int) - 127).max() <= 1  # the middle of the ramp
    assert made == [(224, 224)]


def test_pixels_are_bytes_in_rows() -> None:
    pixels = read_image(encoded(noise(300, 200), "PNG"))
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous) == ((224, 224, 3), np.uint8, True)


def test_nothing_of_it_loads_torch() -> None:
    code = "import sys, serve_app.models.images.preprocessing; print([n for n in sys.modules if n.startswith('torch')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Orientation


def stored_as(upright: np.ndarray, orientation: int) -> Image.Image:
    """Return the pixels that a camera stores under an orientation (EXIF 2.3, 4.6.4), for a picture that is upright."""
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    return Image.fromarray(np.ascontiguousarray(turned))


def orientation_of(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_the_cameras_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = noise(60, 90)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encoded(stored_as(np.asarray(upright), orientation), kind, exif=orientation_of(orientation), **options)
    np.testing.assert_array_equal(read_image(data), plain(upright))


@pytest.mark.parametrize("kind", ["JPEG", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied_to_lossy_files(kind: str, orientation: int) -> None:
    turned = stored_as(np.asarray(quarters()), orientation)
    data = encoded(turned, kind, exif=orientation_of(orientation), quality=95)
    assert_colours(corners(read_image(data)), list(QUARTERS), tolerance=8)


@pytest.mark.parametrize("depth", [np.uint16, np.uint8])
def test_the_cameras_orientation_is_applied_to_grey_files(depth: type) -> None:
    grey = np.linspace(0, np.iinfo(depth).max, 60 * 90).astype(depth).reshape(90, 60)
    turned = stored_as(grey, 6)
    upright = read_image(encoded(Image.fromarray(grey), "PNG"))
    assert int(upright[-1, 0, 0]) - int(upright[0, 0, 0]) > 100
    np.testing.assert_array_equal(read_image(encoded(turned, "PNG", exif=orientation_of(6))), upright)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_a_broken_orientation_costs_nothing(exif: bytes) -> None:
    image = quarters()
    np.testing.assert_array_equal(read_image(encoded(image, "PNG", exif=exif)), plain(image))


@pytest.mark.parametrize("number", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(number: int) -> None:
    image = quarters()
    np.testing.assert_array_equal(read_image(encoded(image, "PNG", exif=orientation_of(number))), plain(image))


# Kinds of pixels


def with_alpha(alpha: int) -> Image.Image:
    """Return the quarters, the lower ones as transparent as `alpha` says."""
    image = quarters()
    mask = Image.new("L", image.size, 255)
    mask.paste(alpha, (0, 24, 64, 48))
    image.putalpha(mask)
    return image


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {}), ("AVIF", {"quality": 100})],
)
def test_what_is_transparent_is_white(kind: str, options: dict[str, object]) -> None:
    tolerance = 8 if kind == "AVIF" else 0
    expected = [*QUARTERS[:2], WHITE, WHITE]
    assert_colours(corners(read_image(encoded(with_alpha(0), kind, **options))), expected, tolerance)


def test_what_is_half_transparent_is_mixed_with_white() -> None:
    half = [tuple(round((value + 255) / 2) for value in colour) for colour in QUARTERS[2:]]
    assert_colours(corners(read_image(encoded(with_alpha(128), "PNG"))), [*QUARTERS[:2], *half], tolerance=1)


def test_grey_with_alpha_lies_on_white() -> None:
    image = Image.new("LA", (64, 48), (60, 255))
    image.paste((60, 0), (0, 24, 64, 48))
    assert_colours(corners(read_image(encoded(image, "PNG"))), [(60,) * 3, (60,) * 3, WHITE, WHITE])


@pytest.mark.parametrize("transparency", [2, bytes([255, 255, 0, 255])])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_is_white(kind: str, transparency: int | bytes) -> None:
    if kind == "GIF" and isinstance(transparency, bytes):
        transparency = 2  # the only form that GIF has
    image = Image.new("P", (64, 48))
    image.putpalette([value for colour in QUARTERS for value in colour])
    for number, box in enumerate([(0, 0, 32, 24), (32, 0, 64, 24), (0, 24, 32, 48), (32, 24, 64, 48)]):
        image.paste(number, box)
    data = encoded(image, kind, transparency=transparency, **({"optimize": False} if kind == "GIF" else {}))
    assert_colours(corners(read_image(data)), [*QUARTERS[:2], WHITE, QUARTERS[3]])


def test_a_palette_may_be_half_transparent() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([200, 0, 0])
    assert_colours(corners(read_image(encoded(image, "PNG", transparency=bytes([128])))), [(227, 127, 127)] * 4, 1)


def test_a_transparent_colour_of_an_rgb_picture_is_white() -> None:
    data = encoded(quarters(), "PNG", transparency=QUARTERS[1])
    assert_colours(corners(read_image(data)), [QUARTERS[0], WHITE, *QUARTERS[2:]])


@pytest.mark.parametrize(("mode", "transparency"), [("L", 0), ("1", 0)])
def test_a_transparent_grey_is_white(mode: str, transparency: int) -> None:
    assert_colours(
        corners(read_image(encoded(Image.new(mode, (9, 9), 0), "PNG", transparency=transparency))), [WHITE] * 4
    )


def test_grey_becomes_three_equal_channels() -> None:
    grey = noise(70, 50).convert("L")
    pixels = read_image(encoded(grey, "PNG"))
    np.testing.assert_array_equal(pixels, plain(grey))
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_one_bit_is_black_and_white() -> None:
    image = noise(300, 300).convert("1")
    np.testing.assert_array_equal(read_image(encoded(image, "PNG")), plain(image))


def test_the_colours_of_a_cmyk_jpeg_are_pils() -> None:
    data = encoded(quarters().convert("CMYK"), "JPEG", quality=95)
    opened = Image.open(io.BytesIO(data))
    assert opened.mode == "CMYK"
    assert_colours(corners(read_image(data)), list(QUARTERS), tolerance=8)
    np.testing.assert_array_equal(read_image(data), plain(opened))


def test_of_sixteen_bits_of_grey_the_upper_ones_count() -> None:
    grey = np.repeat(np.array([[0, 0x1234, 0x80FF, 0xFFFF]], np.uint16), 4, axis=0)
    data = encoded(Image.fromarray(grey), "PNG")
    assert Image.open(io.BytesIO(data)).mode.startswith("I")
    eight = Image.fromarray((grey >> 8).astype(np.uint8))
    np.testing.assert_array_equal(read_image(data), plain(eight))


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_of_a_tiff_count_in_either_order_of_bytes(order: str) -> None:
    grey = np.full((5, 5), 0x90FF, f"{order}u2")
    image = Image.frombytes("I;16" if order == "<" else "I;16B", (5, 5), grey.tobytes())
    assert_colours(corners(read_image(encoded(image, "TIFF"))), [(0x90,) * 3] * 4)


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_sixteen_bits_a_channel(colour_type: int, channels: int) -> None:
    opaque = (0x20AB, 0x90CD, 0xF0EF, 0xFFFF) if channels != 2 else (0x90CD, 0xFFFF)
    rows = np.tile(np.array(opaque[:channels], ">u2"), 30 * 20).tobytes()
    expected = (0x20, 0x90, 0xF0) if channels != 2 else (0x90,) * 3
    assert_colours(corners(read_image(png(30, 20, 16, colour_type, rows))), [expected] * 4)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_real_numbers_reach_to_one_or_to_255(scale: float) -> None:
    values = np.linspace(0.0, scale, 224 * 224, dtype=np.float32).reshape(224, 224)
    pixels = read_image(encoded(Image.fromarray(values), "TIFF"))
    assert np.abs(pixels[..., 1] - values / scale * 255).max() <= 1.0


def test_real_numbers_that_are_none_are_no_accident() -> None:
    values = np.array([[np.nan, np.inf], [-np.inf, 0.5]], np.float32).repeat(112, 0).repeat(112, 1)
    assert corners(read_image(encoded(Image.fromarray(values), "TIFF"))) == [(0,) * 3, WHITE, (0,) * 3, (127,) * 3]


def test_negative_and_huge_integers_are_cut_off() -> None:
    values = np.array([[-5, 70_000], [0x7F00, 2**31 - 1]], np.int32).repeat(112, 0).repeat(112, 1)
    assert corners(read_image(encoded(Image.fromarray(values), "TIFF"))) == [(0,) * 3, WHITE, (0x7F,) * 3, WHITE]


# Kinds of files


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_of_several_frames_the_first_counts(kind: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in QUARTERS]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    with Image.open(io.BytesIO(data)) as opened:
        assert getattr(opened, "n_frames", 1) == 4
    assert_colours(corners(read_image(data)), [QUARTERS[0]] * 4, tolerance=8)


def test_of_a_cameras_two_pictures_the_first_counts() -> None:
    data = encoded(quarters(), "MPO", save_all=True, append_images=[noise(64, 48)], quality=95)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert_colours(corners(read_image(data)), list(QUARTERS), tolerance=8)


def test_a_progressive_jpeg_is_read() -> None:
    data = encoded(quarters(300, 200), "JPEG", progressive=True, quality=90)
    assert data.count(b"\xff\xda") > 5
    np.testing.assert_array_equal(read_image(data), plain(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_kind_is_read(kind: str) -> None:
    data = encoded(quarters(), kind, **({"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {}))
    assert_colours(corners(read_image(data)), list(QUARTERS), tolerance=12)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_every_compression_of_tiff_is_read(compression: str) -> None:
    data = encoded(quarters(), "TIFF", compression=compression)
    assert_colours(corners(read_image(data)), list(QUARTERS), tolerance=8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("upright.heic", QUARTERS),
        ("turned.heic", QUARTERS),
        ("deep.heic", QUARTERS),
        ("transparent.heic", (*QUARTERS[:2], WHITE, WHITE)),
    ],
)
def test_heic_is_read(name: str, expected: tuple[tuple[int, ...], ...]) -> None:
    assert_colours(corners(read_image((SAMPLES / name).read_bytes())), list(expected), tolerance=4)


def test_a_turned_heic_is_turned_once() -> None:
    data = (SAMPLES / "turned.heic").read_bytes()
    upright = (SAMPLES / "upright.heic").read_bytes()
    assert b"irot" in data
    assert b"irot" not in upright
    assert np.abs(read_image(data).astype(int) - read_image(upright)).mean() < 2


# Too large


def gif(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + b"\0\0\0\xff\xff\xff,\0\0\0\0"
        + struct.pack("<HHB", width, height, 0)
        + b"\x02\x02\x4c\x01\x00;"
    )


def small_screen_gif(width: int, height: int) -> bytes:
    """Return a GIF whose screen is small, and whose first frame is not."""
    data = bytearray(gif(width, height))
    data[6:10] = struct.pack("<HH", 1, 1)
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def patched_jpeg(width: int, height: int) -> bytes:
    data = bytearray(encoded(quarters(), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def patched_webp(width: int, height: int) -> bytes:
    data = bytearray(encoded(with_alpha(3), "WEBP", quality=50))
    start = data.index(b"VP8X") + 12
    data[start : start + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def patched_tiff(width: int, height: int) -> bytes:
    data = encoded(quarters(), "TIFF")
    opened = Image.open(io.BytesIO(data))
    start = struct.unpack("<I", data[4:8])[0]
    changed = bytearray(data)
    for number in range(struct.unpack("<H", data[start : start + 2])[0]):
        entry = start + 2 + 12 * number
        tag = struct.unpack("<H", data[entry : entry + 2])[0]
        if tag in (256, 257):
            changed[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, width if tag == 256 else height)
    assert opened.size == (64, 48)
    return bytes(changed)


@pytest.mark.parametrize(
    "data",
    [
        png(60_000, 60_000, 8, 2, b""),
        png(8_000, 8_000, 1, 0, b""),
        png(2**31 - 1, 1, 8, 0, b""),
        gif(65_535, 65_535),
        gif(9_000, 9_000),
        small_screen_gif(60_000, 60_000),
        small_screen_gif(9_000, 9_000),
        bmp(60_000, 60_000),
        bmp(9_000, -9_000),
        patched_jpeg(60_000, 60_000),
        patched_jpeg(9_000, 9_000),
        patched_tiff(60_000, 60_000),
        patched_tiff(9_000, 9_000),
    ],
    ids=lambda data: f"{data[:4]!r}",
)
def test_a_bomb_is_refused_before_it_is_decoded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for decoding in (
        ImageFile.ImageFile,
        *{type(Image.open(io.BytesIO(encoded(quarters(), kind)))) for kind in _KINDS},
    ):
        monkeypatch.setattr(decoding, "load", lambda self: pytest.fail("it was decoded"))
    assert refusal(data, ImageTooLarge) == "The picture has more than 50 million pixels: send a smaller one"


_KINDS = ("PNG", "GIF", "BMP", "JPEG", "TIFF", "WEBP")


def test_a_webp_that_claims_too_much_is_refused() -> None:
    data = patched_webp(16_000, 16_000)
    with pytest.raises((ImageTooLarge, ImageUnreadable)):  # libwebp may look at the frame within before PIL sees a size
        read_image(data)


@pytest.mark.parametrize("name", ["upright.heic", "turned.heic"])
def test_a_heic_that_claims_too_much_is_refused(name: str) -> None:
    data = bytearray((SAMPLES / name).read_bytes())
    start = data.index(b"ispe") + 8
    data[start : start + 8] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises((ImageTooLarge, ImageUnreadable)):  # libheif may refuse it first, having limits of its own
        read_image(bytes(data))


def test_bombs_take_no_memory() -> None:
    """In a process of its own, whose memory may not grow by more than 200 MB: a decoded bomb takes 10 GB."""
    bombs = [png(60_000, 60_000, 8, 2, b""), gif(65_535, 65_535), bmp(60_000, 60_000), patched_tiff(60_000, 60_000)]
    bombs += [patched_jpeg(60_000, 60_000), small_screen_gif(60_000, 60_000), patched_webp(16_000, 16_000)]
    code = (
        "import resource, sys, pickle\n"
        "from serve_app.errors import ImageTooLarge, ImageUnreadable\n"
        "from serve_app.models.images.preprocessing import read_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for data in pickle.load(sys.stdin.buffer):\n"
        "    try: read_image(data)\n"
        "    except (ImageTooLarge, ImageUnreadable): print('refused')\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(bombs), capture_output=True, check=True)
    *refused, grown_mb = done.stdout.decode().split()
    assert refused == ["refused"] * len(bombs)
    assert int(grown_mb) < 200


@pytest.mark.parametrize(("pixels", "fits"), [(48 * 64, True), (48 * 64 - 1, False)])
def test_the_limit_is_the_callers(pixels: int, fits: bool) -> None:
    data = encoded(quarters(), "PNG")
    if fits:
        assert_colours(corners(read_image(data, max_pixels=pixels)), list(QUARTERS))
    else:
        with pytest.raises(ImageTooLarge):
            read_image(data, max_pixels=pixels)


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    data = encoded(quarters(), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    assert "500 scans" in refusal(data[:-2] + data[scan:-2] * 3000 + data[-2:])


def test_a_large_jpeg_may_have_fewer_scans() -> None:
    data = encoded(noise(2400, 1600), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    assert "300 scans, too many for its size" in refusal(
        data[:-2] + data[scan:-2] * (300 - data.count(b"\xff\xda")) + data[-2:]
    )


def test_a_jpeg_of_thousands_of_segments_is_refused() -> None:
    data = encoded(quarters(), "JPEG")
    segment = b"\xff\xe1\x00\x08Exif\x00\x00"
    assert "1000 segments of metadata" in refusal(data[:2] + segment * 1001 + data[2:])
    assert_colours(corners(read_image(data[:2] + segment * 300 + data[2:])), list(QUARTERS), tolerance=40)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "F"])
def test_what_takes_more_memory_may_have_half_the_pixels(mode: str) -> None:
    kind = "TIFF" if mode == "F" else "PNG"
    data = encoded(Image.new(mode, (40, 30)), kind)
    with pytest.raises(ImageTooLarge, match=r"0\.0011 million"):
        read_image(data, max_pixels=2200)
    assert read_image(data, max_pixels=2400).shape == (224, 224, 3)


def test_nothing_is_longer_than_a_jpeg_can_be() -> None:
    """PIL's rows cost 8 bytes each beside their pixels: 49 million rows of one pixel took a gigabyte."""
    with pytest.raises(ImageTooLarge, match="65535 pixels long"):
        read_image(encoded(Image.new("L", (1, 65_536)), "PNG"))


def test_a_photograph_of_many_scans_is_not() -> None:
    data = encoded(quarters(), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    several = data[:-2] + data[scan:-2] * 20 + data[-2:]
    assert_colours(corners(read_image(several)), list(QUARTERS), tolerance=40)


# No picture


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr(zipfile.ZipInfo("picture.png"), encoded(quarters(), "PNG"))
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"a cup of coffee",
        b"\0" * 4000,
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a\n",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj<<>>endobj",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(cat /etc/passwd) run\nshowpage\n",
        encoded(quarters(), "EPS"),
        encoded(quarters(), "PDF"),
        encoded(quarters(), "PPM"),
        encoded(quarters(), "ICO"),
        encoded(quarters(), "TGA"),
        encoded(quarters(), "JPEG2000"),
        b"\xd7\xcd\xc6\x9a" + b"\0" * 40,  # WMF
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
        b"<html><body>413 Request Entity Too Large</body></html>",
        archive(),
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\0\0\0\x08free",
        b"RIFF\x24\0\0\0WAVEfmt ",
    ],
    ids=lambda data: f"{data[:12]!r}",
)
def test_what_is_no_picture_is_said(data: bytes) -> None:
    assert "no picture of a known kind (JPEG, PNG" in refusal(data)


def test_an_empty_file_is_said() -> None:
    assert refusal(b"") == "The file is empty"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_file_that_was_cut_off_is_said(kind: str) -> None:
    data = encoded(noise(90, 70), kind)
    told = refusal(data[: len(data) // 2])
    assert "broken or cut off" in told or (kind in ("WEBP", "AVIF") and "no picture of a known kind" in told)


def test_a_heic_that_was_cut_off_is_said() -> None:
    data = (SAMPLES / "upright.heic").read_bytes()
    refusal(data[:-100])


def test_pils_own_trouble_becomes_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (
        IndexError("list index"),
        struct.error("unpack"),
        SyntaxError("broken PNG"),
        KeyError(3),
    ):
        monkeypatch.setattr(image_file, "_as_rgb", _raise(error))
        assert "broken or cut off" in refusal(encoded(quarters(), "PNG"))


def test_want_of_memory_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_file, "_as_rgb", _raise(MemoryError()))
    with pytest.raises(MemoryError):
        read_image(encoded(quarters(), "PNG"))


def test_no_address_of_an_object_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_file, "_as_rgb", _raise(OSError("cannot read <_io.BytesIO object at 0x7f00aa>")))
    assert refusal(encoded(quarters(), "PNG")) == "The picture is broken or cut off: OSError"


def _raise(error: Exception) -> Callable[[Image.Image], Image.Image]:
    def fail(image: Image.Image) -> Image.Image:
        raise error

    return fail


def seeds() -> list[bytes]:
    small = quarters(32, 24)
    files = [encoded(small, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")]
    files += [
        encoded(small, "JPEG", progressive=True, exif=orientation_of(6)),
        encoded(small, "TIFF", compression="tiff_lzw"),
        encoded(small.quantize(9), "PNG", transparency=1),
        encoded(small, "GIF", save_all=True, append_images=[noise(32, 24)]),
        (SAMPLES / "turned.heic").read_bytes(),
    ]
    return files


def test_whatever_bytes_give_a_picture_or_a_refusal() -> None:
    """480 files with a few bytes changed, lost, doubled or swapped; the same ones every time."""
    draw = random.Random(20261127)
    num_read = num_refused = 0
    for data in seeds():
        for _ in range(40):
            broken = bytearray(data)
            for _ in range(draw.randint(1, 4)):
                at = draw.randrange(min(len(broken), 400) if draw.random() < 0.7 else len(broken))
                match draw.randrange(4):
                    case 0:
                        broken[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
                    case 1:
                        del broken[at : at + draw.randint(1, 8)]
                    case 2:
                        broken[at:at] = broken[at : at + draw.randint(1, 30)]
                    case 3:
                        broken[at : at + 4] = struct.pack(">I", draw.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1)))
            try:
                pixels = read_image(bytes(broken), max_pixels=1_000_000)
            except (ImageUnreadable, ImageTooLarge) as error:
                assert " at 0x" not in error.detail  # noqa: PT017 (of one error in hundreds)
                num_refused += 1
            else:
                assert (pixels.shape, pixels.dtype) == ((224, 224, 3), np.uint8)
                num_read += 1
    assert num_read > 50  # the bytes that were changed reached the decoders
    assert num_refused > 50
