"""Pictures over a deployment that is a plain object here: shared calls, order, limits, fall-back, addresses."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, BinaryIO

import pytest
from ray.serve.exceptions import BackPressureError

from serve_app.errors import (
    AddressRefused,
    DownloadError,
    GpuMemoryError,
    ImageUnreadable,
    ModelLoadingError,
    ProcessingError,
    Unavailable,
)
from serve_app.flows import images as module
from serve_app.flows.images import ImageFlow, LocalClassifier
from serve_app.results import LabelScores
from serve_app.services import ImageClassification, ImageEmbedding
from tests.unit.flows.fakes import placed

KIB = 1024


def seen(content: bytes) -> ImageClassification:
    return ImageClassification(LabelScores("reusable", {"disposable": 0.1, "reusable": 0.9}), content[:20].decode())


class Classifier:
    """A deployment: answers each picture with its own beginning, or with its failure."""

    def __init__(self, failures: dict[bytes, Exception] | None = None) -> None:
        self.failures = failures or {}
        self.fails_with: Exception | None = None
        self.calls: list[list[bytes]] = []
        self.working = self.most_at_once = 0
        self.go = asyncio.Event()
        self.go.set()
        self.by_reference: list[bool | None] = []

    @property
    def images(self) -> list[bytes]:
        """All that it was sent."""
        return [image for call in self.calls for image in call]

    async def classify_many(self, images: list[bytes]) -> list[Any]:
        self.calls.append(list(images))
        self.working += 1
        self.most_at_once = max(self.most_at_once, self.working)
        try:
            await self.go.wait()
            for _ in range(10 - len(self.calls) % 7):  # later ones end before earlier ones
                await asyncio.sleep(0)
        finally:
            self.working -= 1
        if self.fails_with:
            raise self.fails_with
        return [self.failures.get(image, seen(image)) for image in images]


class Media:
    """Addresses that lead to bytes, or to a failure."""

    def __init__(self, **found: bytes | Exception) -> None:
        self.found = found
        self.fetched: list[str] = []
        self.fetching = self.most_at_once = 0
        self.go = asyncio.Event()
        self.go.set()

    async def fetch_image(self, url: str) -> bytes:
        self.fetched.append(url)
        self.fetching += 1
        self.most_at_once = max(self.most_at_once, self.fetching)
        try:
            await self.go.wait()
            await asyncio.sleep(0)
        finally:
            self.fetching -= 1
        found = self.found.get(url, url.encode())
        if isinstance(found, Exception):
            raise found
        return found


def make(*classifiers: Classifier, media: Media | None = None, patience_s: float = 0.0, **limits: int) -> ImageFlow:
    deployed = [placed(f"D{n}", each, on_gpu=n == 0) for n, each in enumerate(classifiers)]
    limits = {"max_at_once": 128, "max_calls": 4} | limits
    return ImageFlow({"container": deployed}, media or Media(), patience_s, **limits)  # type: ignore[arg-type]


def files(*contents: bytes) -> list[BinaryIO | str]:
    return [io.BytesIO(content) for content in contents]


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


class TestSharing:
    def test_a_lone_picture_goes_at_once(self) -> None:
        async def scenario() -> None:
            classifier = Classifier()
            assert await make(classifier).classify("container", files(b"a")) == [seen(b"a")]
            assert await make(classifier).classify("container", files(b"b")) == [seen(b"b")]
            assert classifier.calls == [[b"a"], [b"b"]]

        run(scenario)

    def test_what_waits_shares_the_next_calls(self) -> None:
        async def scenario() -> None:
            classifier = Classifier()
            classifier.go.clear()
            service = make(classifier, max_calls=2, max_images_in_call=3)
            callers = []
            for n in range(9):
                callers.append(asyncio.create_task(service.classify("container", files(b"%d" % n))))
                await turns()
            assert classifier.calls == [[b"0"], [b"1"]]  # as many as may be under way
            classifier.go.set()
            answers = await asyncio.gather(*callers)
            assert answers == [[seen(b"%d" % n)] for n in range(9)]
            assert classifier.calls[2:] == [[b"2", b"3", b"4"], [b"5", b"6", b"7"], [b"8"]]
            assert classifier.most_at_once == 2

        run(scenario)

    def test_a_call_holds_so_many_bytes(self) -> None:
        async def scenario() -> None:
            assert module._BYTES_IN_CALL == 2048 * KIB
            classifier = Classifier()
            classifier.go.clear()
            service = make(classifier, max_calls=1)
            sizes = [1, 1000 * KIB, 1048 * KIB, 1, 5000 * KIB, 10, 20]
            callers = []
            for size in sizes:
                callers.append(asyncio.create_task(service.classify("container", files(b"x" * size))))
                await turns()
            classifier.go.set()
            await asyncio.gather(*callers)
            assert [[len(image) for image in call] for call in classifier.calls] == [
                [1],
                [1000 * KIB, 1048 * KIB],
                [1],
                [5000 * KIB],  # a photograph that is larger goes alone
                [10, 20],
            ]
            # only what Ray's gRPC between replicas takes (4 MiB) goes straight, the rest through the object store
            assert classifier.by_reference == [False, False, False, None, False]

        run(scenario)

    def test_tasks_do_not_mix(self) -> None:
        async def scenario() -> None:
            container, beverage = Classifier(), Classifier()
            deployed = {"container": [placed("C", container)], "beverage": [placed("B", beverage)]}
            service = ImageFlow(deployed, Media(), 0.0, max_at_once=128, max_calls=1)  # type: ignore[arg-type]
            await asyncio.gather(
                *(service.classify(task, files(task.encode())) for task in ("container", "beverage", "container"))
            )
            assert container.images == [b"container"] * 2
            assert beverage.calls == [[b"beverage"]]

        run(scenario)

    def test_pictures_of_one_request_share_calls_and_are_not_all_in_work(self) -> None:
        async def scenario() -> None:
            classifier, media = Classifier(), Media()
            service = make(classifier, media=media, max_calls=100, max_images_in_call=1)
            urls: list[BinaryIO | str] = [f"u{n}" for n in range(30)]
            assert await service.classify("container", urls) == [seen(str(url).encode()) for url in urls]
            assert classifier.most_at_once <= 8
            assert media.most_at_once == 8

        run(scenario)


class TestFailure:
    def test_each_picture_has_its_answer_in_order(self) -> None:
        async def scenario() -> None:
            failures = {b"bad": ImageUnreadable("no picture"), b"worse": ProcessingError("network")}
            answers = await make(Classifier(failures)).classify(
                "container", files(b"a", b"bad", b"b", b"worse", b"", b"c")
            )
            assert answers == [
                seen(b"a"),
                failures[b"bad"],
                seen(b"b"),
                failures[b"worse"],
                seen(b""),
                seen(b"c"),
            ]

        run(scenario)

    def test_one_of_a_shared_call_is_its_callers_alone(self) -> None:
        async def scenario() -> None:
            classifier = Classifier({b"bad": ImageUnreadable("no picture")})
            classifier.go.clear()
            service = make(classifier, max_calls=1)
            callers = [asyncio.create_task(service.classify("container", files(c))) for c in (b"a", b"b", b"bad", b"c")]
            await turns()
            classifier.go.set()
            assert await asyncio.gather(*callers) == [
                [seen(b"a")],
                [seen(b"b")],
                [classifier.failures[b"bad"]],
                [seen(b"c")],
            ]

        run(scenario)

    def test_a_full_queue_is_told_to_all_in_the_call(self) -> None:
        async def scenario() -> None:
            classifier = Classifier()
            classifier.fails_with = BackPressureError(num_queued_requests=9, max_queued_requests=8)
            answers = await make(classifier).classify("container", files(b"a", b"b"))
            assert [(type(answer), str(answer)) for answer in answers] == [(Unavailable, "the queue of D0 is full")] * 2
            classifier.fails_with = None
            assert await make(classifier).classify("container", files(b"a")) == [seen(b"a")]

        run(scenario)

    def test_gpu_memory_runs_out(self) -> None:
        async def scenario() -> None:
            gpu, cpu = Classifier({b"big": GpuMemoryError("no memory")}), Classifier()
            service = make(gpu, cpu)
            assert await service.classify("container", files(b"small", b"big")) == [seen(b"small"), seen(b"big")]
            assert cpu.calls == [[b"big"]]
            cpu.failures[b"big"] = GpuMemoryError("none at all")
            assert await service.classify("container", files(b"big")) == [cpu.failures[b"big"]]
            gpu.failures[b"big"] = ProcessingError("another failure")
            assert await service.classify("container", files(b"big")) == [gpu.failures[b"big"]]
            assert cpu.calls == [[b"big"]] * 2  # which only GPU memory leads to

        run(scenario)

    def test_gpu_memory_runs_out_where_there_is_no_twin(self) -> None:
        async def scenario() -> None:
            error = GpuMemoryError("no memory")
            assert await make(Classifier({b"big": error})).classify("container", files(b"big")) == [error]

        run(scenario)

    def test_file_that_can_not_be_read(self) -> None:
        async def scenario() -> None:
            closed = io.BytesIO(b"x")
            closed.close()
            good, bad = await make(Classifier()).classify("container", [*files(b"a"), closed])
            assert good == seen(b"a")
            assert isinstance(bad, ValueError)
            assert "closed file" in str(bad)

        run(scenario)

    def test_a_request_too_many_is_refused_before_any_work(self) -> None:
        async def scenario() -> None:
            classifier = Classifier()
            classifier.go.clear()
            service = make(classifier, max_at_once=2)
            calls = [
                asyncio.create_task(service.classify("container", files(*given))) for given in ([b"a"], [b"b"] * 2)
            ]
            await until(lambda: classifier.calls)
            unread = io.BytesIO(b"c")
            with pytest.raises(Unavailable) as refused:
                await service.classify("container", [unread])
            assert refused.value.retry_after_s > 0
            assert unread.tell() == 0
            classifier.go.set()
            await asyncio.gather(*calls)
            assert await service.classify("container", [unread]) == [seen(b"c")]

        run(scenario)


class TestAddresses:
    def test_they_are_fetched(self) -> None:
        async def scenario() -> None:
            media = Media(good=b"picture", gone=DownloadError("404 Not Found"), inside=AddressRefused("private"))
            classifier = Classifier()
            service = make(classifier, media=media)
            assert await service.classify("container", ["good"]) == [seen(b"picture")]
            answers = await service.classify("container", ["gone", "good", "inside", *files(b"file")])
            assert answers == [media.found["gone"], seen(b"picture"), media.found["inside"], seen(b"file")]
            assert sorted(classifier.images) == [b"file", b"picture", b"picture"]
            assert await service.classify("container", ["gone"]) == [media.found["gone"]]

        run(scenario)

    def test_a_slow_one_holds_nobody_else_up(self) -> None:
        async def scenario() -> None:
            media = Media()
            media.go.clear()
            service = make(Classifier(), media=media, max_calls=1)
            slow = asyncio.create_task(service.classify("container", ["slow"]))
            await until(lambda: media.fetching)
            assert await service.classify("container", files(b"quick")) == [seen(b"quick")]
            media.go.set()
            assert await slow == [seen(b"slow")]

        run(scenario)


class TestLeavingCaller:
    @pytest.mark.parametrize("count", [1, 3])
    def test_place_is_free_again(self, count: int) -> None:
        async def scenario() -> None:
            classifier = Classifier()
            classifier.go.clear()
            service = make(classifier, max_at_once=1, max_calls=1, max_images_in_call=1)
            call = asyncio.create_task(service.classify("container", files(*[b"a"] * count)))
            await until(lambda: classifier.calls)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            classifier.go.set()
            assert await service.classify("container", files(b"b")) == [seen(b"b")]
            assert classifier.calls == [[b"a"], [b"b"]]  # of three the others were never sent

        run(scenario)

    def test_those_who_share_its_call_are_answered(self) -> None:
        async def scenario() -> None:
            classifier = Classifier()
            classifier.go.clear()
            service = make(classifier, max_calls=1)
            callers = [asyncio.create_task(service.classify("container", files(b"1")))]
            await until(lambda: classifier.calls)
            callers += [asyncio.create_task(service.classify("container", files(c))) for c in (b"2", b"3", b"4")]
            await turns()
            callers[2].cancel()  # while it waits
            classifier.go.set()
            await until(lambda: len(classifier.calls) == 2)
            assert not callers[1].done()
            callers[1].cancel()  # while its call is under way
            first, *gone, kept = await asyncio.gather(*callers, return_exceptions=True)
            assert (first, kept) == ([seen(b"1")], [seen(b"4")])
            assert [type(error) for error in gone] == [asyncio.CancelledError] * 2
            assert classifier.calls == [[b"1"], [b"2", b"4"]]

        run(scenario)

    @pytest.mark.parametrize("count", [1, 3])
    def test_its_downloads_end(self, count: int) -> None:
        async def scenario() -> None:
            media = Media()
            media.go.clear()
            service = make(Classifier(), media=media)
            call = asyncio.create_task(service.classify("container", [f"u{n}" for n in range(count)]))
            await until(lambda: media.fetching == count)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert media.fetching == 0

        run(scenario)


def test_a_classifier_of_this_process_answers_instead_of_the_deployment() -> None:
    class Local:
        async def classify(self, image: bytes) -> ImageClassification:
            if image == b"broken":
                raise ImageUnreadable("broken")
            return seen(b"here")

    async def scenario() -> None:
        there = Classifier()
        deployed = {name: [placed(name, there)] for name in ("container", "beverage")}
        service = ImageFlow(deployed, Media(), 0.0, max_at_once=128, max_calls=4, local={"container": Local()})  # type: ignore[arg-type,dict-item]
        assert await service.classify("container", files(b"cup")) == [seen(b"here")]
        assert [type(answer) for answer in await service.classify("container", files(b"cup", b"broken"))] == [
            ImageClassification,
            ImageUnreadable,
        ]
        assert there.calls == []
        assert await service.classify("beverage", files(b"cup")) == [seen(b"cup")]

    run(scenario)


class LoadedClassifier:
    """Stands for a loaded classifier, or for one whose weights could not be loaded."""

    def __init__(self, *, is_empty: bool = False) -> None:
        self.is_empty = is_empty
        self.reloads = 0

    async def classify(self, image: bytes) -> str:
        if self.is_empty:
            raise ModelLoadingError("no file")
        return f"saw {image.decode()}"

    async def describe(self) -> str:
        return "described"

    async def reload(self) -> str:
        self.reloads += 1
        return "reloaded"


def made_of(*replicas: LoadedClassifier) -> tuple[LocalClassifier, list[str]]:
    threads: list[str] = []
    left = list(replicas)

    def make() -> Any:
        threads.append(threading.current_thread().name)
        time.sleep(0)
        return left.pop(0)

    return LocalClassifier(make), threads


def test_it_is_made_once_by_the_first_and_beside_the_loop() -> None:
    classifier, threads = made_of(LoadedClassifier())

    async def run() -> list[Any]:
        assert threads == []  # the ingress starts without it
        return await asyncio.gather(*(classifier.classify(str(number).encode()) for number in range(5)))

    assert asyncio.run(run()) == [f"saw {number}" for number in range(5)]
    assert len(threads) == 1
    assert threads[0] != threading.current_thread().name


def test_it_tells_and_reloads_what_it_has() -> None:
    replica = LoadedClassifier()
    classifier, threads = made_of(replica)

    async def run() -> list[Any]:
        return [await classifier.describe(), await classifier.reload(), await classifier.reload()]

    assert asyncio.run(run()) == ["described", "reloaded", "reloaded"]
    assert (replica.reloads, len(threads)) == (2, 1)


def test_one_without_weights_is_made_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, threads = made_of(LoadedClassifier(is_empty=True), LoadedClassifier())

    async def run() -> str:
        for _ in range(3):  # told at once, without another try
            with pytest.raises(ModelLoadingError, match="no file"):
                await classifier.classify(b"cup")
        assert len(threads) == 1
        monkeypatch.setattr(module, "GRACE_S", 0.0)
        return await classifier.classify(b"cup")  # type: ignore[return-value]

    assert asyncio.run(run()) == "saw cup"
    assert len(threads) == 2


def test_an_embedding_comes_from_the_model_that_was_asked_for() -> None:
    class Embedder(Classifier):
        async def embed_many(self, images: list[bytes]) -> list[Any]:
            return [self.failures.get(image, ImageEmbedding((1.0, 0.0), image.decode())) for image in images]

    class Local:
        async def embed(self, image: bytes) -> ImageEmbedding:
            return ImageEmbedding((0.0, 1.0), f"local {image.decode()}")

    failed = ImageUnreadable("The file is empty")
    deployed = [placed("D0", Embedder({b"b": failed}))]
    flow = ImageFlow(
        {"container": deployed, "beverage": deployed},  # type: ignore[dict-item]
        Media(),  # type: ignore[arg-type]
        0.0,
        max_at_once=8,
        max_calls=4,
        local={"beverage": Local()},  # type: ignore[dict-item]
    )

    async def ask() -> tuple[Any, Any]:
        return await flow.embed("container", [*files(b"a", b"b"), "https://c"]), await flow.embed(
            "beverage", files(b"d")
        )

    (first, second, third), [fourth] = asyncio.run(ask())
    assert (first, second) == (ImageEmbedding((1.0, 0.0), "a"), failed)
    assert third.model_version == "https://c"
    assert fourth == ImageEmbedding((0.0, 1.0), "local d")
