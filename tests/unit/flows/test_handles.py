"""Calls over handles: errors, patience, shared results; and the rules that all flows share."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.exceptions import ActorDiedError, ObjectLostError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from serve_app.deployments.protocols import AnalyzesAudio, Describes, Diarizes
from serve_app.errors import (
    AudioExtractionError,
    GpuMemoryError,
    ProcessingError,
    ReplicaDied,
    ReplicaLost,
    ServeAppError,
    Unavailable,
)
from serve_app.flows.handles import (
    Calls,
    Placed,
    Seats,
    answer_each,
    call_every_replica,
    translate,
    with_fallback,
)
from tests.unit.flows.fakes import over_a_handle, placed


def test_a_callees_own_error_is_answered_not_its_traceback() -> None:
    error = translate(over_a_handle(AudioExtractionError("no audio track")), "AudioAnalyzer")
    assert type(error) is AudioExtractionError
    assert error.detail == "no audio track"


def test_a_nested_cause_is_found() -> None:
    """A failed upstream reference raises inside the downstream call, wrapped twice."""
    inner = RayTaskError("AudioAnalyzer.decode", "traceback", AudioExtractionError("empty file"))
    error = translate(RayTaskError("AudioAnalyzer.detect_speech", "traceback", inner), "AudioAnalyzer")
    assert type(error) is AudioExtractionError


def test_an_unforeseen_error_tells_its_class_only() -> None:
    error = translate(over_a_handle(KeyError("token=abc")), "Diarizer")
    assert type(error) is ProcessingError
    assert "KeyError" in error.detail
    assert "token" not in error.detail
    assert "/secret" not in error.detail


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ActorDiedError(), ReplicaDied),
        (over_a_handle(ActorDiedError()), ReplicaDied),  # of a deployment that the callee called
        (ObjectLostError("ab" * 28, None, ""), ReplicaLost),
        (TaskCancelledError(), ReplicaLost),
        (BackPressureError(num_queued_requests=9, max_queued_requests=8), Unavailable),
        (DeploymentUnavailableError.__new__(DeploymentUnavailableError), Unavailable),
    ],
)
def test_what_ray_raises_itself_is_worth_another_try(raised: Exception, expected: type[ServeAppError]) -> None:
    error = translate(raised, "Diarizer")
    assert type(error) is expected
    assert error.transient
    assert "Diarizer" in error.detail


def test_an_error_of_ours_stays_itself() -> None:
    error = ProcessingError("broken")
    assert translate(error, "Diarizer") is error


def test_a_bug_of_the_caller_is_not_translated() -> None:
    assert translate(TypeError("x"), "Diarizer") is None


class Diarizer:
    """Fails a number of times before it answers with what it was given."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.num_calls = 0

    async def diarize(self, audio: Any, num_speakers: int | None = None, max_speakers: int | None = None) -> Any:
        self.num_calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return audio, num_speakers, max_speakers


def diarize(diarizer: Diarizer, patience_s: float) -> Any:
    return asyncio.run(Calls(patience_s)(placed("Diarizer", diarizer), Diarizes.diarize, "audio", 2, max_speakers=3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "lost", [ActorDiedError(), AioRpcError(StatusCode.UNKNOWN, Metadata(), Metadata(), "Stream removed")]
)
def test_a_lost_replica_is_tried_again(lost: Exception) -> None:
    diarizer = Diarizer(lost if isinstance(lost, ActorDiedError) else over_a_handle(lost))
    assert diarize(diarizer, 5.0) == ("audio", 2, 3)
    assert diarizer.num_calls == 2


def test_without_patience_it_fails_at_once() -> None:
    diarizer = Diarizer(ActorDiedError())
    with pytest.raises(ReplicaLost, match="a replica of Diarizer was lost"):
        diarize(diarizer, 0.0)
    assert diarizer.num_calls == 1


def test_an_error_that_will_not_pass_is_not_tried_again() -> None:
    diarizer = Diarizer(AudioExtractionError("empty file"))
    with pytest.raises(AudioExtractionError, match="empty file"):
        diarize(diarizer, 60.0)
    assert diarizer.num_calls == 1


def test_a_handle_that_was_called_wrongly_is_our_bug_and_stays_what_it_is() -> None:
    with pytest.raises(AttributeError):
        asyncio.run(Calls(60.0)(Placed("X", object()), Diarizes.diarize, "audio"))  # type: ignore[arg-type]


class TestSharedResult:
    """A file is decoded once, and decoded again only if it was lost."""

    class Analyzer:
        def __init__(self, *failures: Exception) -> None:
            self.failures = list(failures)
            self.decoded = 0
            self.by_reference: list[bool | None] = []
            self.go = asyncio.Event()
            self.go.set()

        async def decode(self, source: str) -> str:
            self.decoded += 1
            await self.go.wait()
            if self.failures:
                raise self.failures.pop(0)
            return f"audio {self.decoded}"

    def test_it_is_made_once_for_all_who_take_it(self) -> None:
        async def run() -> None:
            call, analyzer = Calls(0.0), self.Analyzer()
            diarizer = placed("Diarizer", Diarizer())
            audio = call.shared(placed("AudioAnalyzer", analyzer), AnalyzesAudio.decode, "file")
            assert analyzer.decoded == 0  # not before somebody wants it
            found = await asyncio.gather(*(call.with_shared(diarizer, Diarizes.diarize, audio, n) for n in range(3)))
            assert found == [("audio 1", n, None) for n in range(3)]  # type: ignore[comparison-overlap]
            assert analyzer.decoded == 1
            assert analyzer.by_reference == [True]  # it stays in the object store

        asyncio.run(run())

    def test_its_failure_is_that_of_the_calls_that_take_it(self) -> None:
        async def run() -> None:
            call, analyzer = Calls(60.0), self.Analyzer(AudioExtractionError("not media"))
            audio = call.shared(placed("AudioAnalyzer", analyzer), AnalyzesAudio.decode, "file")
            await audio.reference()
            for _ in range(2):
                with pytest.raises(AudioExtractionError, match="not media"):
                    await call.with_shared(placed("Diarizer", Diarizer()), Diarizes.diarize, audio)
            assert analyzer.decoded == 1

        asyncio.run(run())

    def test_a_lost_one_is_made_again(self) -> None:
        async def run() -> None:
            call, analyzer = Calls(5.0), self.Analyzer()
            audio = call.shared(placed("AudioAnalyzer", analyzer), AnalyzesAudio.decode, "file")
            lost, refused = ObjectLostError("ab" * 28, None, ""), BackPressureError(1, 1)
            diarizer = Diarizer(lost, refused)
            found: Any = await call.with_shared(placed("Diarizer", diarizer), Diarizes.diarize, audio)
            assert found == ("audio 2", None, None)
            assert (analyzer.decoded, diarizer.num_calls) == (2, 3)  # a full queue loses no audio

        asyncio.run(run())

    def test_one_that_somebody_made_again_meanwhile_is_kept(self) -> None:
        async def run() -> None:
            call, analyzer = Calls(0.0), self.Analyzer()
            audio = call.shared(placed("AudioAnalyzer", analyzer), AnalyzesAudio.decode, "file")
            first = await audio.reference()
            audio.forget(first)
            second = await audio.reference()
            audio.forget(first)
            assert await audio.reference() is second
            assert analyzer.decoded == 2

        asyncio.run(run())

    def test_a_caller_that_leaves_ends_the_making(self) -> None:
        async def run() -> None:
            call, analyzer = Calls(0.0), self.Analyzer()
            analyzer.go.clear()
            audio = call.shared(placed("AudioAnalyzer", analyzer), AnalyzesAudio.decode, "file")
            waiting = asyncio.create_task(audio.reference())
            async with asyncio.timeout(10):
                while not analyzer.decoded:
                    await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

        asyncio.run(run())


class TestEveryReplica:
    class Replicas:
        def __init__(self, answers: Any) -> None:
            self.answers = answers

        def broadcast(self, method: str, *args: Any) -> Any:
            assert method == "describe"
            return self

        async def results_async(self, *, timeout_s: float, return_exceptions: bool) -> list[Any]:
            assert timeout_s >= 0.0
            if isinstance(self.answers, Exception):
                raise self.answers
            return self.answers

    def ask(self, answers: Any) -> list[Any]:
        asked: Placed[Describes] = Placed("Diarizer", self.Replicas(answers))  # type: ignore[arg-type]
        return asyncio.run(call_every_replica(asked, Describes.describe, -1.0))

    def test_who_died_is_left_out(self) -> None:
        assert self.ask(["a", ActorDiedError(), KeyError("a bug here"), "b"]) == ["a", "b"]

    def test_what_one_fails_with_is_raised(self) -> None:
        with pytest.raises(ProcessingError, match="Diarizer failed with KeyError"):
            self.ask(["a", over_a_handle(KeyError("x"))])

    @pytest.mark.parametrize("raised", [TimeoutError(), DeploymentUnavailableError.__new__(DeploymentUnavailableError)])
    def test_not_in_time(self, raised: Exception) -> None:
        with pytest.raises(Unavailable, match="Diarizer does not answer"):
            self.ask(raised)


class TestFallback:
    @pytest.mark.parametrize(
        ("full", "asked", "notes"),
        [
            ("", ["gpu"], []),
            ("gpu", ["gpu", "cpu"], ["drawing ran out of GPU memory and was repeated on the CPU"]),
        ],
    )
    def test_gpu_memory(self, full: str, asked: list[str], notes: list[str]) -> None:
        tried: list[str] = []

        async def attempt(candidate: str) -> str:
            tried.append(candidate)
            if candidate == full:
                raise GpuMemoryError("full")
            return candidate

        told: list[str] = []
        assert asyncio.run(with_fallback(["gpu", "cpu"], attempt, "drawing", told)) == asked[-1]
        assert (tried, told) == (asked, notes)
        assert asyncio.run(with_fallback(["gpu", "cpu"], attempt, "drawing")) == asked[-1]  # nobody reads notes

    @pytest.mark.parametrize(
        ("candidates", "error", "num_tried"),
        [
            (["gpu", "cpu"], GpuMemoryError("none at all"), 2),
            (["cpu"], GpuMemoryError("no twin"), 1),
            (["gpu", "cpu"], ProcessingError("another failure"), 1),
        ],
    )
    def test_what_can_not_be_helped(self, candidates: list[str], error: Exception, num_tried: int) -> None:
        tried = []

        async def attempt(candidate: str) -> None:
            tried.append(candidate)
            raise error

        with pytest.raises(type(error)) as raised:
            asyncio.run(with_fallback(candidates, attempt, "drawing", []))
        assert raised.value is error
        assert len(tried) == num_tried


def test_seats_are_refused_when_all_are_taken_and_free_again_however_their_holder_ended() -> None:
    async def run() -> None:
        seats = Seats(2, "requests", 3.0, "call later")

        async def fail() -> None:
            async with seats:
                raise KeyError

        for _ in range(3):
            with pytest.raises(KeyError):
                await fail()
        async with seats, seats:
            with pytest.raises(
                Unavailable, match="Too many requests at once; call later, or try again in 3 s"
            ) as refused:
                await fail()
            assert refused.value.retry_after_s == 3.0
        async with seats, seats:
            pass

    asyncio.run(run())


@pytest.mark.parametrize("count", [0, 1, 7])
def test_each_item_has_its_answer_in_order_and_few_are_in_work(count: int) -> None:
    working: list[int] = []
    most = 0

    async def answer(item: int) -> str:
        nonlocal most
        working.append(item)
        most = max(most, len(working))
        for _ in range(10 - item):
            await asyncio.sleep(0)
        working.remove(item)
        if item % 3 == 0:
            raise KeyError(item)
        return str(item)

    answers = asyncio.run(answer_each(range(count), answer, 2))
    assert [repr(each) for each in answers] == [
        f"KeyError({item})" if item % 3 == 0 else repr(str(item)) for item in range(count)
    ]
    assert most == min(count, 2)


def test_what_is_bound_into_the_graph_survives_pickling() -> None:
    made: Placed[Diarizes] = Placed("Diarizer", "handle", on_gpu=True)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(made)) == made
    assert (made.is_allowed(True), made.is_allowed(False)) == (True, False)
    assert Placed("DiarizerCPU", "handle").is_allowed(False)  # type: ignore[arg-type]
