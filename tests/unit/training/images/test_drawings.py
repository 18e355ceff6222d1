import numpy as np
import pytest
from PIL import Image

from serve_app.models.images.tasks import BEVERAGE, CONTAINER, ImageTask
from training.images.drawings.__main__ import main
from training.images.drawings.drinks import Drink
from training.images.drawings.painting import Light, paint
from training.images.drawings.palettes import Style
from training.images.drawings.scenes import draw
from training.images.drawings.sheets import Sheet, make, make_all
from training.images.drawings.solids import View, see, see_inside, solid
from training.images.drawings.vessels import MAKERS, make_vessel
from training.images.embedded import kind

_SIZE = (96, 128)


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize(("task", "label"), [(task, label) for task in (CONTAINER, BEVERAGE) for label in task.classes])
def test_the_seed_decides(task: ImageTask, label, style):
    first, again, other = (draw(task, label, np.random.default_rng(seed), style, _SIZE) for seed in (1, 1, 2))
    assert first.image.size == _SIZE
    assert first.label == label
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))
    assert not np.array_equal(np.asarray(first.image), np.asarray(other.image))


def test_held_out_vessels_are_not_trained_on():
    for reusable in (False, True):
        trained, held_out = ({maker for maker, _ in MAKERS[style, reusable]} for style in Style)
        assert not trained & held_out


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("reusable", [False, True])
def test_vessels_are_of_their_class(style, reusable):
    rng = np.random.default_rng(0)
    assert {make_vessel(rng, style, reusable=reusable).reusable for _ in range(20)} == {reusable}


def test_a_seen_cylinder_has_its_outline():
    view = View(elevation=np.radians(30), taper=0.0, scale_px=100, x0_px=60, y0_px=130, width_px=120, height_px=160)
    seen = see(solid([(0.0, 0.4), (1.0, 0.4)]), view)
    rows, columns = np.nonzero(seen.mask)
    high = 100 * np.cos(view.elevation) + 2 * 40 * np.sin(view.elevation)
    assert np.ptp(columns) == pytest.approx(80, abs=3)
    assert np.ptp(rows) == pytest.approx(high, abs=4)
    assert seen.top.sum() == pytest.approx(np.pi * 40 * 40 * np.sin(view.elevation), rel=0.06)


def test_the_floor_of_a_deep_vessel_is_seen_from_above_only():
    hollow = solid([(0.05, 0.4), (1.0, 0.4)])
    shares = []
    for elevation in (30, 85):
        view = View(np.radians(elevation), 0.0, 100, 60, 130, 120, 220)
        inside = see_inside(hollow, view, 0.05)
        shares.append((inside.mask & inside.top).sum() / inside.mask.sum())
    assert shares[0] == 0.0
    assert shares[1] > 0.7


def test_a_full_vessel_shows_its_drink():
    vessel = next(
        vessel
        for seed in range(50)
        if (vessel := make_vessel(np.random.default_rng(seed), Style.TRAINED, reusable=True)).kind == "mug"
    )
    drink = Drink("tea", np.array([0.9, 0.1, 0.1], np.float32), 1.0, level=0.9)
    how = {"elevation": np.radians(50), "height_px": 120.0, "light": Light(0.0, 0.8, 0.0)}
    full = paint(vessel, drink, **how, rng=np.random.default_rng(0))
    empty = paint(vessel, None, **how, rng=np.random.default_rng(0))
    assert full.drink_share > 0.1
    assert empty.drink_share == 0.0
    reds = [int((np.asarray(each.image)[..., :3].astype(int) @ [1, -1, 0] > 90).sum()) for each in (full, empty)]
    assert reds[0] > reds[1]


def test_unclear_ones_are_unclear_in_many_ways():
    rng = np.random.default_rng(0)
    about = {draw(BEVERAGE, "unclear", rng, Style.TRAINED, (64, 64)).about.split(" ", 1)[-1] for _ in range(60)}
    assert about >= {"closed", "from the side", "blurred", "dark", "glaring", "cut off", "a hand", "vessel"}


def test_an_unknown_task_is_told():
    own = ImageTask("plates", ("flat", "deep"), "embedded:none", "plates.pth")
    with pytest.raises(ValueError, match="not for plates"):
        draw(own, "flat", np.random.default_rng(0), Style.TRAINED)


def test_files_are_functions_of_their_numbers(tmp_path):
    for folder in ("a", "b"):
        for part in ("train", "held_out"):
            assert make(Sheet("container", part, 5, 0, _SIZE, tmp_path / folder)) == (part, "reusable")
    first, second = (sorted((tmp_path / folder).rglob("*.jpg")) for folder in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert len({path.read_bytes() for path in first}) == 2


def test_the_command_draws_a_folder_for_each_class(tmp_path, capsys):
    sizes = ("--num", "3", "--num-test", "3", "--parts", "train", "test", "--size", "64x48")
    main(["--task", "beverage", "--out", str(tmp_path), *sizes])
    assert "train/unclear: 1" in capsys.readouterr().out
    found = sorted(tmp_path.rglob("*.jpg"))
    assert [str(path.relative_to(tmp_path).parent) for path in found] == [
        f"{part}/{name}" for part in ("test", "train") for name in sorted(BEVERAGE.classes)
    ]
    with Image.open(found[0]) as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 48))


def test_several_processes_draw_the_same(tmp_path):
    for folder, processes in (("one", 1), ("two", 2)):
        sheets = [Sheet("container", "test", index, 0, _SIZE, tmp_path / folder) for index in range(20)]
        assert list(make_all(sheets, processes)) == [("test", CONTAINER.classes[index % 2]) for index in range(20)]
    one, two = (
        {path.relative_to(tmp_path / folder): path.read_bytes() for path in (tmp_path / folder).rglob("*.jpg")}
        for folder in ("one", "two")
    )
    assert len(one) == 20
    assert one == two


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ("paper_cup", "paper_cup"),
        ("tea_cup_green_tea", "tea_cup_drink"),
        ("mug_empty", "mug_empty"),
        ("bottle_closed", "bottle_hidden"),
        ("mug_from_the_side", "mug_hidden"),
        ("tumbler_cut_off", "tumbler_cut_off"),
        ("behind_a_hand", "behind_a_hand"),
        ("glaring", "glaring"),
    ],
)
def test_what_a_drawing_is_of(about, expected):
    assert kind(about) == expected
