"""From a caller's file to a clean JPEG."""

from __future__ import annotations

import hashlib
import io
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from serve_app.errors import ImageTooLarge, ImageUnreadable
from serve_app.models.captions.picture import check_picture_header, prepare_picture
from tests.unit.models.captions.drawn import plain, striped
from tests.unit.models.images.pictures import QUARTERS, encoded, noise, png, quarters

PROJECT = Path(__file__).parents[4]
SAMPLES = PROJECT / "tests" / "data" / "images"
MOST = 1_000_000
SECRETS = (b"Exif", b"GPS", b"SECRET", b"ICC_PROFILE", b"XMP", b"http://ns.adobe.com")


def opened(jpeg: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(jpeg), formats=["JPEG"])
    image.load()
    return image


def numbers(value: object) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers(each)


def files_with_metadata() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x010E] = "SECRET description"
    exif[0x8825] = {1: "N", 2: (37.0, 33.0, 59.0)}
    profile = b"SECRET profile" * 20
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "SECRET text")
    xmp = b"<x:xmpmeta>SECRET</x:xmpmeta>"
    image = quarters()
    described = Image.Exif()
    described[0x010E] = "SECRET description"
    return {
        "jpeg": encoded(image, "JPEG", exif=exif, comment=b"SECRET comment", icc_profile=profile, xmp=xmp),
        "png": encoded(image, "PNG", exif=exif, pnginfo=text, icc_profile=profile),
        "webp": encoded(image, "WEBP", exif=exif, icc_profile=profile, xmp=xmp),
        "gif": encoded(image, "GIF", comment=b"SECRET comment"),
        "tiff": encoded(image, "TIFF", exif=described, icc_profile=profile),
    }


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "tiff"])
def test_nothing_but_pixels_survives(kind: str) -> None:
    data = files_with_metadata()[kind]
    assert b"SECRET" in data
    picture = prepare_picture(data, max_pixels=MOST)
    assert [secret for secret in SECRETS if secret in picture.jpeg] == []
    image = opened(picture.jpeg)
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert not image.getexif()


def test_the_picture_stays_as_it_was_and_knows_its_hash() -> None:
    picture = prepare_picture(encoded(quarters(80, 60), "PNG"), max_pixels=MOST)
    image = opened(picture.jpeg)
    assert (picture.width, picture.height) == image.size == (80, 60)
    found = [image.getpixel(place) for place in ((20, 15), (60, 15), (20, 45), (60, 45))]
    assert np.abs(np.subtract(found, QUARTERS)).max() <= 4
    assert picture.sha256 == hashlib.sha256(picture.jpeg).hexdigest()
    assert picture.notes == ()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "expected"),
    [((2400, 1200), (1600, 800)), ((1200, 3600), (533, 1600)), ((1600, 1600), (1600, 1600)), ((5000, 2), (1600, 1))],
)
def test_only_a_large_picture_is_made_smaller(kind: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = prepare_picture(encoded(plain("green", size), kind), max_pixels=50_000_000)
    assert (picture.width, picture.height) == expected == opened(picture.jpeg).size


def test_the_same_file_gives_the_same_bytes_and_another_file_others() -> None:
    data = encoded(noise(300, 200), "PNG")
    first, again = (prepare_picture(data, max_pixels=MOST) for _ in range(2))
    assert first == again
    assert prepare_picture(encoded(noise(300, 200, seed=1), "PNG"), max_pixels=MOST).sha256 != first.sha256


def test_a_picture_is_turned_upright_as_its_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is on the right
    data = encoded(striped("red", "blue", size=(40, 60)), "JPEG", exif=exif, quality=95)
    image = opened(prepare_picture(data, max_pixels=MOST).jpeg)
    assert image.size == (60, 40)
    left, right = image.getpixel((10, 20)), image.getpixel((50, 20))
    assert left[2] > 200 > 60 > left[0]
    assert right[0] > 200 > 60 > right[2]


def test_a_heic_picture_of_a_phone_is_read() -> None:
    turned = prepare_picture((SAMPLES / "turned.heic").read_bytes(), max_pixels=MOST)
    upright = prepare_picture((SAMPLES / "upright.heic").read_bytes(), max_pixels=MOST)
    assert (turned.width, turned.height) == (upright.width, upright.height)


def test_transparent_pixels_are_white() -> None:
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    picture = prepare_picture(encoded(image, "PNG"), max_pixels=MOST)
    assert opened(picture.jpeg).getpixel((20, 20)) == (255, 255, 255)
    assert picture.features.colors == (("white", 1.0),)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken_with_a_note(kind: str) -> None:
    data = encoded(plain("red"), kind, save_all=True, append_images=[plain("blue"), plain("green")])
    picture = prepare_picture(data, max_pixels=MOST)
    assert picture.features.colors == (("red", 1.0),)
    assert picture.notes == ("The file holds several pictures; only the first was taken",)


def test_a_broken_second_frame_harms_nothing() -> None:
    data = encoded(plain("red"), "GIF", save_all=True, append_images=[plain("blue"), plain("green")])
    first_only = encoded(plain("red"), "GIF")
    cut = data[: len(first_only) + 8]
    picture = prepare_picture(cut, max_pixels=MOST)
    assert picture.features.colors == (("red", 1.0),)


@pytest.mark.parametrize(
    "image",
    [
        plain("red", (1, 1)),
        plain("black"),
        plain("white"),
        plain((127, 127, 127)),
        plain("red", (1, 10_000)),
        plain("blue", (10_000, 1)),
        plain("blue", (2, 2)),
        Image.new("RGBA", (9, 9)),
        Image.new("L", (9, 9), 30),
        Image.new("1", (9, 9)),
        Image.new("P", (9, 9)),
        Image.new("I;16", (9, 9), 65_535),
        noise(200, 100),
    ],
    ids=lambda image: f"{image.mode}-{image.width}x{image.height}",
)
def test_any_picture_has_finite_measurements_in_their_ranges(image: Image.Image) -> None:
    picture = prepare_picture(encoded(image, "PNG"), max_pixels=MOST)
    features = asdict(picture.features)
    assert all(math.isfinite(value) for value in numbers(features))
    assert -1.0 <= features.pop("warmth") <= 1.0
    assert all(0.0 <= value <= 1.0 for value in numbers(features))
    assert len(picture.features.contour) == 16
    assert picture.features.colors


# Refused


def test_a_file_that_is_no_picture_is_refused_by_both() -> None:
    for data in (b"", b"hello", b"%PDF-1.4", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n"):
        for check in (prepare_picture, check_picture_header):
            with pytest.raises(ImageUnreadable):
                check(data, max_pixels=MOST)


def test_a_large_picture_is_refused_by_its_header() -> None:
    header = png(30_000, 1000, 8, 2, b"")  # no pixels follow
    for check in (prepare_picture, check_picture_header):
        with pytest.raises(ImageTooLarge, match="send a smaller one"):
            check(header, max_pixels=MOST)


def test_the_header_of_a_broken_picture_passes_and_its_pixels_do_not() -> None:
    data = encoded(noise(300, 200), "PNG")[:-5000]
    check_picture_header(data, max_pixels=MOST)
    with pytest.raises(ImageUnreadable, match="broken or cut off"):
        prepare_picture(data, max_pixels=MOST)


def test_a_file_is_checked_from_its_beginning_and_given_back_there() -> None:
    file = io.BytesIO(encoded(quarters(), "PNG"))
    file.seek(7)
    check_picture_header(file, max_pixels=MOST)
    assert file.tell() == 0
    with pytest.raises(ImageTooLarge):
        check_picture_header(file, max_pixels=100)


def test_a_jpeg_of_many_scans_is_refused_by_its_header() -> None:
    data = encoded(quarters(), "JPEG")
    with pytest.raises(ImageUnreadable, match="scans"):
        check_picture_header(data[:-2] + b"\xff\xda" * 600 + data[-2:], max_pixels=MOST)


def test_neither_torch_nor_ray_nor_transformers_is_loaded() -> None:
    modules = "picture, embedded, chat, options"
    code = f"import sys; from serve_app.models.captions import {modules}; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in eval(done.stdout)}
    assert {"numpy", "PIL"} <= loaded
    assert loaded & {"torch", "ray", "transformers", "scipy", "fastapi"} == set()
