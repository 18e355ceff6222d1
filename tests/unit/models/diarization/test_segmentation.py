import os
import pickle

import pytest
import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.diarization import networks


def test_the_wheels_network_finds_up_to_three_speakers_in_five_seconds():
    model = networks.load_segmentation()
    assert not model.training
    assert len(model.specifications.classes) == 3
    with torch.inference_mode():
        activity = model(torch.zeros(1, 1, 80_000))
    assert activity.shape == (1, 293, 3)
    assert activity.max() < 0.5


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("writer", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_checkpoint_does_not_run(tmp_path, writer):
    trace = tmp_path / "it_ran"
    writer({"state_dict": _Bomb(str(trace))}, tmp_path / "bomb.bin")
    with pytest.raises(ModelLoadingError):
        networks.load_segmentation(tmp_path / "bomb.bin")
    assert not trace.exists()


def test_without_whisperx_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setattr(networks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelLoadingError, match="whisperx"):
        networks.load_segmentation()
