import json

import pytest
import safetensors.torch
import torch

from serve_app.models.images.architectures import Architecture
from serve_app.models.images.networks import build_network
from tests.unit.training.images.made_pictures import write_folders
from training.images.__main__ import main

pytestmark = pytest.mark.slow  # trains, or makes speech to test with


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(*arguments):
    main([*map(str, arguments), "--threads", "1"])


def test_trains_writes_and_reports_in_the_tasks_order(tmp_path, capsys):
    data = write_folders(tmp_path / "data", {"unclear": 4, "empty": 6, "with_beverage": 5})
    (data / "empty" / "broken.jpg").write_bytes(b"no picture")
    test = write_folders(tmp_path / "field", {"empty": 2, "unclear": 1}, seed=77)
    out = tmp_path / "out" / "beverage_detector.pth"
    run("--task", "beverage", "--data", data, "--epochs", 1, "--out", out, "--test", test, "--seed", 5)
    network = build_network(Architecture.MOBILENET_V3_SMALL, 3)
    network.load_state_dict(torch.load(out, weights_only=True), strict=True)
    report = json.loads((tmp_path / "out" / "beverage_detector-report" / "report.json").read_text())
    assert report["classes"] == ["empty", "with_beverage", "unclear"]
    assert report["pictures"]["train"] == {"empty": 5, "with_beverage": 4, "unclear": 3}
    assert report["pictures"]["field"] == {"empty": 2, "with_beverage": 0, "unclear": 1}
    assert report["parts"]["field"]["confusion"][1] == [0, 0, 0]
    assert (report["seed"], report["epochs"]) == (5, 1)
    assert "--seed 5" in report["command"]
    assert [*report["unreadable"]] == [str(data / "empty" / "broken.jpg")]
    told = capsys.readouterr().out
    assert "broken.jpg: The file is no picture" in told
    assert "WARNING: fewer than 100 pictures of a class: empty has 6" in told


def test_classes_of_ones_own_and_half_precision(tmp_path):
    data = write_folders(tmp_path / "data", {"disposable": 3, "reusable": 3})
    out = tmp_path / "own.safetensors"
    run("--classes", "reusable,disposable", "--data", data, "--epochs", 1, "--out", out, "--half")
    stored = safetensors.torch.load_file(out)
    assert stored["classifier.3.weight"].shape == (2, 256)
    assert stored["classifier.3.weight"].dtype == torch.float16


def test_given_parts_are_used(tmp_path):
    write_folders(tmp_path / "data" / "train", {"disposable": 3, "reusable": 3})
    write_folders(tmp_path / "data" / "val", {"disposable": 1, "reusable": 2}, seed=90)
    backbone = ("--backbone", "mobilenet_v3_small")
    run("--task", "container", *backbone, "--data", tmp_path / "data", "--epochs", 1, "--out", tmp_path / "net.pth")
    report = json.loads((tmp_path / "net-report" / "report.json").read_text())
    assert report["pictures"]["val"] == {"disposable": 1, "reusable": 2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "container"), "no pictures of reusable"),
        (("--classes", "disposable,unsure"), "no pictures of unsure"),
        (("--task", "beverage"), "but there is disposable"),
        ((), "either --task or --classes"),
        (("--task", "container", "--classes", "a,b"), "either --task or --classes"),
        (("--classes", "a, A"), "two or more different"),
        (("--task", "container", "--stages", "abc"), "PIXELS:EPOCHS"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, capsys, arguments, said):
    data = write_folders(tmp_path / "data", {"disposable": 3})
    with pytest.raises(SystemExit) as stopped:
        run("--data", data, *arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_weights_that_did_not_see_the_served_size_are_told(tmp_path, capsys):
    data = write_folders(tmp_path / "data", {"disposable": 3, "reusable": 3})
    stages = ("--stages", "32:1", "--augment", "light")
    run("--classes", "disposable,reusable", "--data", data, *stages, "--out", tmp_path / "small.pth")
    assert "trained and measured at 32 pixels, but 224 are served" in capsys.readouterr().out


def test_goes_on_from_weights_of_other_classes(tmp_path, capsys):
    data = write_folders(tmp_path / "data", {"disposable": 3, "reusable": 3})
    stages = ("--data", data, "--stages", "32:1")
    run("--classes", "disposable,reusable", *stages, "--out", tmp_path / "first.pth")
    again = write_folders(tmp_path / "more", {"empty": 3, "with_beverage": 3, "unclear": 3})
    run(
        "--task",
        "beverage",
        *stages,
        "--data",
        again,
        "--init",
        tmp_path / "first.pth",
        "--out",
        tmp_path / "second.pth",
    )
    assert "the backbone of first.pth" in capsys.readouterr().out
