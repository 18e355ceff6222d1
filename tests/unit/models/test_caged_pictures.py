"""Pictures in processes of their own: the same pixels, the promised memory, and files that end their decoders."""

from __future__ import annotations

import io
from collections.abc import Generator
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from serve_app.errors import ImageTooLarge, ImageUnreadable
from serve_app.media.cage import Cage, Limits
from serve_app.models import caged_pictures
from serve_app.models.caged_pictures import check_caged, prepare_caged, read_caged
from serve_app.models.captions.picture import prepare_picture
from serve_app.models.image_file import has_several_frames
from serve_app.models.images.preprocessing import Fit, read_image
from tests.unit.models.picture_bombs import BOMBS, QUICK, by_pil

MOST = 50_000_000
PROMISED_MB = 500.0  # of a picture of up to 50 million pixels


def noise(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    channels = len(mode)
    values = np.random.default_rng(3).integers(0, 256, (300, 400, channels), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values.squeeze()).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "data", [noise("JPEG"), noise("PNG", "RGBA"), noise("WEBP", "RGBA"), noise("TIFF"), noise("GIF"), noise("AVIF")]
)
def test_pixels_are_those_of_the_decoder_in_process(data: bytes) -> None:
    for fit in Fit:
        np.testing.assert_array_equal(read_caged(data, fit, MOST), read_image(data, fit=fit))
    assert prepare_caged(data, max_pixels=MOST) == prepare_picture(data, max_pixels=MOST)
    check_caged(data, max_pixels=MOST)


def test_errors_keep_their_kind() -> None:
    for call in (
        lambda data: read_caged(data, Fit.CROP, 1000),
        lambda data: prepare_caged(data, max_pixels=1000),
        lambda data: check_caged(data, max_pixels=1000),
    ):
        with pytest.raises(ImageUnreadable, match="empty"):
            call(b"")
        with pytest.raises(ImageUnreadable, match="no picture of a known kind"):
            call(b"MZ" + bytes(100))
        with pytest.raises(ImageTooLarge, match="million pixels"):
            call(by_pil("PNG", (100, 100)))


def test_transparent_pictures_are_laid_on_white_as_at_once() -> None:
    values = np.random.default_rng(5).integers(0, 256, (2100, 1000, 4), dtype=np.uint8)  # more rows than go at once
    image = Image.fromarray(values, "RGBA")
    file = io.BytesIO()
    image.resize((1000, 2100)).save(file, "PNG", compress_level=1)
    whole = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
    opaque = io.BytesIO()
    whole.save(opaque, "PNG", compress_level=1)
    np.testing.assert_array_equal(read_image(file.getvalue()), read_image(opaque.getvalue()))


def peaks(file: BinaryIO, *, max_pixels: int) -> Generator[np.ndarray, None, dict[str, Any]]:
    """Run in the cage: decode for the network, and say what it took."""
    from pathlib import Path

    def peak_mb() -> float:
        return (
            next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
            * 1024
            / 1e6
        )

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before_mb = peak_mb()
    try:
        told = "x".join(map(str, read_image(file.read(), max_pixels=max_pixels).shape))
    except (ImageUnreadable, ImageTooLarge) as error:
        told = error.detail
    yield np.zeros(1, np.uint8)
    return {"peak_mb": peak_mb() - before_mb, "told": told}


def took(cage: Cage, name: str) -> tuple[float, str]:
    data = BOMBS[name]()
    limits = caged_pictures.limits(len(data), MOST)
    limits = Limits(memory_bytes=limits.memory_bytes, cpu_s=120.0, wall_s=600.0)
    try:
        _, value = cage.call(f"{__name__}:peaks", data, {"max_pixels": MOST}, limits)
    except ImageUnreadable as error:
        return 0.0, error.detail
    return value["peak_mb"], value["told"]


@pytest.fixture(scope="module")
def cage() -> Generator[Cage]:
    made = Cage(ImageUnreadable, "picture", [__name__])
    made.call(f"{__name__}:peaks", b"", {"max_pixels": MOST}, caged_pictures.limits(0, MOST))
    yield made
    made.close()


@pytest.mark.parametrize("name", QUICK)
def test_small_files_that_claim_much_are_refused_before_they_take_it(cage: Cage, name: str) -> None:
    peak_mb, told = took(cage, name)
    assert told != "224x224x3"
    assert "memory to decode" not in told  # a rule says so, not the limit
    assert peak_mb < 60


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BOMBS if name not in QUICK])
def test_every_picture_keeps_to_the_promised_memory(cage: Cage, name: str) -> None:
    """All in one worker, one after the other."""
    peak_mb, told = took(cage, name)
    assert peak_mb <= PROMISED_MB, told


def test_a_picture_that_takes_more_than_its_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caged_pictures, "BYTES_PER_PIXEL", 1)
    with pytest.raises(ImageUnreadable, match="The picture takes more than 67 MB of memory to decode"):
        read_caged(by_pil("PNG", (6000, 6000)), Fit.CROP, MOST)


def test_large_webp_fits_its_limits_also_where_its_frames_are_counted() -> None:
    """libwebp takes 16 bytes a pixel at once: a second look at the file must not come on top of the first picture."""
    file = io.BytesIO()
    Image.new("RGB", (6300, 4700), (10, 200, 30)).save(file, "WEBP", quality=50, method=0)
    assert prepare_caged(file.getvalue(), max_pixels=MOST).width == 1600


def test_frames_that_no_memory_is_left_to_count_fail_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*args: object, **options: object) -> None:
        raise OSError("could not create decoder object")

    monkeypatch.setattr("serve_app.models.image_file.Image.open", no_memory)
    assert not has_several_frames(b"a picture")
