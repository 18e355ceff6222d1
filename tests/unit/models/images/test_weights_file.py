"""Files of weights as notebooks leave them: what is read, what is refused, and that nothing in them runs."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from serve_app.models.images.weights_file import Unfit, read_weights, unfit_error
from tests.unit.models.images.notebooks import as_safetensors, saved

STATE = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).state_dict()


def plain() -> dict[str, torch.Tensor]:
    return dict(STATE)


def refusal(stored: bytes) -> str:
    with pytest.raises(Unfit) as caught:
        read_weights(stored)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 500
    return said


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


# What checkpoints hold beside the weights
BESIDE = {
    "optimizer": torch.optim.Adam(nn.Linear(3, 4).parameters()).state_dict(),
    "epoch": 17,
    "best_acc": np.float64(0.93),
    "loss": np.float32(0.1),
    "half": np.float16(0.5),
    "step": np.int64(4),
    "size": np.int32(4),
    "done": np.bool_(True),
    "accuracy": torch.tensor(0.9),
    "history": {"val": [np.float64(0.5), 0.6], "train": []},
    "note": "best",
    "scheduler": None,
}


@pytest.mark.parametrize("legacy", [False, True])
def test_a_plain_state_dict_is_read_in_both_of_torchs_forms(legacy: bool) -> None:
    stored = saved(STATE, legacy=legacy)
    assert stored.startswith(b"PK") != legacy
    weights = read_weights(stored)
    assert_same(weights.tensors, plain())
    assert (weights.classes, weights.found_in) == (None, "")


def test_the_order_of_the_file_is_kept() -> None:
    backwards = dict(reversed(plain().items()))
    assert list(read_weights(saved(backwards)).tensors) == list(backwards)


def test_safetensors_are_read() -> None:
    weights = read_weights(as_safetensors(plain()))
    assert sorted(weights.tensors) == sorted(STATE)
    assert all(torch.equal(weights.tensors[name], value) for name, value in STATE.items())
    assert (weights.classes, weights.found_in) == (None, "")


@pytest.mark.parametrize("wanted", [0x80, 0x50])
def test_safetensors_are_known_whatever_their_length_looks_like(wanted: int) -> None:
    """A header of 0x..80 bytes begins as pickles do, one of 0x4b50 as archives do."""
    for padding in range(40_000):
        stored = as_safetensors(plain(), {"note": "x" * padding}) if padding % 8 == 0 else b""
        if stored.startswith(b"\x80" if wanted == 0x80 else b"PK"):
            break
    else:
        pytest.fail("no header had that length")
    assert sorted(read_weights(stored).tensors) == sorted(STATE)


def test_safetensors_tell_their_classes() -> None:
    assert read_weights(as_safetensors(plain(), {"classes": "reusable, disposable"})).classes == (
        "reusable",
        "disposable",
    )
    assert read_weights(as_safetensors(plain(), {"format": "pt"})).classes is None


@pytest.mark.parametrize(
    "key", ["state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema", "my_own_name"]
)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_gives_its_state_dict(key: str, legacy: bool) -> None:
    content = {**BESIDE, key: STATE}
    weights = read_weights(saved(content, legacy=legacy))
    assert weights.found_in == key
    assert_same(weights.tensors, plain())


def test_plain_weights_come_before_averaged_ones() -> None:
    averaged = {name: value * 0 for name, value in STATE.items()}
    weights = read_weights(saved({"ema": averaged, "best": averaged, "model_state_dict": STATE}))
    assert weights.found_in == "model_state_dict"
    assert_same(weights.tensors, plain())


def test_an_optimizers_state_is_no_state_dict() -> None:
    layer = nn.Linear(3, 4)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {"epoch": 3, "optimizer": optimizer.state_dict()}
    assert refusal(saved(content)) == "it holds no state_dict; at its top there is epoch, optimizer"


def test_numbers_that_numpy_1_wrote_are_read() -> None:
    stored = saved({"best_acc": np.float64(0.5), "model": STATE}, legacy=True)
    assert b"numpy._core.multiarray" in stored
    assert_same(read_weights(stored.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")).tensors, plain())


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_torch_compile_put_before_names_is_gone(prefix: str) -> None:
    found = read_weights(saved({prefix + name: value for name, value in STATE.items()})).tensors
    assert list(found) == [prefix.replace("_orig_mod.", "") + name for name in STATE]


def test_what_is_no_tensor_among_tensors_is_left_out() -> None:
    weights = read_weights(saved({**STATE, "classes": ["a", "b"], "epoch": 3}))
    assert_same(weights.tensors, plain())
    assert weights.classes == ("a", "b")


def test_parameters_that_still_want_gradients_are_plain_tensors() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    found = read_weights(saved(network.state_dict(keep_vars=True))).tensors
    assert len(found) == 4
    assert not any(value.requires_grad for value in found.values())


@pytest.mark.parametrize(
    "said",
    [
        {"classes": ["empty", "with_beverage"]},
        {"classes": ("empty", "with_beverage")},
        {"class_names": ["empty", "with_beverage"]},
        {"class_to_idx": {"with_beverage": 1, "empty": 0}},
        {"class_to_idx": collections.OrderedDict(with_beverage=1, empty=0)},
        {"idx_to_class": {1: "with_beverage", 0: "empty"}},
        {"idx_to_class": {"1": "with_beverage", "0": "empty"}},
    ],
    ids=str,
)
def test_a_checkpoint_tells_its_classes_in_any_of_the_usual_forms(said: dict[str, Any]) -> None:
    assert read_weights(saved({"model": STATE, **said})).classes == ("empty", "with_beverage")


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"classes": 2},
        {"classes": []},
        {"classes": [0, 1]},
        {"classes": torch.tensor([0, 1])},
        {"class_to_idx": {}},
        {"class_to_idx": {"empty": 0, "with_beverage": 2}},
        {"idx_to_class": {0: "empty", 2: "with_beverage"}},
    ],
    ids=str,
)
def test_what_names_no_classes_is_not_taken_for_them(said: dict[str, Any]) -> None:
    assert read_weights(saved({"model": STATE, **said})).classes is None


# Refusals


def test_a_whole_model_is_refused() -> None:
    said = refusal(saved(nn.Sequential(nn.Linear(3, 4))))
    assert "a whole model" in said
    assert "save model.state_dict() instead" in said
    assert "torch.nn.modules.container.Sequential" in said


def test_objects_beside_the_weights_are_refused_by_name() -> None:
    assert "argparse.Namespace" in refusal(saved({"args": argparse.Namespace(lr=0.1), "model": STATE}))


class _Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def _zipped(content: Any) -> bytes:
    """Return a pickle in the archive that torch.save writes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "write",
    [
        saved,
        lambda content: saved(content, legacy=True),
        _zipped,
        lambda content: pickle.dumps(content, protocol=2),
        lambda content: pickle.dumps(content, protocol=5),
        lambda content: pickle.dumps(content, protocol=0),
    ],
    ids=["torch.save", "legacy", "archive", "protocol 2", "protocol 5", "protocol 0"],
)
@pytest.mark.parametrize("place", ["top", "beside"])
def test_code_in_a_pickle_does_not_run(write: Any, place: str, tmp_path: Path) -> None:
    proof = tmp_path / "has-run"
    code = _Code(proof)
    said = refusal(write(code if place == "top" else {**STATE, "epoch": code}))
    assert not proof.exists()
    assert "might run code" in said or "no file of weights" in said


def test_the_code_above_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(_Code(tmp_path / "has-run")))
    assert (tmp_path / "has-run").is_dir()


def test_allowing_numbers_of_numpy_does_not_allow_its_functions() -> None:
    class Reduced:
        def __reduce__(self) -> Any:
            return np.load, ("/etc/passwd", None, True)

    assert "might run code" in refusal(saved({"model": STATE, "best": Reduced()}))


def test_torchscript_is_refused() -> None:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    said = refusal(file.getvalue())
    assert "TorchScript" in said
    assert "state_dict" in said


@pytest.mark.parametrize(
    ("content", "kind"),
    [([torch.ones(2)] * 9, "list"), (torch.ones(3), "Tensor"), ("weights", "str"), (None, "NoneType")],
)
def test_what_is_no_dict_is_refused_by_its_kind(content: Any, kind: str) -> None:
    assert f"a {kind}, not a state_dict" in refusal(saved(content))


@pytest.mark.parametrize(
    "content",
    [{}, {"epoch": 3}, {"w": torch.ones(2)}, {0: torch.ones(2), 1: torch.ones(2), 2: torch.ones(2), 3: torch.ones(2)}],
    ids=["nothing", "a number", "one tensor", "tensors by number"],
)
def test_a_dict_without_weights_is_refused(content: dict[Any, Any]) -> None:
    held = ", ".join(map(str, content)) or "nothing"
    assert refusal(saved(content)) == f"it holds no state_dict; at its top there is {held}"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
def test_a_file_that_was_cut_off_is_said(legacy: bool, share: float) -> None:
    stored = saved({f"{name}{number}": torch.rand(40, 40) for number in range(3) for name in "ab"}, legacy=legacy)
    assert "damaged" in refusal(stored[: int(len(stored) * share)])


@pytest.mark.parametrize("keep", [10, 60, -8])
def test_safetensors_that_were_cut_off_are_said(keep: int) -> None:
    assert "damaged safetensors" in refusal(as_safetensors(plain())[:keep])


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"P",
        b"PK",
        b"PK\x03\x04 not much of an archive",
        b"\x80\x02",
        b"\x80\x02}q\x00.",
        b"accuracy: 0.93\n",
        b"\x89PNG\r\n\x1a\n" + bytes(90),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 94\n",
        b"<!DOCTYPE html><html>Sign in</html>",
        b'{"state_dict": {}}',
        b"12345678{",
        b"\xff" * 8 + b'{"a":1}',
        bytes(1000),
    ],
    ids=lambda stored: repr(stored[:14]),
)
def test_what_is_no_file_of_weights_is_said(stored: bytes) -> None:
    assert any(word in refusal(stored) for word in ("no file of weights", "damaged", "Python objects"))


def test_the_error_for_an_operator_names_file_and_purpose() -> None:
    problem = unfit_error("w.pth", Unfit("it lacks conv1.weight"), "container classifier")
    assert problem.detail == "The weights 'w.pth' can't serve as container classifier: it lacks conv1.weight"


def test_the_error_for_an_operator_names_what_the_system_said() -> None:
    problem = unfit_error("w.pth", OSError(13, "Permission denied", "/secret/w.pth"), "container classifier")
    assert problem.detail == "The weights 'w.pth' can't serve as container classifier: Permission denied"
