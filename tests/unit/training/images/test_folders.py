import shutil
import unicodedata

import numpy as np
import pytest

from serve_app.models.images.tasks import BEVERAGE, CONTAINER
from tests.unit.training.images.made_pictures import write_folders, write_picture
from training.images.folders import FoldersUnfit, divide, find, given, is_split, plain
from training.images.pixels import decode


def test_labels_follow_the_task_and_not_the_alphabet(tmp_path):
    write_folders(tmp_path, {"unclear": 1, "with_beverage": 1, "empty": 1})
    found = {sample.path.parent.name: sample.label for sample in find(tmp_path, BEVERAGE.classes)}
    assert found == {"empty": 0, "with_beverage": 1, "unclear": 2}


def test_folders_may_be_written_with_capitals_spaces_and_hyphens(tmp_path):
    for name in ("Empty", "With-Beverage", "UNCLEAR"):
        write_picture(tmp_path / name / "1.jpg", (0, 0, 0))
    assert [sample.label for sample in find(tmp_path, BEVERAGE.classes)] == [0, 1, 2]
    assert plain(" With  beverage") == "with_beverage"


def test_pictures_are_found_at_any_depth_and_other_files_are_not(tmp_path):
    write_folders(tmp_path, {"disposable": 1, "reusable": 1})
    write_picture(tmp_path / "reusable" / "more" / "deep.JPG", (0, 0, 0))
    (tmp_path / "reusable" / "notes.txt").write_text("no picture")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    assert [sample.path.name for sample in find(tmp_path, CONTAINER.classes)] == ["0.jpg", "0.jpg", "deep.JPG"]


def test_an_unknown_class_is_told_with_what_is_expected(tmp_path):
    write_folders(tmp_path, {"disposable": 1, "reusable": 1})
    (tmp_path / "unsure").mkdir()
    with pytest.raises(FoldersUnfit, match=r"disposable, reusable .*but there is unsure"):
        find(tmp_path, CONTAINER.classes)


def test_a_missing_class_and_an_empty_one_are_told(tmp_path):
    write_folders(tmp_path, {"empty": 1})
    (tmp_path / "unclear").mkdir()
    with pytest.raises(FoldersUnfit, match="no pictures of with_beverage, unclear"):
        find(tmp_path, BEVERAGE.classes)
    assert len(find(tmp_path, BEVERAGE.classes, complete=False)) == 1


def test_no_folder_is_told(tmp_path):
    with pytest.raises(FoldersUnfit, match="no folder"):
        find(tmp_path / "nowhere", CONTAINER.classes)


def test_the_split_is_stratified_and_by_seed(tmp_path):
    pixels = decode(find(write_folders(tmp_path, {"disposable": 30, "reusable": 10}), CONTAINER.classes))
    split = divide(pixels, 2, seed=3)
    assert np.bincount(pixels.labels[split.parts["val"]]).tolist() == [6, 2]
    assert sorted([*split.parts["train"], *split.parts["val"]]) == list(range(40))
    assert np.array_equal(split.parts["val"], divide(pixels, 2, seed=3).parts["val"])
    assert not np.array_equal(split.parts["val"], divide(pixels, 2, seed=4).parts["val"])


def test_a_test_part_is_set_aside_where_asked_for(tmp_path):
    pixels = decode(find(write_folders(tmp_path, {"disposable": 10, "reusable": 10}), CONTAINER.classes))
    parts = divide(pixels, 2, seed=0, val_share=0.2, test_share=0.3).parts
    assert {name: len(found) for name, found in parts.items()} == {"train": 10, "val": 4, "test": 6}


def test_copies_stand_on_one_side(tmp_path):
    write_folders(tmp_path, {"disposable": 12, "reusable": 12})
    for number in range(12):
        for copy in range(3):
            shutil.copy(tmp_path / "reusable" / f"{number}.jpg", tmp_path / "reusable" / f"copy{number}-{copy}.jpg")
    pixels = decode(find(tmp_path, CONTAINER.classes))
    for seed in range(5):
        parts = divide(pixels, 2, seed=seed).parts
        sides = [{pixels.digests[index] for index in parts[part]} for part in ("train", "val")]
        assert not sides[0] & sides[1]


def test_a_picture_in_two_classes_is_left_out_and_named(tmp_path):
    write_folders(tmp_path, {"disposable": 4, "reusable": 4})
    shutil.copy(tmp_path / "reusable" / "0.jpg", tmp_path / "disposable" / "same.jpg")
    split = divide(decode(find(tmp_path, CONTAINER.classes)), 2, seed=0)
    assert {path.name for path in split.left_out} == {"0.jpg", "same.jpg"}
    assert sum(len(found) for found in split.parts.values()) == 7


def test_too_few_pictures_to_split_are_told(tmp_path):
    pixels = decode(find(write_folders(tmp_path, {"disposable": 4, "reusable": 1}), CONTAINER.classes))
    with pytest.raises(FoldersUnfit, match="at least 2"):
        divide(pixels, 2, seed=0)


def test_given_parts_stay_but_for_pictures_that_are_in_both(tmp_path):
    train, val = tmp_path / "train", tmp_path / "val"
    write_folders(train, {"disposable": 3, "reusable": 3}, seed=1)
    write_folders(val, {"disposable": 2, "reusable": 2}, seed=50)
    shutil.copy(val / "reusable" / "1.jpg", train / "reusable" / "again.jpg")
    assert is_split(tmp_path)
    samples = [*find(train, CONTAINER.classes), *find(val, CONTAINER.classes)]
    split = given(decode(samples), ["train"] * 7 + ["val"] * 4)
    assert [len(split.parts["train"]), len(split.parts["val"])] == [6, 4]
    assert [path.name for path in split.left_out] == ["again.jpg"]


def test_half_a_split_is_told(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(FoldersUnfit, match="no folder val"):
        is_split(tmp_path)


def test_names_of_classes_are_compared_composed():
    assert plain(unicodedata.normalize("NFD", "재사용 Café")) == plain("재사용-café")
