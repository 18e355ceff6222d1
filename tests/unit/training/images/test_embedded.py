from pathlib import Path

import pytest

from serve_app.models.images.tasks import TASKS
from training.images import embedded

pytestmark = pytest.mark.slow  # trains, or makes speech to test with


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """What would be trained, by the name of its weights."""
    told = {}

    def train(argv):
        options = {each: argv[place + 1] for place, each in enumerate(argv) if each in ("--init", "--classes")}
        out = Path(argv[argv.index("--out") + 1])
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(b"weights")
        told[out.name] = options | {"argv": argv}

    monkeypatch.setattr(embedded, "train", train)
    return told


def run(tmp_path, *tasks):
    sizes = ("--num", "36", "--num-test", "6")
    embedded.main([*tasks, "--work", str(tmp_path / "work"), "--weights", str(tmp_path / "weights"), *sizes])


def test_beverage_goes_on_from_what_container_learnt(tmp_path, trainings):
    run(tmp_path)
    assert list(trainings) == [
        "kinds-container.part.pth",
        "first-container.safetensors",
        "container_net.safetensors",
        "kinds-beverage.part.pth",
        "first-beverage.safetensors",
        "beverage_net.safetensors",
    ]
    work = tmp_path / "work"
    inits = [each["--init"] for each in trainings.values()]
    assert inits == [
        "none",
        *(str(work / name) for name in ("kinds-container.pth", "first-container.safetensors")),
        *(str(work / name) for name in ("kinds-container.pth", "kinds-beverage.pth", "first-beverage.safetensors")),
    ]
    assert all((tmp_path / "weights" / f"{name}_net.safetensors").exists() for name in TASKS)
    assert "--half" in trainings["beverage_net.safetensors"]["argv"]


def test_kinds_are_folders_of_the_same_files(tmp_path, trainings):
    run(tmp_path, "container")
    drawings, kinds = (tmp_path / "work" / name / "container" / "train" for name in ("drawings", "kinds"))
    assert sorted(path.name for path in kinds.rglob("*.jpg")) == sorted(path.name for path in drawings.rglob("*.jpg"))
    names = {folder.name for folder in kinds.iterdir()}
    assert names == set(trainings["kinds-container.part.pth"]["--classes"].split(","))
    assert all(path.parent.name in path.stem for path in kinds.rglob("*.jpg"))


def test_what_is_there_is_not_made_again(tmp_path, trainings):
    run(tmp_path, "container")
    trainings.clear()
    run(tmp_path, "container")
    assert list(trainings) == ["first-container.safetensors", "container_net.safetensors"]


def test_unknown_tasks_are_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, "plates")
    assert "unknown tasks: plates" in capsys.readouterr().err
