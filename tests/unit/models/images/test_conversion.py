"""Converting: once for each content, in a process of its own."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from serve_app.errors import ModelLoadingError
from serve_app.models.built_folder import MANIFEST, is_whole
from serve_app.models.images import conversion
from serve_app.models.images.architectures import Activation
from serve_app.models.images.conversion import Conversion, convert, converted_folder
from serve_app.models.images.converted import BACKBONE, FACTS, HEAD, PROBE, WEIGHTS, read_facts, read_probe
from serve_app.models.images.networks import PixelNetwork
from serve_app.models.images.quantization import probe_images
from serve_app.sentences import from_json
from tests.unit.models.images.conftest import Finished, with_other_head
from tests.unit.models.images.notebooks import BEVERAGES, CONTAINERS

REQUEST = Conversion("/w.pth", "0" * 64, "beverage classifier", BEVERAGES, "relu")


def asked_for(weights: Path, cache: Path, **changes: Any) -> tuple[Path, str]:
    options: dict[str, Any] = {"purpose": "beverage classifier", "classes": BEVERAGES, "activation": Activation.RELU}
    return converted_folder(weights, cache, **options | changes)


def refusal(weights: Path, cache: Path, **changes: Any) -> str:
    with pytest.raises(ModelLoadingError) as caught:
        asked_for(weights, cache, **changes)
    return caught.value.detail


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("another process was started"))


@pytest.fixture(scope="module")
def really(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Convert in a process of its own, once; return the cache and the folder.

    The process keeps its place among others (a nice one takes minutes on a busy machine); else it is the real one.
    """
    cache = tmp_path_factory.mktemp("cache")
    code = 'import os, runpy, sys; os.nice = id; runpy.run_module(sys.argv[2], run_name="__main__")'
    converter = cache / "python"
    converter.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{code}' \"$@\"\n")
    converter.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(converter))
        folder, sha256 = asked_for(finished.weights, cache)
    assert sha256 == hashlib.sha256(finished.weights.read_bytes()).hexdigest()
    return cache, folder


# One real conversion


def test_the_folder_is_whole(really: tuple[Path, Path], finished: Finished) -> None:
    _, folder = really
    assert is_whole(folder)
    assert {path.name for path in folder.iterdir()} == {FACTS, WEIGHTS, BACKBONE, HEAD, PROBE, MANIFEST}
    assert read_facts(folder) == finished.facts
    assert finished.facts.file_name == "beverage_detector.pth"


def test_the_probe_tells_what_the_notebooks_network_says(really: tuple[Path, Path], finished: Finished) -> None:
    images, probabilities = read_probe(really[1])
    np.testing.assert_array_equal(images, probe_images())
    with torch.inference_mode():
        expected = PixelNetwork(finished.notebook)(torch.from_numpy(images)).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 5])
def test_the_backbone_takes_pixels_in_any_number(batch: int, really: tuple[Path, Path]) -> None:
    session = onnxruntime.InferenceSession(str(really[1] / BACKBONE), providers=["CPUExecutionProvider"])
    [taken] = session.get_inputs()
    assert (taken.name, taken.type, taken.shape) == ("images", "tensor(uint8)", ["batch", 224, 224, 3])
    [features] = session.run(["features"], {"images": probe_images()[:batch]})
    assert (features.shape, features.dtype) == ((batch, 576), np.float32)


@pytest.mark.usefixtures("no_process")
def test_the_same_content_is_converted_once(really: tuple[Path, Path], finished: Finished) -> None:
    cache, folder = really
    assert asked_for(finished.weights, cache)[0] == folder


@pytest.mark.usefixtures("no_process")
def test_the_same_content_under_another_name_is_not_converted_again(
    really: tuple[Path, Path], finished: Finished, tmp_path: Path
) -> None:
    cache, folder = really
    other = tmp_path / "v2.pt"
    other.write_bytes(finished.weights.read_bytes())
    assert asked_for(other, cache, purpose="another purpose")[0] == folder


# When it is converted again


def test_other_content_has_another_folder(here: list[Conversion], finished: Finished, tmp_path: Path) -> None:
    cache, weights = tmp_path / "cache", tmp_path / "w.pth"
    weights.write_bytes(finished.weights.read_bytes())
    first, first_hash = asked_for(weights, cache)
    with_other_head(finished, weights)
    second, second_hash = asked_for(weights, cache)
    assert first != second
    assert first_hash != second_hash
    assert len(here) == 2
    assert not np.allclose(read_probe(first)[1], read_probe(second)[1], atol=0.01)


@pytest.mark.parametrize("damage", [BACKBONE, MANIFEST])
def test_a_damaged_folder_is_made_anew(damage: str, here: list[Conversion], finished: Finished, tmp_path: Path) -> None:
    folder, _ = asked_for(finished.weights, tmp_path)
    os.truncate(folder / damage, 20)
    assert not is_whole(folder)
    assert asked_for(finished.weights, tmp_path)[0] == folder
    assert len(here) == 2
    assert is_whole(folder)


@pytest.mark.parametrize(
    "change", [{"sha256": "1" * 64}, {"classes": tuple(reversed(BEVERAGES))}, {"activation": "gelu"}], ids=str
)
def test_the_folders_name_tells_what_its_content_depends_on(change: dict[str, Any]) -> None:
    assert replace(REQUEST, **change).key != REQUEST.key


@pytest.mark.parametrize("change", [{"weights": "/other.pth"}, {"purpose": "other"}], ids=str)
def test_the_folders_name_tells_nothing_else(change: dict[str, Any]) -> None:
    assert replace(REQUEST, **change).key == REQUEST.key


def test_another_form_of_the_folder_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = REQUEST.key
    monkeypatch.setattr(conversion, "_VERSION", conversion._VERSION + 1)
    assert REQUEST.key != before


def test_other_calibration_images_have_another_folder(tmp_path: Path) -> None:
    request = replace(REQUEST, calibration=str(tmp_path))
    keys = {REQUEST.key, request.key}
    (tmp_path / "a.jpg").write_bytes(b"a")
    keys.add(request.key)
    assert request.key == request.key
    (tmp_path / "a.jpg").write_bytes(b"ab")
    keys.add(request.key)
    (tmp_path / "a.jpg").rename(tmp_path / "b.jpg")
    keys.add(request.key)
    assert len(keys) == 5


# What goes wrong


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.pth", tmp_path) == "The weights 'none.pth' can't be read: No such file or directory"


@pytest.mark.usefixtures("no_process")
def test_calibration_images_that_are_not_there_are_said(finished: Finished, tmp_path: Path) -> None:
    told = refusal(finished.weights, tmp_path, calibration=str(tmp_path / "none"))
    assert told == f"The calibration images in '{tmp_path / 'none'}' can't be read: No such file or directory"


def test_a_file_that_changed_after_it_was_hashed_is_said(
    here: list[Conversion], finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "w.pth"
    weights.write_bytes(finished.weights.read_bytes())
    hash_of = conversion.sha256_of

    def changed_then(path: Path, cache: Path) -> str:
        sha256 = hash_of(path, cache)
        with_other_head(finished, weights)
        return sha256

    monkeypatch.setattr(conversion, "sha256_of", changed_then)
    told = refusal(weights, tmp_path / "cache")
    assert told.startswith("The weights 'w.pth' can't serve as beverage classifier: it changed while it was read")
    monkeypatch.setattr(conversion, "sha256_of", hash_of)
    folder, sha256 = asked_for(weights, tmp_path / "cache")
    assert read_facts(folder).sha256 == sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_file_that_went_away_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match=r"'w.pth' can't serve as .*: No such file or directory"):
        convert(replace(REQUEST, weights=str(tmp_path / "w.pth")), tmp_path)


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return a function that puts a shell script in the converter's place."""

    def replace_by(script: str) -> None:
        path = tmp_path / "converter"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(path))

    return replace_by


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'Unable to allocate 9 GiB' >&2; exit 3", "failed (exit status 3): Unable to allocate 9 GiB"),
        ("kill -9 $$", "failed (exit status -9): it said nothing"),
        ("exit 0", "failed (exit status 0): it said nothing"),
        ("echo half an ans; exit 1", "failed (exit status 1): it said nothing"),
        ("head -c 9000 /dev/zero | tr '\\0' x >&2; exit 1", f"failed (exit status 1): {'x' * 600}"),
        ("""echo noise; echo '{"error": "it is odd"}'""", "it is odd"),
    ],
)
def test_a_converter_that_dies_is_told(
    script: str, told: str, instead: Any, finished: Finished, tmp_path: Path
) -> None:
    instead(script)
    said = refusal(finished.weights, tmp_path / "cache")
    assert said == (told if told == "it is odd" else f"Converting 'beverage_detector.pth' {told}")
    assert not [path for path in (tmp_path / "cache" / "images").iterdir() if path.is_dir()]


def test_a_converter_that_hangs_is_ended_and_told(
    instead: Any, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead("exec tail -f /dev/null")
    monkeypatch.setattr(conversion, "_LONGEST_S", 0.2)
    assert "'beverage_detector.pth' took more than" in refusal(finished.weights, tmp_path / "cache")


@pytest.mark.parametrize("fits", [True, False])
def test_the_process_answers_in_its_last_line(
    fits: bool,
    here: list[Conversion],
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    classes = list(BEVERAGES if fits else CONTAINERS)
    request = {
        "weights": str(finished.weights),
        "sha256": finished.facts.sha256,
        "purpose": "test",
        "classes": classes,
        "activation": "relu",
        "calibration": "",
    }
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"request": request, "folder": str(tmp_path)})))
    nices: list[int] = []
    monkeypatch.setattr(os, "nice", nices.append)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: nices.append(-number))
    conversion.main()
    assert nices == [10, -1]  # it makes room for serving
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    if fits:
        assert answer == {"done": True}
        assert read_facts(tmp_path) == finished.facts
    else:
        assert from_json(answer["error"]).startswith(
            "The weights 'beverage_detector.pth' can't serve as test: its head must lead"
        )


# What is kept


def test_eight_folders_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "_convert_elsewhere", lambda request, folder: (folder / "f").write_text("x"))
    folders = []
    for number in range(8):
        weights = tmp_path / f"{number}.pth"
        weights.write_text(str(number))
        folders.append(asked_for(weights, tmp_path / "cache")[0])
        os.utime(folders[-1], (number, number))
    assert all(is_whole(folder) for folder in folders)
    asked_for(tmp_path / "0.pth", tmp_path / "cache")  # used again: the oldest no longer
    (tmp_path / "new.pth").write_text("new")
    newest, _ = asked_for(tmp_path / "new.pth", tmp_path / "cache")
    left = {path for path in (tmp_path / "cache" / "images").iterdir() if path.is_dir()}
    assert left == {newest, folders[0], *folders[2:]}
