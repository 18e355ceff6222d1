"""What the readers of pictures share, beside what their own tests show."""

from __future__ import annotations

import pytest

from serve_app.models.image_file import decoded_image, has_several_frames
from tests.unit.models.images.pictures import encoded, noise, quarters


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((3300, 40), (1650, 20)),
        ((40, 3300), (20, 1650)),
        ((6500, 40), (1625, 10)),
        ((3100, 40), (3100, 40)),
        ((800, 800), (800, 800)),
    ],
)
def test_a_large_jpeg_may_be_decoded_at_a_part_of_its_size(size: tuple[int, int], decoded: tuple[int, int]) -> None:
    data = encoded(noise(*size), "JPEG")
    with decoded_image(data, at_least_px=1600) as image:
        assert image.size == decoded
    with decoded_image(data) as image:
        assert image.size == size


def test_other_files_are_decoded_whole() -> None:
    with decoded_image(encoded(noise(3300, 40), "PNG"), at_least_px=1600) as image:
        assert image.size == (3300, 40)


def test_several_frames_are_seen_without_decoding_them() -> None:
    frames = [quarters(), noise(64, 48)]
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        assert not has_several_frames(encoded(frames[0], kind))
        assert has_several_frames(encoded(frames[0], kind, save_all=True, append_images=frames[1:])), kind
    assert not has_several_frames(encoded(frames[0], "JPEG"))
