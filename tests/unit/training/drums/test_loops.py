from pathlib import Path

import numpy as np
import pytest

from serve_app.models.drums.network import LABELS
from training.drums.loops import loops
from training.drums.shards import SURE, UNSURE

FOLDER = Path(__file__).parents[4].parent / "shared" / "data" / "drums"


@pytest.fixture(scope="module")
def recorded():
    if not (FOLDER / "loop_amen.flac").exists():
        pytest.skip(f"the recordings are not in {FOLDER}")
    return {example.about["kit"]: example for example in loops(FOLDER)}


def test_strokes_lie_within_the_recording(recorded):
    for example in recorded.values():
        assert np.all(np.diff(example.times_s) >= 0)
        assert example.times_s.max(initial=0.0) < len(example.bands) / 100


def test_keeps_what_is_sure_and_what_is_not(recorded):
    amen = recorded["loop_amen"]
    assert [LABELS[label] for label in amen.labels[:3]] == ["cymbal", "hihat", "kick"]
    assert amen.kinds[:3].tolist() == [UNSURE, UNSURE, SURE]


def test_some_hold_no_drum_at_all(recorded):
    assert len(recorded["loop_drone_g_97"].times_s) == 0
    assert recorded["loop_drone_g_97"].about["genre"] == "no drums"


def test_there_is_none_in_an_empty_folder(tmp_path):
    assert loops(tmp_path) == []
