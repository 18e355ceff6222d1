"""What is measured in a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from serve_app.models.captions.features import lab_of, measure_features
from tests.unit.models.captions.drawn import plain, striped
from tests.unit.models.images.pictures import noise

# sRGB → CIE Lab (D65), as published tables give them
LAB = {
    (255, 255, 255): (100.0, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (119, 119, 119): (50.03, 0.0, 0.0),
}


@pytest.mark.parametrize("rgb", LAB)
def test_lab_is_cies(rgb: tuple[int, int, int]) -> None:
    np.testing.assert_allclose(lab_of(np.array(rgb, dtype=float)), LAB[rgb], atol=0.02)


def test_no_color_of_srgb_is_more_than_fully_saturated() -> None:
    steps = np.linspace(0, 255, 33)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    lab = lab_of(cube)
    most = float(np.hypot(lab[:, 1], lab[:, 2]).max())
    assert measure_features(plain((0, 0, 255))).saturation == pytest.approx(1.0, abs=1e-3)
    assert most == pytest.approx(133.81, abs=0.01)


def test_brightness_is_lightness_and_not_the_mean_of_bytes() -> None:
    assert measure_features(plain("black")).brightness == 0.0
    assert measure_features(plain("white")).brightness == pytest.approx(1.0)
    assert measure_features(plain((119, 119, 119))).brightness == pytest.approx(0.5, abs=0.005)
    assert measure_features(plain("yellow")).brightness > 0.9 > 0.4 > measure_features(plain("blue")).brightness


def test_warmth_reaches_from_blue_to_yellow_and_grey_has_none() -> None:
    warmth = {name: measure_features(plain(name)).warmth for name in ("red", "yellow", "blue", "cyan", "lime", "grey")}
    assert min(warmth["red"], warmth["yellow"]) > 0.95
    assert max(warmth["blue"], warmth["cyan"]) < -0.95
    assert warmth["lime"] == warmth["grey"] == 0.0
    assert abs(measure_features(plain((128, 127, 126))).warmth) < 0.3  # a tint that nobody sees
    mixed = measure_features(striped("red", "blue"))
    assert abs(mixed.warmth) < 0.02


def test_contrast_is_largest_between_black_and_white_halves() -> None:
    assert measure_features(striped("black", "white")).contrast == pytest.approx(1.0, abs=0.01)
    assert measure_features(striped((100, 100, 100), (140, 140, 140))).contrast < 0.25
    assert measure_features(plain("red")).contrast == 0.0


def test_colorfulness_follows_hasler_and_suesstrunk() -> None:
    """Four fields whose opponent channels have known means and deviations."""
    image = striped((255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128))
    red_green = np.array([255.0, -255.0, 0.0, 0.0])
    yellow_blue = np.array([127.5, 127.5, -255.0, 0.0])
    expected = np.hypot(red_green.std(), yellow_blue.std()) + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean())
    assert expected > 109
    assert measure_features(image).colorfulness == 1.0
    pale = measure_features(striped((140, 120, 128), (120, 140, 128)))
    assert pale.colorfulness == pytest.approx(np.hypot(20.0, 0.0) / 109.0 + 0.3 * 2.0 / 109.0, abs=0.01)
    assert measure_features(plain("grey")).colorfulness == 0.0


def test_edges_and_entropy_grow_with_detail() -> None:
    calm, busy = plain((90, 120, 90)), noise(200, 200)
    blurred = noise(200, 200).filter(ImageFilter.GaussianBlur(6))
    edges = [measure_features(image).edge_density for image in (calm, blurred, busy)]
    entropies = [measure_features(image).entropy for image in (calm, blurred, busy)]
    assert edges[0] == 0.0
    assert edges[0] <= edges[1] < 0.1 < 0.7 < edges[2]
    assert entropies[0] == 0.0
    assert entropies[0] < entropies[1] < entropies[2]
    # two rows of 80 lie on the border of two halves
    assert measure_features(striped("black", "white")).edge_density == pytest.approx(2 / 80)


def test_entropy_of_all_lightnesses_is_one() -> None:
    ramp = np.linspace(0, 255, 256).astype(np.uint8)[None, :].repeat(64, 0)
    assert 0.9 < measure_features(Image.fromarray(ramp).convert("RGB")).entropy <= 1.0


def test_the_contour_runs_from_left_to_right() -> None:
    ramp = np.linspace(0, 255, 160).astype(np.uint8)[None, :, None].repeat(40, 0).repeat(3, 2)
    contour = measure_features(Image.fromarray(ramp)).contour
    assert list(contour) == sorted(contour)
    assert contour[0] < 0.05 < 0.95 < contour[-1]
    assert measure_features(Image.fromarray(ramp[:, ::-1])).contour == pytest.approx(contour[::-1])


@pytest.mark.parametrize(
    ("css", "name"),
    {
        "black": "black",
        "dimgrey": "grey",
        "lightgrey": "light grey",
        "white": "white",
        "red": "red",
        "maroon": "dark red",
        "pink": "pink",
        "darkorange": "orange",
        "saddlebrown": "brown",
        "tan": "beige",
        "yellow": "yellow",
        "gold": "yellow",
        "olive": "olive",
        "green": "green",
        "darkgreen": "green",
        "teal": "turquoise",
        "skyblue": "light blue",
        "blue": "blue",
        "navy": "dark blue",
        "blueviolet": "violet",
        "indigo": "dark violet",
        "plum": "pink",
        "magenta": "magenta",
    }.items(),
)
def test_colors_have_their_plain_names(css: str, name: str) -> None:
    assert measure_features(plain(css)).colors == ((name, 1.0),)


def test_main_colors_come_with_their_shares_the_largest_first() -> None:
    image = striped("blue", "blue", "blue", "white", size=(100, 80))
    image.putpixel((50, 50), (255, 0, 0))
    colors = measure_features(image).colors
    assert [name for name, _ in colors] == ["blue", "white"]  # one pixel is no main colour
    assert [share for _, share in colors] == pytest.approx([0.75, 0.25], abs=0.01)


def test_many_colors_are_cut_to_five() -> None:
    assert len(measure_features(noise(300, 300)).colors) == 5
