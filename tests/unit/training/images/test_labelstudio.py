import json

import pytest

from serve_app.models.images.tasks import BEVERAGE, CONTAINER
from tests.unit.training.images.made_pictures import write_picture
from training.images.labelstudio import main


@pytest.fixture
def images(tmp_path):
    for index in range(4):
        write_picture(tmp_path / "images" / f"cup{index}.jpg", (10, 20, 30), index)
    return tmp_path / "images"


def annotation(*labels, cancelled=False, **more):
    result = [{"type": "choices", "from_name": "kind", "value": {"choices": list(labels)}}] if labels else []
    return {"was_cancelled": cancelled, "result": result} | more


def task(image, *annotations, **more):
    return {"id": 1, "data": {"image": image}, "annotations": list(annotations), "predictions": []} | more


def convert(tmp_path, rows, *arguments, task_name="container"):
    export = tmp_path / "export.json"
    export.write_text(json.dumps(rows))
    out = tmp_path / "out"
    main([str(export), "--task", task_name, "--images", str(tmp_path / "images"), "--out", str(out), *arguments])
    return {str(path.relative_to(out)) for path in out.rglob("*.jpg")}, json.loads((out / "left_out.json").read_text())


def test_the_full_form(tmp_path, images, capsys):
    rows = [task("cup0.jpg", annotation("Reusable")), task("cup1.jpg", annotation("disposable"))]
    placed, left_out = convert(tmp_path, rows)
    assert placed == {"reusable/cup0.jpg", "disposable/cup1.jpg"}
    assert left_out == {}
    assert (tmp_path / "out" / "reusable" / "cup0.jpg").samefile(images / "cup0.jpg")
    told = capsys.readouterr().out
    for name in CONTAINER.classes:
        assert f"{name}: 1" in told


def test_the_short_form(tmp_path, images):
    rows = [
        {"id": 1, "image": "/data/upload/1/cup0.jpg", "choice": "With Beverage", "annotator": 1, "lead_time": 2.5},
        {"id": 2, "image": "cup1.jpg", "choice": {"choices": ["EMPTY"]}, "annotator": 1},
        {"id": 3, "image": "cup2.jpg", "my-choice": ["un-clear", "unclear"], "annotator": 1},
        {"id": 4, "image": "cup3.jpg", "annotator": 1, "annotation_id": 5},
    ]
    placed, left_out = convert(tmp_path, rows, task_name="beverage")
    assert placed == {"with_beverage/cup0.jpg", "empty/cup1.jpg", "unclear/cup2.jpg"}
    assert {path.split("/")[0] for path in placed} == set(BEVERAGE.classes)
    assert left_out == {"cup3.jpg": "annotated without a label"}


def test_copies_where_asked_for(tmp_path, images):
    convert(tmp_path, [task("cup0.jpg", annotation("reusable"))], "--copy")
    copied = tmp_path / "out" / "reusable" / "cup0.jpg"
    assert not copied.samefile(images / "cup0.jpg")
    assert copied.read_bytes() == (images / "cup0.jpg").read_bytes()


def test_skipped_ones_and_predictions_do_not_count(tmp_path, images):
    guess = [{"result": [{"type": "choices", "value": {"choices": ["reusable"]}}]}]
    rows = [
        task("cup0.jpg", annotation("reusable", cancelled=True)),
        task("cup1.jpg", predictions=guess),
        task("cup2.jpg", annotation("reusable", cancelled=True), annotation("disposable")),
        task("cup3.jpg", annotation()),
    ]
    placed, left_out = convert(tmp_path, rows)
    assert placed == {"disposable/cup2.jpg"}
    assert left_out == {
        "cup0.jpg": "skipped by the annotator",
        "cup1.jpg": "not annotated (predictions are not used)",
        "cup3.jpg": "annotated without a label",
    }


def test_the_majority_decides_and_a_tie_is_left_out(tmp_path, images, capsys):
    rows = [
        task("cup0.jpg", annotation("reusable"), annotation("reusable"), annotation("disposable")),
        task("cup1.jpg", annotation("reusable"), annotation("disposable")),
    ]
    placed, left_out = convert(tmp_path, rows)
    assert placed == {"reusable/cup0.jpg"}
    assert left_out == {"cup1.jpg": "annotators disagree: disposable 1, reusable 1"}
    assert (
        "settled by majority: 1\n    cup0.jpg: reusable, majority of disposable 1, reusable 2"
        in capsys.readouterr().out
    )


def test_ground_truth_outvotes(tmp_path, images):
    said = [annotation("reusable"), annotation("reusable"), annotation("disposable", ground_truth=True)]
    assert convert(tmp_path, [task("cup0.jpg", *said)])[0] == {"disposable/cup0.jpg"}


def test_a_picture_that_stands_twice_is_one_picture(tmp_path, images):
    rows = [
        task("/data/upload/1/cup0.jpg", annotation("reusable")),
        task("/data/upload/2/cup0.jpg", annotation("disposable")),
        {"image": "cup1.jpg", "choice": "reusable"},
        {"image": "/data/local-files/?d=cup1.jpg", "choice": "reusable"},
    ]
    placed, left_out = convert(tmp_path, rows)
    assert placed == {"reusable/cup1.jpg"}
    assert left_out == {"/data/upload/1/cup0.jpg": "annotators disagree: disposable 1, reusable 1"}


def test_labels_of_other_names_are_mapped(tmp_path, images):
    rows = [
        task("cup0.jpg", annotation("텀블러")),
        task("cup1.jpg", annotation("One-Way Cup")),
        task("cup2.jpg", annotation("vase")),
        task("cup3.jpg", annotation("reusable", "disposable")),
    ]
    placed, left_out = convert(tmp_path, rows, "--map", "텀블러=reusable", "--map", "one way cup=Disposable")
    assert placed == {"reusable/cup0.jpg", "disposable/cup1.jpg"}
    assert left_out == {
        "cup2.jpg": "unknown label (see --map): vase",
        "cup3.jpg": "several classes in one annotation: disposable, reusable",
    }


def test_of_several_questions_one_is_read(tmp_path, images):
    both = annotation("reusable")
    both["result"].append({"type": "choices", "from_name": "other", "value": {"choices": ["disposable"]}})
    placed, _ = convert(tmp_path, [task("cup0.jpg", both)], "--from-name", "other")
    assert placed == {"disposable/cup0.jpg"}


def test_same_names_in_different_folders_are_both_kept(tmp_path, images):
    for index, folder in enumerate(("monday", "tuesday")):
        write_picture(images / folder / "cup.jpg", (9, 9, 9), 50 + index)
    rows = [
        task(f"/data/local-files/?d={folder}%2Fcup.jpg", annotation("reusable")) for folder in ("monday", "tuesday")
    ]
    placed, left_out = convert(tmp_path, rows)
    assert placed == {"reusable/cup.jpg", "reusable/tuesday__cup.jpg"}
    assert left_out == {}


def test_what_is_missing_ambiguous_or_unsafe_is_told(tmp_path, images, capsys):
    for folder in ("a", "b"):
        write_picture(images / folder / "twice.jpg", (1, 1, 1))
    write_picture(tmp_path / "secret.jpg", (0, 0, 0))
    rows = [
        task("gone.jpg", annotation("reusable")),
        task("twice.jpg", annotation("reusable")),
        task("../secret.jpg", annotation("reusable")),
        {"id": 9, "data": {"text": "hello"}, "annotations": [annotation("reusable")]},
        task("cup0.jpg", annotation("reusable")),
    ]
    placed, left_out = convert(tmp_path, rows)
    assert placed == {"reusable/cup0.jpg"}
    assert left_out == {
        "gone.jpg": "no such file",
        "twice.jpg": "several files of this name: a/twice.jpg, b/twice.jpg",
        "../secret.jpg": "unsafe path",
        "row 3 (id 9)": "names no picture",
    }
    told = capsys.readouterr().out
    assert "left out: 4" in told
    assert "- no such file: 1\n    gone.jpg" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "can't be read as JSON"),
        ("{}", "must be a list of tasks"),
        ("[]", "No picture can be used"),
    ],
)
def test_exports_that_cannot_be_used(tmp_path, images, capsys, text, said):
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(SystemExit):
        main(
            [
                str(tmp_path / "export.json"),
                "--task",
                "container",
                "--images",
                str(images),
                "--out",
                str(tmp_path / "o"),
            ]
        )
    assert said in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path, images, capsys):
    rows = [task("cup0.jpg", annotation("reusable"))]
    convert(tmp_path, rows)
    with pytest.raises(SystemExit):
        convert(tmp_path, rows)
    assert "is not empty" in capsys.readouterr().err


def test_a_map_to_no_class_is_told(tmp_path, images, capsys):
    with pytest.raises(SystemExit):
        convert(tmp_path, [task("cup0.jpg", annotation("reusable"))], "--map", "mug=reusible")
    assert "LABEL=CLASS with one of disposable, reusable" in capsys.readouterr().err
