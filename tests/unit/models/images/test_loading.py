"""From a spec to a classifier that is ready, on the fastest engine that computes right."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.errors import GpuMemoryError, ModelLoadingError
from serve_app.models.images import conversion, engines, loading
from serve_app.models.images.conversion import Conversion
from serve_app.models.images.converted import read_probe
from serve_app.models.images.engines import (
    EngineName,
    Layout,
    OnnxRuntimeEngine,
    OpenVinoEngine,
    Precision,
    TorchEngine,
)
from serve_app.models.images.loading import (
    LoadedClassifier,
    candidates,
    identity,
    load_classifier,
    weights_path,
)
from serve_app.models.images.machine import available_cores
from serve_app.models.images.options import ClassifierOptions
from serve_app.models.images.preprocessing import read_image
from serve_app.models.images.speed import Measured, Timing, usual_layout
from serve_app.models.images.tasks import BEVERAGE, CONTAINER
from tests.unit.models.images.conftest import Finished, with_other_head
from tests.unit.models.images.notebooks import saved
from tests.unit.models.images.pictures import encoded, quarters

PROJECT = Path(__file__).parents[4]
OPTIONS = ClassifierOptions(Path("/nowhere"))


@pytest.fixture
def options(tmp_path: Path) -> ClassifierOptions:
    return ClassifierOptions(tmp_path / "cache")


@pytest.fixture
def weights(finished: Finished, tmp_path: Path) -> Path:
    """Return a copy of the weights, for a test to change."""
    return Path(shutil.copy(finished.weights, tmp_path / "w.pth"))


def loaded(spec: object, options: ClassifierOptions, **more: Any) -> LoadedClassifier:
    return load_classifier(str(spec), BEVERAGE, options, **more)


def refusal(spec: object, options: ClassifierOptions, **more: Any) -> str:
    with pytest.raises(ModelLoadingError) as caught:
        loaded(spec, options, **more)
    return caught.value.detail


def offset(amount: float) -> Any:
    """Return probabilities that are wrong by an amount, in an engine's place."""
    right = OnnxRuntimeEngine.probabilities

    def wrong(self: OnnxRuntimeEngine, images: np.ndarray) -> np.ndarray:
        return right(self, images) + np.float32(amount)

    return wrong


# What is loaded


def test_a_classifier_is_ready_and_checked(here: list[Conversion], weights: Path, options: ClassifierOptions) -> None:
    classifier = loaded(weights, options)
    assert (classifier.engine.name, classifier.engine.precision) == (EngineName.ONNXRUNTIME, Precision.FP32)
    assert classifier.facts.model_version == f"w.pth ({classifier.facts.sha256[:8]})"
    assert classifier.spec == str(weights)
    assert classifier.notes == ()
    assert 0 <= classifier.difference < 1e-4
    images, expected = read_probe(next((options.cache_dir / "images").glob("*/probe.safetensors")).parent)
    np.testing.assert_allclose(classifier.engine.probabilities(images), expected, atol=1e-4)


def test_the_same_content_is_converted_once_and_keeps_its_own_name(
    here: list[Conversion], weights: Path, options: ClassifierOptions, tmp_path: Path
) -> None:
    other = Path(shutil.copy(weights, tmp_path / "beverage-v2.pt"))
    first, second = loaded(weights, options), loaded(other, options)
    assert len(here) == 1
    assert first.facts.model_version.startswith("w.pth (")
    assert second.facts.model_version.startswith("beverage-v2.pt (")
    assert first.facts.sha256 == second.facts.sha256


def test_a_changed_file_is_another_model(
    here: list[Conversion], weights: Path, finished: Finished, options: ClassifierOptions
) -> None:
    first = loaded(weights, options)
    with_other_head(finished, weights, 2.0)
    second = loaded(weights, options)
    assert first.facts.model_version != second.facts.model_version
    images = read_probe(finished.folder)[0][:4]
    assert np.abs(first.engine.probabilities(images) - second.engine.probabilities(images)).max() > 0.01


def test_it_is_warmed_for_the_sizes_that_will_come(
    here: list[Conversion], weights: Path, options: ClassifierOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    right = OnnxRuntimeEngine.probabilities

    def recorded(self: OnnxRuntimeEngine, images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return right(self, images)

    monkeypatch.setattr(OnnxRuntimeEngine, "probabilities", recorded)
    loaded(weights, options, batch_sizes=(1, 2, 5))
    assert seen == [4, 1, 2, 5]  # the probe, then the sizes


# Specs


def test_a_folder_with_one_file_stands_for_it(finished: Finished, options: ClassifierOptions, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    only = Path(shutil.copy(finished.weights, tmp_path / "model" / "anything.safetensors"))
    (tmp_path / "model" / "README.md").write_text("ours")
    assert weights_path(str(tmp_path / "model"), BEVERAGE, options) == only


def test_of_several_files_the_usual_name_wins(options: ClassifierOptions, tmp_path: Path) -> None:
    for name in ("beverage_detector.pth", "reusable_classifier.pth", "other.pt"):
        (tmp_path / name).write_bytes(b"x")
    assert weights_path(str(tmp_path), BEVERAGE, options).name == "beverage_detector.pth"
    assert weights_path(str(tmp_path), CONTAINER, options).name == "reusable_classifier.pth"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a.pth", "b.pt"), "is a folder with a.pth, b.pt: name the file, or call it beverage_detector.pth"),
        (("notes.txt",), "is a folder with no .pth, .pt, .safetensors file"),
        ((), "is a folder with no .pth, .pt, .safetensors file"),
    ],
)
def test_a_folder_that_names_no_file_is_said(
    names: tuple[str, ...], told: str, options: ClassifierOptions, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    for name in names:
        (tmp_path / "model" / name).write_bytes(b"x")
    assert told in refusal(tmp_path / "model", options)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("models/reusable.pth", "There is no file 'models/reusable.pth'"),
        ("./w.safetensors", "There is no file './w.safetensors'"),
        ("~/none-such/w.pt", "There is no file '~/none-such/w.pt'"),
        ("/none-such/folder", "There is no file or folder '/none-such/folder'"),
        ("embedded:cat-net", "No model 'cat-net' is embedded; there is beverage-net"),
        ("", "There is no file or folder"),
    ],
)
def test_a_spec_that_names_nothing_is_said(spec: str, told: str, options: ClassifierOptions) -> None:
    assert told in refusal(spec, options)


def test_identity_is_name_and_hash_without_converting(finished: Finished, options: ClassifierOptions) -> None:
    assert identity(str(finished.weights), BEVERAGE, options) == ("beverage_detector.pth", finished.facts.sha256)
    assert not (options.cache_dir / "images").exists()


def test_identity_of_a_file_that_went_away_is_said(
    weights: Path, options: ClassifierOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "sha256_of", lambda path, cache: path.with_name("gone").read_bytes())
    with pytest.raises(ModelLoadingError, match=r"The weights 'w.pth' can't be read: No such file"):
        identity(str(weights), BEVERAGE, options)


# What serves when the file is broken


def test_broken_weights_leave_those_that_served_before(
    here: list[Conversion], weights: Path, options: ClassifierOptions
) -> None:
    good = loaded(weights, options)
    weights.write_bytes(saved([1, 2, 3]))
    again = loaded(weights, options)
    assert again.facts == good.facts
    assert again.notes == (
        "the weights that served before are used: The weights 'w.pth' can't serve as beverage classifier: "
        "it holds a list, not a state_dict",
    )
    assert "it holds a list" in refusal(weights, options, keep_last=False)


def test_weights_that_went_away_leave_those_that_served_before(
    here: list[Conversion], weights: Path, options: ClassifierOptions
) -> None:
    loaded(weights, options)
    weights.unlink()
    again = loaded(weights, options)
    assert again.facts.file_name == "w.pth"
    assert "There is no file" in again.notes[0]
    assert "There is no file" in refusal(weights, options, keep_last=False)


def test_the_last_of_several_good_ones_serves(
    here: list[Conversion], weights: Path, finished: Finished, options: ClassifierOptions
) -> None:
    loaded(weights, options)
    with_other_head(finished, weights)
    newest = loaded(weights, options)
    weights.write_bytes(b"")
    assert loaded(weights, options).facts.sha256 == newest.facts.sha256


def test_weights_that_never_served_leave_nothing(
    here: list[Conversion], weights: Path, options: ClassifierOptions, tmp_path: Path
) -> None:
    loaded(weights, options)
    other = tmp_path / "other.pth"
    other.write_bytes(b"garbage, and not from here")
    assert "'other.pth' can't serve as beverage classifier" in refusal(other, options)


def test_one_tasks_weights_do_not_stand_in_for_anothers(
    here: list[Conversion], weights: Path, options: ClassifierOptions
) -> None:
    loaded(weights, options)
    with pytest.raises(ModelLoadingError, match=r"can't serve as container classifier: its head must lead"):
        load_classifier(str(weights), CONTAINER, options)


@pytest.mark.parametrize("kept", ["", "[]", "{}", '{"folder": "gone", "name": "w.pth"}', '{"folder": 3, "name": "w"}'])
def test_a_damaged_memory_of_what_served_is_as_none(
    kept: str, here: list[Conversion], weights: Path, options: ClassifierOptions
) -> None:
    loaded(weights, options)
    [pointer] = (options.cache_dir / "images").glob("last-beverage-*.json")
    assert json.loads(pointer.read_text())["name"] == "w.pth"
    pointer.write_text(kept)
    weights.write_bytes(b"broken")
    assert "'w.pth' can't serve" in refusal(weights, options)


# Engines


@pytest.mark.parametrize("amount", [0.01, float("nan"), float("inf")])
def test_an_engine_that_computes_wrongly_is_passed_over(
    amount: float,
    here: list[Conversion],
    weights: Path,
    options: ClassifierOptions,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(OnnxRuntimeEngine, "probabilities", offset(amount))
    with caplog.at_level(logging.WARNING):
        classifier = loaded(weights, options)
    assert (classifier.engine.name, classifier.engine.precision) == (EngineName.PYTORCH, Precision.FP32)
    assert classifier.difference < 1e-4
    [note] = classifier.notes
    shown = "0.01" if amount == 0.01 else "inf"
    assert note == (
        f"onnxruntime in fp32 was passed over: its probabilities differ by {shown} from PyTorch's in float32, and "
        "0.0001 is allowed"
    )
    assert note in caplog.text


def test_an_engine_that_does_not_start_is_passed_over(
    here: list[Conversion], weights: Path, options: ClassifierOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(OnnxRuntimeEngine, "__init__", fail)
    classifier = loaded(weights, options)
    assert classifier.engine.name is EngineName.PYTORCH
    assert "onnxruntime in fp32 was passed over: " in classifier.notes[0]
    assert "loading w.pth with onnxruntime in fp32 on cpu" in classifier.notes[0]
    assert "no such instruction" in classifier.notes[0]


def test_a_gpu_without_memory_is_passed_over(
    here: list[Conversion], weights: Path, options: ClassifierOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = engines.open_engine

    def full(name: EngineName, precision: Precision, *args: Any, **more: Any) -> Any:
        if precision is Precision.FP16:
            raise GpuMemoryError("The GPU ran out of memory")
        return opened(name, precision, *args, **more | {"device": "cpu"})

    monkeypatch.setattr(loading, "open_engine", full)
    classifier = loaded(weights, replace(options, device="cuda"))
    assert classifier.engine.precision is Precision.FP32
    assert classifier.notes == ("pytorch in fp16 was passed over: The GPU ran out of memory",)


def test_without_any_engine_all_are_named(
    here: list[Conversion], weights: Path, options: ClassifierOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxRuntimeEngine, "probabilities", offset(0.5))
    monkeypatch.setattr(TorchEngine, "probabilities", lambda self, images: np.full((len(images), 3), np.nan))
    told = refusal(weights, options)
    assert told.startswith("No engine runs w.pth (")
    assert "onnxruntime in fp32 was passed over: its probabilities differ by 0.5 " in told
    assert "pytorch in fp32 was passed over: its probabilities differ by inf " in told


def test_no_engine_leaves_no_memory_of_having_served(
    here: list[Conversion], weights: Path, options: ClassifierOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine in (OnnxRuntimeEngine, TorchEngine):
        monkeypatch.setattr(engine, "probabilities", lambda self, images: np.full((len(images), 3), np.nan))
    refusal(weights, options)
    assert not list((options.cache_dir / "images").glob("last-*"))


@pytest.mark.parametrize("allowed", [0.05, 0.005])
def test_in_half_precision_the_operators_bound_holds(
    allowed: float, here: list[Conversion], weights: Path, options: ClassifierOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_probe_of(options)
    monkeypatch.setattr(OpenVinoEngine, "_opened", lambda self, *args: None)
    monkeypatch.setattr(OpenVinoEngine, "probabilities", lambda self, images: expected(images) + 0.01)
    asked = replace(options, engine=EngineName.OPENVINO, precision=Precision.BF16, max_difference=allowed)
    classifier = loaded(weights, asked)
    assert classifier.engine.precision is (Precision.BF16 if allowed > 0.01 else Precision.FP32)
    assert len(classifier.notes) == (0 if allowed > 0.01 else 1)


def read_probe_of(options: ClassifierOptions) -> Any:
    """Return a function that knows the probe's probabilities by image."""

    def known(images: np.ndarray) -> np.ndarray:
        probed, probabilities = read_probe(next((options.cache_dir / "images").glob("*/probe.safetensors")).parent)
        by_image = {image.tobytes(): found for image, found in zip(probed, probabilities, strict=True)}
        return np.stack([by_image.get(image.tobytes(), probabilities[0]) for image in images])

    return known


_ORT, _OV, _PT = EngineName.ONNXRUNTIME, EngineName.OPENVINO, EngineName.PYTORCH
_FP32, _BF16, _FP16, _INT8 = Precision.FP32, Precision.BF16, Precision.FP16, Precision.INT8


def timing(engine: EngineName, precision: Precision, milliseconds: float) -> Timing:
    return Timing(engine, precision, Layout(), milliseconds, milliseconds, 1e-5)


ALL_TIMINGS = (timing(_ORT, _FP32, 20), timing(_OV, _FP32, 24), timing(_OV, _BF16, 10), timing(_OV, _INT8, 5))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [({}, [(_ORT, _FP32)]), ({"engine": _OV}, [(_OV, _FP32)]), ({"precision": _INT8}, [(_OV, _INT8)])],
)
def test_where_nothing_could_be_measured_onnx_runtime_serves_or_what_the_operator_asks_for(
    asked: dict[str, Any], expected: list[tuple[EngineName, Precision]]
) -> None:
    found = candidates(replace(OPTIONS, **asked), Measured())
    assert [(plan.engine, plan.precision) for plan in found] == [*expected, (_PT, _FP32)]
    assert found[0].layout == usual_layout(available_cores())


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [(_OV, _INT8), (_OV, _BF16), (_ORT, _FP32), (_OV, _FP32)]),
        ({"device": "cuda"}, [(_PT, _FP16)]),
        ({"device": "cuda:1", "precision": _BF16}, [(_PT, _BF16)]),
        ({"device": "cuda", "precision": _FP32}, []),
        ({"engine": _ORT}, [(_ORT, _FP32)]),
        ({"engine": _OV}, [(_OV, _FP32)]),
        ({"engine": _PT}, []),
        ({"engine": _ORT, "precision": _INT8}, [(_ORT, _INT8)]),  # it was not measured: the operator's word counts
        ({"precision": _BF16}, [(_OV, _BF16)]),
        ({"precision": _FP16}, [(_PT, _FP16)]),
        ({"precision": _FP32}, [(_ORT, _FP32), (_OV, _FP32)]),
    ],
)
def test_engines_are_tried_fastest_first_and_pytorch_last(
    asked: dict[str, Any], expected: list[tuple[EngineName, Precision]]
) -> None:
    found = candidates(replace(OPTIONS, **asked), Measured(ALL_TIMINGS))
    assert [(plan.engine, plan.precision) for plan in found] == [*expected, (_PT, _FP32)]


def test_the_measured_engine_runs_and_its_times_are_kept(
    here: list[Conversion], weights: Path, options: ClassifierOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(1, 2, 1)
    timings = (Timing(_OV, _FP32, layout, 1.0, 1.0, 1e-6), Timing(_ORT, _FP32, Layout(), 9.0, 9.0, 1e-6))
    monkeypatch.setattr(loading, "measured", lambda folder, cores: Measured(timings))
    classifier = loaded(weights, options)
    assert (classifier.engine.name, classifier.engine.layout) == (_OV, layout)
    assert classifier.timings == timings


# What a serving process loads

_SERVING = """
import sys
from pathlib import Path
from serve_app.models.images import loading
from serve_app.models.images.loading import load_classifier
from serve_app.models.images.options import ClassifierOptions
from serve_app.models.images.preprocessing import read_image
from serve_app.models.images.speed import Measured
from serve_app.models.images.tasks import BEVERAGE

loading.measured = lambda folder, cores: Measured()  # it takes seconds, in another process
classifier = load_classifier(sys.argv[1], BEVERAGE, ClassifierOptions(Path(sys.argv[2])))
found = classifier.engine.probabilities(read_image(sys.stdin.buffer.read())[None])
print(classifier.engine.name, found.round(4).tolist())
print([name for name in ("torch", "torchvision", "onnx", "openvino", "scipy", "ray") if name in sys.modules])
"""


def test_a_serving_process_loads_no_torch(here: list[Conversion], weights: Path, options: ClassifierOptions) -> None:
    data = encoded(quarters(300, 260), "PNG")
    expected = loaded(weights, options)
    done = subprocess.run(
        [sys.executable, "-c", _SERVING, str(weights), str(options.cache_dir)],
        cwd=PROJECT,
        input=data,
        capture_output=True,
        check=True,
    )
    said, modules = done.stdout.decode().strip().splitlines()
    found = expected.engine.probabilities(read_image(data)[None]).round(4).tolist()
    assert said.startswith("onnxruntime ")
    np.testing.assert_allclose(json.loads(said.removeprefix("onnxruntime ")), found, atol=2e-4)
    assert modules == "[]"


def test_nothing_is_converted_for_weights_that_do_not_change(
    here: list[Conversion], weights: Path, options: ClassifierOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(weights, options)
    monkeypatch.setattr(conversion, "_convert_elsewhere", lambda *args: pytest.fail("it was converted again"))
    assert loaded(weights, options).notes == ()
