import numpy as np

from serve_app.models.images.preprocessing import read_image
from tests.unit.training.images.made_pictures import write_picture
from training.images.folders import Sample
from training.images.pixels import decode


def test_pixels_are_what_is_served(tmp_path):
    paths = [write_picture(tmp_path / f"{seed}.jpg", (90, 120, 30), seed, side_px=70) for seed in range(3)]
    pixels = decode([Sample(path, index) for index, path in enumerate(paths)], threads=2)
    for index, path in enumerate(paths):
        assert np.array_equal(pixels.images[index], read_image(path.read_bytes()))
    assert pixels.labels.tolist() == [0, 1, 2]
    assert len(set(pixels.digests)) == 3


def test_what_cannot_be_read_is_named_and_left_out(tmp_path):
    good = write_picture(tmp_path / "good.jpg", (1, 2, 3))
    broken, cut = tmp_path / "broken.jpg", tmp_path / "cut.jpg"
    broken.write_bytes(b"no picture")
    cut.write_bytes(good.read_bytes()[:300])
    pixels = decode([Sample(path, 0) for path in (broken, good, cut, tmp_path / "gone.jpg")])
    assert [sample.path for sample in pixels.samples] == [good]
    assert len(pixels.images) == 1
    assert {path.name for path in pixels.unreadable} == {"broken.jpg", "cut.jpg", "gone.jpg"}
    assert all(pixels.unreadable.values())


def test_pictures_at_another_size(tmp_path):
    pixels = decode([Sample(write_picture(tmp_path / "a.jpg", (200, 100, 50)), 0)])
    small = pixels.at(np.array([0, 0]), 56)
    assert small.shape == (2, 56, 56, 3)
    assert np.abs(small[0].mean(axis=(0, 1)) - (200, 100, 50)).max() < 4
