import sys

import numpy as np
import pytest

from serve_app.models.drums.checkpoint import load_checkpoint
from tests.unit.training.drums.made_songs import random_example
from training.drums import shards
from training.drums.__main__ import main

pytestmark = pytest.mark.slow  # trains; what is served does not depend on it


@pytest.fixture
def work(tmp_path):
    rng = np.random.default_rng(0)
    songs = tmp_path / "songs"
    songs.mkdir()
    for part in ("train", "validation", "held_out"):
        shards.write(songs / f"{part}-v-00000.npz", [random_example(rng) for _ in range(2)])
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["python -m training.drums", *map(str, arguments)])
    main()


def test_trains_exports_and_reports(work, monkeypatch, capsys):
    output = work / "net" / "best_model.pt"
    run(monkeypatch, "train", "export", "mistakes", "--work", work, "--output", output, "--minutes", 0.001)
    loaded = load_checkpoint(output)
    assert set(loaded.thresholds) == {"kick", "snare", "hihat"}
    assert loaded.facts["steps"] >= 1
    told = capsys.readouterr().out
    assert loaded.model_version in told
    assert "## Kits held out\n2 songs" in told
    assert "kick: in vain" in told


def test_a_new_training_can_start_from_a_checkpoint(work, monkeypatch):
    first, second = work / "first.pt", work / "second.pt"
    short = ("--work", work, "--minutes", 0.001)
    run(monkeypatch, "train", "export", *short, "--output", first)
    run(monkeypatch, "train", "export", *short, "--output", second, "--run", "again", "--start-from", first)
    assert (work / "again" / "state.pt").exists()
    assert load_checkpoint(second).facts["steps"] >= 1


def test_unknown_stages_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "practise")
    assert "unknown stages: practise" in capsys.readouterr().err
