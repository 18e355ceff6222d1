"""The deployment without Ray: what a real, untrained MobileNetV3-Small says, whoever shares its batches, and how its
weights are replaced meanwhile."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from serve_app.deployments.image_classifier import (
    BeverageDetector,
    ClassifierReplica,
    ContainerClassifier,
    warmed_sizes,
)
from serve_app.errors import (
    GpuMemoryError,
    ImageTooLarge,
    ImageUnreadable,
    ModelLoadingError,
    ProcessingError,
    ServeAppError,
)
from serve_app.models.images import conversion, loading
from serve_app.models.images.architectures import Architecture
from serve_app.models.images.conversion import Conversion
from serve_app.models.images.loading import load_classifier
from serve_app.models.images.networks import PixelNetwork, build_network
from serve_app.models.images.options import ClassifierArgs, ClassifierOptions
from serve_app.models.images.preprocessing import Fit, read_image
from serve_app.models.images.speed import Measured
from serve_app.models.images.tasks import BEVERAGE, CONTAINER
from serve_app.models.options import ModelEnvironment
from serve_app.services import ImageClassification, ReplicaModel

MAX_PIXELS = 1_000_000
DEADLINE_S = 20.0


def picture(seed: int, size: tuple[int, int] = (60, 40)) -> bytes:
    """Return a PNG of soft colours at random."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def black() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (30, 30)).save(file, "PNG")
    return file.getvalue()


def convert_here(request: Conversion, folder: Path) -> None:
    """Stand in for the process that converts, which would have to load torch again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter
        conversion.convert(request, folder)


@pytest.fixture(autouse=True, scope="module")
def _convert_here() -> Iterator[None]:
    """Convert in this process, and measure no engines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "_convert_elsewhere", convert_here)
        patch.setattr(loading, "measured", lambda folder, cores: Measured())
        yield


def save_network(path: Path, seed: int, num_classes: int = 2) -> None:
    """Save a network at random; its statistics are of pictures, or it would say the same of them all."""
    torch.manual_seed(seed)
    network = build_network(Architecture.MOBILENET_V3_SMALL, num_classes, hidden_widths=(16,)).train()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    pixels = np.stack([read_image(picture(number)) for number in range(8)])
    with torch.no_grad():
        PixelNetwork(network)(torch.from_numpy(pixels))
    torch.save(network.state_dict(), path)


@dataclass(frozen=True)
class Weights:
    """Two files of weights, converted already, and the cache that knows them."""

    old: Path
    new: Path
    cache: Path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    folder = tmp_path_factory.mktemp("weights")
    made = Weights(folder / "old.pth", folder / "new.pth", folder / "cache")
    for seed, path in enumerate((made.old, made.new)):
        save_network(path, seed)
        load_classifier(str(path), CONTAINER, ClassifierOptions(made.cache))
    return made


@pytest.fixture
def file(weights: Weights, tmp_path: Path) -> Path:
    """The file that the configuration names: the old weights, at first."""
    return Path(shutil.copy(weights.old, tmp_path / "reusable.pth"))


def put(source: Path | bytes, target: Path) -> None:
    """Put a file in place whole, as operators are told to."""
    partial = target.with_suffix(".part")
    partial.write_bytes(source if isinstance(source, bytes) else source.read_bytes())
    os.replace(partial, target)


@pytest.fixture
def make(file: Path, weights: Weights) -> Callable[..., Any]:
    def make(spec: str | Path | None = None, **options: Any) -> Any:
        given = ClassifierArgs(**{"model": str(spec or file), "batch_size": 4, **options})
        return ClassifierReplica(CONTAINER, given, ModelEnvironment(models_dir=weights.cache), MAX_PIXELS)

    return make


def expected(path: Path, weights: Weights, *images: bytes, fit: Fit = Fit.CROP) -> list[dict[str, float]]:
    """Return the scores that the network gives alone."""
    loaded = load_classifier(str(path), CONTAINER, ClassifierOptions(weights.cache))
    rows = [loaded.engine.probabilities(read_image(image, fit=fit)[np.newaxis])[0] for image in images]
    return [dict(zip(CONTAINER.classes, map(float, row), strict=True)) for row in rows]


class SpyEngine:
    """Runs a replica's real engine; remembers its batches, fails where a test says so, and can be held."""

    def __init__(self, replica: Any, fails: Callable[[np.ndarray], Exception | None] = lambda images: None) -> None:
        loaded = replica._model.or_none
        self.batches: list[int] = []
        self.go, self.entered = threading.Event(), threading.Event()
        self.go.set()
        self._engine, self._fails = loaded.engine, fails
        self.name, self.precision, self.device = self._engine.name, self._engine.precision, self._engine.device
        self.layout = self._engine.layout
        replica._model.exchange(replace(loaded, engine=self))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(len(images))
        self.entered.set()
        assert self.go.wait(DEADLINE_S)
        error = self._fails(images)
        if error is not None:
            raise error
        return self._engine.probabilities(images)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():
            await asyncio.sleep(0.001)


class TestClassify:
    def test_says_what_the_network_says(self, make: Callable[..., Any], file: Path, weights: Weights) -> None:
        images = [picture(seed) for seed in range(3)]
        replica = make()
        found = [asyncio.run(replica.classify(image)) for image in images]
        for answer, scores in zip(found, expected(file, weights, *images), strict=True):
            assert answer.scores.scores == pytest.approx(scores, abs=1e-6)
            assert list(answer.scores.scores) == ["disposable", "reusable"]
            assert answer.scores.label == max(scores, key=scores.__getitem__)
            assert sum(answer.scores.scores.values()) == pytest.approx(1, abs=1e-6)
            assert (
                answer.model_version
                == f"reusable.pth ({loading.identity(str(file), CONTAINER, options(weights))[1][:8]})"
            )
        values = [answer.scores.scores["reusable"] for answer in found]
        assert min(abs(np.diff(values))) > 0.01  # the pictures are looked at

    def test_pictures_become_square_as_configured(self, make: Callable[..., Any], file: Path, weights: Weights) -> None:
        image = picture(5, (300, 60))
        crop, stretch = (asyncio.run(make(fit=fit).classify(image)).scores.scores for fit in (Fit.CROP, Fit.STRETCH))
        assert crop == pytest.approx(expected(file, weights, image)[0], abs=1e-6)
        assert stretch == pytest.approx(expected(file, weights, image, fit=Fit.STRETCH)[0], abs=1e-6)
        assert abs(crop["reusable"] - stretch["reusable"]) > 0.001

    @pytest.mark.parametrize(
        ("image", "error", "told"),
        [
            (b"", ImageUnreadable, "empty"),
            (b"no picture", ImageUnreadable, "no picture of a known kind"),
            (picture(0)[:-40], ImageUnreadable, "broken or cut off"),
            (picture(0, (1001, 1000)), ImageTooLarge, "more than 1 million pixels"),
        ],
    )
    def test_what_is_no_picture(
        self, make: Callable[..., Any], image: bytes, error: type[ServeAppError], told: str
    ) -> None:
        replica = make()
        with pytest.raises(error, match=told):
            asyncio.run(replica.classify(image))
        assert asyncio.run(replica.classify(picture(0))).scores.label in CONTAINER.classes

    def test_a_broken_one_leaves_the_others(self, make: Callable[..., Any], file: Path, weights: Weights) -> None:
        good = [picture(seed) for seed in range(4)]
        answers = asyncio.run(make().classify_many([good[0], b"broken", good[1], good[2], b"", good[3]]))
        assert [type(answer) for answer in answers] == [
            ImageClassification,
            ImageUnreadable,
            ImageClassification,
            ImageClassification,
            ImageUnreadable,
            ImageClassification,
        ]
        found = [answer for answer in answers if isinstance(answer, ImageClassification)]
        for answer, scores in zip(found, expected(file, weights, *good), strict=True):
            assert answer.scores.scores == pytest.approx(scores, abs=1e-6)

    def test_nothing_is_answered_by_nothing(self, make: Callable[..., Any]) -> None:
        assert asyncio.run(make().classify_many([])) == []


def options(weights: Weights) -> ClassifierOptions:
    return ClassifierOptions(weights.cache)


class TestBatching:
    def test_what_waits_goes_into_one_call(self, make: Callable[..., Any], file: Path, weights: Weights) -> None:
        images = [picture(seed) for seed in range(7)]
        replica = make()
        engine = SpyEngine(replica)
        engine.go.clear()

        async def run() -> list[ImageClassification]:
            calls = [asyncio.create_task(replica.classify(images[0]))]
            await until(engine.entered.is_set)
            calls.append(asyncio.create_task(replica.classify_many(images[1:4])))  # of several requests
            calls += [asyncio.create_task(replica.classify(image)) for image in images[4:]]
            await until(lambda: len(replica._pixels._waiting) == 6)
            engine.go.set()
            first, several, *others = await asyncio.gather(*calls)
            return [first, *several, *others]

        answers = asyncio.run(run())
        assert engine.batches == [1, 4, 2]
        for answer, scores in zip(answers, expected(file, weights, *images), strict=True):
            assert answer.scores.scores == pytest.approx(scores, abs=1e-5)

    def test_a_free_network_takes_a_lone_picture_at_once(self, make: Callable[..., Any]) -> None:
        replica = make()
        engine = SpyEngine(replica)
        for seed in range(2):
            asyncio.run(replica.classify(picture(seed)))
        assert engine.batches == [1, 1]

    def test_wait_for_a_full_batch(self, make: Callable[..., Any]) -> None:
        replica = make(batch_wait_s=60.0)  # the test would time out if it waited for the clock
        engine = SpyEngine(replica)
        asyncio.run(replica.classify_many([picture(seed) for seed in range(4)]))
        assert engine.batches == [4]

    def test_a_caller_that_leaves_takes_its_picture_along(self, make: Callable[..., Any]) -> None:
        replica = make()
        engine = SpyEngine(replica)
        engine.go.clear()

        async def run() -> None:
            kept = [asyncio.create_task(replica.classify(picture(0)))]
            await until(engine.entered.is_set)
            gone = asyncio.create_task(replica.classify(picture(1)))
            kept.append(asyncio.create_task(replica.classify(picture(2))))
            await until(lambda: len(replica._pixels._waiting) == 2)
            gone.cancel()
            await asyncio.wait([gone])
            engine.go.set()
            await asyncio.gather(*kept)

        asyncio.run(run())
        assert engine.batches == [1, 1]

    def test_replica_is_warm_for_every_size(self, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[list[int]] = []
        load = loading.load_classifier

        def watched(*args: Any, batch_sizes: Any, **kwargs: Any) -> Any:
            asked.append(list(batch_sizes))
            return load(*args, batch_sizes=batch_sizes, **kwargs)

        monkeypatch.setattr(loading, "load_classifier", watched)
        make(batch_size=3)
        assert asked == [[1, 2, 3]]


class TestFailingNetwork:
    def test_of_one_picture_costs_that_one_only(self, make: Callable[..., Any]) -> None:
        replica = make(batch_wait_s=60.0)
        engine = SpyEngine(
            replica, lambda images: ProcessingError("bad numbers") if (images == 0).all((1, 2, 3)).any() else None
        )
        first, failed, *last = asyncio.run(replica.classify_many([picture(0), black(), picture(1), picture(2)]))
        assert (type(failed), failed.detail) == (ProcessingError, "bad numbers")
        assert [type(answer) for answer in (first, *last)] == [ImageClassification] * 3
        assert engine.batches == [4, 1, 1, 1, 1]

    def test_gpu_memory_runs_out_for_many_only(self, make: Callable[..., Any], file: Path, weights: Weights) -> None:
        images = [picture(seed) for seed in range(4)]
        replica = make(batch_wait_s=60.0)
        engine = SpyEngine(replica, lambda found: GpuMemoryError("no memory") if len(found) > 1 else None)
        answers = asyncio.run(replica.classify_many(images))
        assert engine.batches == [4, 1, 1, 1, 1]
        for answer, scores in zip(answers, expected(file, weights, *images), strict=True):
            assert answer.scores.scores == pytest.approx(scores, abs=1e-6)

    def test_gpu_memory_runs_out_for_one_too(self, make: Callable[..., Any]) -> None:
        replica = make()
        SpyEngine(replica, lambda images: GpuMemoryError("no memory"))
        with pytest.raises(GpuMemoryError, match="no memory"):
            asyncio.run(replica.classify(picture(0)))
        assert [type(each) for each in asyncio.run(replica.classify_many([picture(0), b""]))] == [
            GpuMemoryError,
            ImageUnreadable,
        ]


class TestReload:
    def test_new_file(self, make: Callable[..., Any], file: Path, weights: Weights) -> None:
        replica = make()
        before = asyncio.run(replica.describe())
        put(weights.new, file)
        after = asyncio.run(replica.reload())
        assert after == asyncio.run(replica.describe())
        assert after.sha256 == loading.identity(str(weights.new), CONTAINER, options(weights))[1] != before.sha256
        assert after.model_version == f"reusable.pth ({after.sha256[:8]})"
        assert after.failure is None
        assert after.loaded_at > before.loaded_at
        answer = asyncio.run(replica.classify(picture(0)))
        assert answer.model_version == after.model_version
        assert answer.scores.scores == pytest.approx(expected(weights.new, weights, picture(0))[0], abs=1e-6)

    def test_calls_in_flight_are_answered_by_the_old_and_later_ones_by_the_new(
        self, make: Callable[..., Any], file: Path, weights: Weights
    ) -> None:
        replica = make()
        old = asyncio.run(replica.describe()).model_version
        engine = SpyEngine(replica)
        engine.go.clear()

        async def run() -> None:
            in_flight = asyncio.create_task(replica.classify(picture(0)))
            await until(engine.entered.is_set)
            put(weights.new, file)
            new = (await replica.reload()).model_version  # while the old network still computes
            later = asyncio.create_task(replica.classify(picture(1)))
            await until(lambda: replica._pixels._waiting)
            engine.go.set()
            answers = await asyncio.gather(in_flight, later)
            assert [answer.model_version for answer in answers] == [old, new]
            assert old != new
            for answer, path, seed in zip(answers, (weights.old, weights.new), (0, 1), strict=True):
                scores = expected(path, weights, picture(seed))[0]
                assert answer.scores.scores == pytest.approx(scores, abs=1e-6)

        asyncio.run(run())
        assert engine.batches == [1]  # which the old network never saw again

    def test_no_call_fails_meanwhile(self, make: Callable[..., Any], file: Path, weights: Weights) -> None:
        replica = make()
        versions: list[str] = []
        scores = {path: expected(path, weights, picture(0))[0] for path in (weights.old, weights.new)}

        async def run() -> None:
            ended = asyncio.Event()

            async def ask() -> None:
                while not ended.is_set():
                    answer = await replica.classify(picture(0))
                    versions.append(answer.model_version)
                    path = weights.new if answer.model_version != versions[0] else weights.old
                    assert answer.scores.scores == pytest.approx(scores[path], abs=1e-5)

            callers = [asyncio.create_task(ask()) for _ in range(3)]
            await until(lambda: len(versions) > 3)
            put(weights.new, file)
            told = await replica.reload()
            await until(lambda: versions[-1] == told.model_version)
            ended.set()
            await asyncio.gather(*callers)

        asyncio.run(run())
        assert len(dict.fromkeys(versions)) == 2
        assert versions == sorted(versions, key=[*dict.fromkeys(versions)].index)  # never back

    @pytest.mark.parametrize("touched", [False, True])
    def test_of_an_unchanged_file_does_nothing(
        self, make: Callable[..., Any], file: Path, monkeypatch: pytest.MonkeyPatch, touched: bool
    ) -> None:
        replica = make()
        loaded, before = replica._model.or_none, asyncio.run(replica.describe())
        monkeypatch.setattr(loading, "load_classifier", None)  # it would fail
        if touched:
            put(file, file)
        assert asyncio.run(replica.reload()) == before
        assert replica._model.or_none is loaded

    def test_a_broken_file_keeps_the_old_until_a_good_one_comes(
        self, make: Callable[..., Any], file: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replica = make()
        before = asyncio.run(replica.describe())
        put(b"no weights at all", file)
        refused = asyncio.run(replica.reload())
        assert "'reusable.pth' can't serve as container classifier: it is no file of weights" in (refused.failure or "")
        assert replace(refused, failure=None) == before
        assert asyncio.run(replica.classify(picture(0))).model_version == before.model_version
        monkeypatch.setattr(replica._model, "_started_at", replica._model._started_at - 1000)
        replica.check_health()  # it serves

        put(weights.new, file)
        healed = asyncio.run(replica.reload())
        assert healed.failure is None
        assert healed.sha256 != before.sha256

    def test_back_to_the_old_file_clears_the_failure(
        self, make: Callable[..., Any], file: Path, weights: Weights
    ) -> None:
        replica = make()
        before = asyncio.run(replica.describe())
        put(b"no weights at all", file)
        assert asyncio.run(replica.reload()).failure
        put(weights.old, file)
        assert asyncio.run(replica.reload()) == before

    def test_weights_of_another_task(self, make: Callable[..., Any], file: Path, weights: Weights) -> None:
        replica = make()
        save_network(file.with_name("three.pth"), 2, num_classes=3)
        put(file.with_name("three.pth"), file)
        failure = asyncio.run(replica.reload()).failure
        assert "2 classes (disposable, reusable)" in failure
        assert "576→16" in failure

    def test_a_vanished_file_keeps_serving(self, make: Callable[..., Any], file: Path) -> None:
        replica = make()
        before = asyncio.run(replica.describe())
        file.unlink()
        assert asyncio.run(replica.classify(picture(0))).model_version == before.model_version
        after = asyncio.run(replica.reload())
        assert after.failure.startswith(f"There is no file {file.name!r}")
        assert replace(after, failure=None) == before
        assert asyncio.run(replica.classify(picture(0))).model_version == before.model_version

    def test_two_at_once_load_once(
        self, make: Callable[..., Any], file: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replica = make()
        put(weights.new, file)
        loads: list[str] = []
        load = loading.load_classifier

        def watched(spec: str, *args: Any, **kwargs: Any) -> Any:
            loads.append(spec)
            return load(spec, *args, **kwargs)

        monkeypatch.setattr(loading, "load_classifier", watched)

        async def run() -> list[ReplicaModel]:
            return await asyncio.gather(replica.reload(), replica.reload())

        first, second = asyncio.run(run())
        assert first == second
        assert loads == [str(file)]

    @pytest.mark.parametrize(
        "error",
        [GpuMemoryError("no memory for two"), ProcessingError("bad numbers"), OSError(36, "File name too long")],
        ids=lambda error: type(error).__name__,
    )
    def test_whatever_goes_wrong_the_old_serves(
        self,
        make: Callable[..., Any],
        file: Path,
        weights: Weights,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
    ) -> None:
        """Serve would take the replica down if `reconfigure` raised."""
        replica = make()
        before = asyncio.run(replica.describe())
        put(weights.new, file)

        def fail(*args: Any, **kwargs: Any) -> None:
            raise error

        monkeypatch.setattr(loading, "load_classifier", fail)
        asyncio.run(replica.reconfigure({"revision": 2}))
        after = asyncio.run(replica.describe())
        assert replace(after, failure=None) == before
        assert str(error.args[-1]) in after.failure
        assert asyncio.run(replica.classify(picture(0))).model_version == before.model_version


class TestReconfigure:
    def test_nothing_changes_nothing(self, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        replica = make()
        before = asyncio.run(replica.describe())
        monkeypatch.setattr(loading, "load_classifier", None)
        for config in (None, {}, {"model": None}, {"model": ""}, {"revision": 7}):
            asyncio.run(replica.reconfigure(config))
            assert asyncio.run(replica.describe()) == before

    def test_other_weights_and_back(self, make: Callable[..., Any], file: Path, weights: Weights) -> None:
        replica = make()
        before = asyncio.run(replica.describe())
        asyncio.run(replica.reconfigure({"model": str(weights.new)}))
        after = asyncio.run(replica.describe())
        assert (after.spec, after.failure) == ("new.pth", None)
        assert after.model_version == f"new.pth ({after.sha256[:8]})"
        assert asyncio.run(replica.classify(picture(0))).model_version == after.model_version
        asyncio.run(replica.reconfigure({}))
        back = asyncio.run(replica.describe())
        assert (back.spec, back.model_version) == (file.name, before.model_version)

    def test_another_revision_reads_the_file_again(
        self, make: Callable[..., Any], file: Path, weights: Weights
    ) -> None:
        replica = make()
        before = asyncio.run(replica.describe())
        asyncio.run(replica.reconfigure({"revision": 1}))
        put(weights.new, file)
        assert asyncio.run(replica.describe()).sha256 == before.sha256
        asyncio.run(replica.reconfigure({"revision": 2}))
        assert asyncio.run(replica.describe()).sha256 != before.sha256

    @pytest.mark.parametrize(
        ("config", "told"),
        [
            ({"modell": "x"}, "unknown keys: modell"),
            ({"model": "/nowhere.pth", "a": 1, "b": 2}, "unknown keys: a, b"),
            ({7: 1, "x": 2}, "unknown keys: 7, x"),
            ({"model": "/nowhere.pth"}, "There is no file 'nowhere.pth'"),
            ({"model": 7}, "no file or folder '7'"),
            ({"model": ["a"]}, "no file or folder"),
            ({"model": "embedded:nothing"}, "'nothing'"),
            ({"model": "x" * 5000}, "ile name too long"),
        ],
    )
    def test_what_can_not_be_used_never_raises(self, make: Callable[..., Any], config: Any, told: str) -> None:
        replica = make()
        before = asyncio.run(replica.describe())
        asyncio.run(replica.reconfigure(config))
        after = asyncio.run(replica.describe())
        assert told in after.failure
        assert replace(after, failure=None, spec=before.spec) == before
        assert asyncio.run(replica.classify(picture(0))).model_version == before.model_version
        replica.check_health()
        asyncio.run(replica.reconfigure({}))
        assert asyncio.run(replica.describe()) == before


class TestNoWeights:
    def test_every_call_is_told_and_then_serve(
        self, make: Callable[..., Any], file: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = file.with_name("later.pth")
        replica = make(spec)
        told = f"There is no file {str(spec)!r}"
        for _ in range(2):
            with pytest.raises(ModelLoadingError, match="There is no file"):
                asyncio.run(replica.classify(picture(0)))
        answers = asyncio.run(replica.classify_many([picture(0), b"broken"]))
        assert [(type(answer), answer.detail.startswith(told)) for answer in answers] == [(ModelLoadingError, True)] * 2
        described = asyncio.run(replica.describe())
        assert described.failure.startswith(f"There is no file {spec.name!r}")
        nothing = (None, None, None, None, None, None, False, ())
        assert nothing == (
            described.model_version,
            described.sha256,
            described.architecture,
            described.engine,
            described.loaded_at,
            described.max_difference,
            described.warm,
            described.notes,
        )
        replica.check_health()
        monkeypatch.setattr(replica._model, "_started_at", replica._model._started_at - 31)
        with pytest.raises(RuntimeError, match="There is no file"):
            replica.check_health()
        asyncio.run(replica.reconfigure({"revision": 1}))  # still none
        with pytest.raises(RuntimeError):
            replica.check_health()

        put(weights.new, spec)
        healed = asyncio.run(replica.reload())
        assert (healed.failure, healed.warm) == (None, True)
        replica.check_health()
        assert asyncio.run(replica.classify(picture(0))).model_version == healed.model_version

    def test_another_model_heals_it_too(self, make: Callable[..., Any], weights: Weights) -> None:
        replica = make("/nowhere.pth")
        asyncio.run(replica.reconfigure({"model": str(weights.new)}))
        assert asyncio.run(replica.describe()).failure is None
        assert asyncio.run(replica.classify(picture(0))).model_version.startswith("new.pth (")

    def test_a_replica_that_starts_while_the_file_is_broken_takes_the_last_good_one(
        self, make: Callable[..., Any], file: Path
    ) -> None:
        before = asyncio.run(make().describe())
        put(b"no weights at all", file)
        replica = make()
        after = asyncio.run(replica.describe())
        assert (after.model_version, after.sha256) == (before.model_version, before.sha256)
        assert any(note.startswith("the weights that served before are used: ") for note in after.notes)
        assert asyncio.run(replica.classify(picture(0))).model_version == before.model_version

    @pytest.mark.parametrize("error", [GpuMemoryError("no memory"), ProcessingError("bad numbers")])
    def test_a_network_that_fails_as_it_is_warmed_is_no_model(
        self, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: ServeAppError
    ) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise error

        monkeypatch.setattr(loading, "load_classifier", fail)
        replica = make()
        with pytest.raises(ModelLoadingError, match=error.detail):
            asyncio.run(replica.classify(picture(0)))

    def test_weights_of_another_task(self, file: Path, weights: Weights) -> None:
        replica = ClassifierReplica(
            BEVERAGE, ClassifierArgs(model=str(file)), ModelEnvironment(models_dir=weights.cache), MAX_PIXELS
        )
        with pytest.raises(
            ModelLoadingError, match=r"beverage classifier: .*3 classes \(empty, with_beverage, unclear"
        ):
            asyncio.run(replica.classify(picture(0)))


def test_a_replica_describes_what_it_serves(make: Callable[..., Any], file: Path, weights: Weights) -> None:
    started = time.time()
    found = asyncio.run(make().describe())
    assert (
        found
        == ReplicaModel(
            replica="",  # outside of Serve
            node=os.uname().nodename,
            pid=os.getpid(),
            spec=file.name,
            model_version=f"reusable.pth ({found.sha256[:8]})",
            sha256=found.sha256,
            architecture="mobilenet_v3_small",
            engine="onnxruntime fp32",
            device="cpu",
            warm=True,
            loaded_at=found.loaded_at,
            max_difference=found.max_difference,
            notes=(
                "mobilenet_v3_small backbone under its own names",
                "head classifier.0, classifier.3: FC(576 → 16 → 2)",
            ),
            failure=None,
            cores=found.cores,
        )
    )
    assert "for one picture" in found.cores
    assert started <= found.loaded_at <= time.time()
    assert 0 <= found.max_difference < 1e-4


class TestEmbed:
    def test_it_is_the_backbones_output_of_length_one(self, make: Callable[..., Any], file: Path) -> None:
        images = [picture(seed) for seed in range(3)]
        network = build_network(Architecture.MOBILENET_V3_SMALL, 2, hidden_widths=(16,))
        network.load_state_dict(torch.load(file, weights_only=True))
        network.classifier = torch.nn.Identity()
        pixels = torch.from_numpy(np.stack([read_image(image) for image in images]))
        with torch.inference_mode():
            reference = PixelNetwork(network.eval())(pixels).numpy()
        replica = make()
        found = asyncio.run(replica.embed_many(images))
        assert len({answer.vector for answer in found}) == 3
        for answer, features in zip(found, reference, strict=True):
            vector = np.array(answer.vector)
            assert (len(vector), answer.model_version) == (576, replica._model.get().facts.model_version)
            assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
            assert vector @ features / np.linalg.norm(features) > 0.999999

    def test_an_engine_that_is_not_exact_enough_leaves_it_to_one_in_float32(self, make: Callable[..., Any]) -> None:
        replica = make()
        exact = asyncio.run(replica.embed(picture(0))).vector
        loaded = replica._model.get()

        class Rounded:
            device, layout = "cpu", loaded.engine.layout

            def features(self, images: np.ndarray) -> np.ndarray:
                features = loaded.engine.features(images)
                return features * np.random.default_rng(0).normal(1.0, 0.1, features.shape).astype(np.float32)

        replica._model.exchange(replace(loaded, engine=Rounded()))
        assert asyncio.run(replica.embed(picture(0))).vector == pytest.approx(exact, abs=1e-6)

    def test_new_weights_have_features_of_their_own(
        self, make: Callable[..., Any], file: Path, weights: Weights
    ) -> None:
        replica = make()
        before = asyncio.run(replica.embed(picture(0)))
        put(weights.new, file)
        asyncio.run(replica.reload())
        after = asyncio.run(replica.embed(picture(0)))
        assert after.model_version != before.model_version
        assert float(np.dot(after.vector, before.vector)) < 0.999

    def test_what_is_no_picture(self, make: Callable[..., Any]) -> None:
        good, bad = asyncio.run(make().embed_many([picture(0), b"no picture"]))
        assert len(good.vector) == 576
        assert isinstance(bad, ImageUnreadable)


def test_names() -> None:
    assert (ContainerClassifier.name, BeverageDetector.name) == ("ContainerClassifier", "BeverageDetector")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12]), (256, [2**n for n in range(9)])],
)
def test_a_large_batch_is_warmed_in_few_steps(batch_size: int, sizes: list[int]) -> None:
    assert warmed_sizes(batch_size) == sizes
