"""Replicas that die under a job's calls: whose fault it is, and how often it is tried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayActorError, TaskCancelledError
from ray.serve.exceptions import RequestCancelledError

from serve_app.deployments.protocols import AnalyzesAudio, Diarizes
from serve_app.errors import AudioExtractionError, ProcessingError, ReplicaDied, ReplicaLost
from serve_app.flows import handles
from serve_app.flows import steps as steps_module
from serve_app.flows.handles import Calls, translate
from serve_app.flows.steps import DurableSteps
from serve_app.jobs.lifecycle import Claim
from serve_app.jobs.record import VideoRequest
from serve_app.jobs.store import JobStore
from tests.job_tables import make_job_table
from tests.unit.flows.fakes import placed

CRASH = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: …"


def died(number: int, message: str = CRASH, **more: Any) -> ActorDiedError:
    """Return what Ray raises for the death of one of its actors."""
    return ActorDiedError(ActorDiedErrorContext(actor_id=number.to_bytes(16, "big"), error_message=message, **more))


class Replica:
    """Of AudioAnalyzer and Diarizer alike: dies under the file `poison`, with all other calls that it has."""

    def __init__(self) -> None:
        self.number = 1
        self.num_deaths = 0
        self.calls: list[str] = []
        self.errors: list[Exception] = []
        self._dying: asyncio.Event | None = None

    async def decode(self, source: str) -> str:
        return await self.diarize(source)

    async def diarize(self, audio: str, *_: Any) -> str:
        self.calls.append(audio)
        if self.errors:
            raise self.errors.pop(0)
        if self._dying is None:
            self._dying = asyncio.Event()
        number, dying = self.number, self._dying
        await asyncio.sleep(0.005)  # others may come
        if audio == "poison" and not dying.is_set():
            dying.set()
            self.num_deaths += 1
            self.number, self._dying = self.number + 1, None
        await asyncio.sleep(0.005)
        if dying.is_set():
            raise died(number)
        return audio


@pytest.fixture
def clock() -> Callable[[], float]:
    return lambda: 1_800_000_000.0


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> JobStore:
    monkeypatch.setattr(steps_module, "_OTHERS_S", 0.1)
    monkeypatch.setattr(handles, "_FIRST_PAUSE_S", 0.001)
    return make_job_table(clock=clock)[0]


def claim(store: JobStore, job_id: str) -> Claim:
    store.submit(VideoRequest(job_id=job_id, video_url="x"), max_queued=None)
    claim = store.claim("r")
    assert claim is not None
    return claim


def durable(store: JobStore, claim: Claim) -> DurableSteps:
    return DurableSteps(store, claim, store.steps(claim.job.job_id), {})


async def decode(steps: DurableSteps, replica: Replica, file: str) -> Any:
    call = Calls(600.0)
    audio = call.shared(placed("AudioAnalyzer", replica), AnalyzesAudio.decode, file)
    with steps.timed("decode"):
        return await (await audio.reference()).task  # type: ignore[attr-defined]


async def diarize(steps: DurableSteps, replica: Replica, file: str) -> Any:
    call = Calls(600.0)
    work = placed("Diarizer", replica)
    return await steps.run("diarize", str, lambda: call(work, Diarizes.diarize, file))  # type: ignore[arg-type, return-value]


async def _raised(reference: Any) -> None:
    """Have a shared result's failure raised where it is made, as by a replica that dies while it decodes."""
    await asyncio.shield(reference.task)


def test_a_file_that_kills_its_decoder_ends_its_job_at_the_second_death(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "until_made", _raised)
    replica = Replica()
    with pytest.raises(
        AudioExtractionError, match="step decode: the file was in work when 2 replicas of AudioAnalyzer died"
    ):
        asyncio.run(decode(durable(store, claim(store, "a")), replica, "poison"))
    assert replica.num_deaths == 2


def test_a_death_is_remembered_by_whoever_takes_the_job_over(store: JobStore) -> None:
    held = claim(store, "a")

    async def first() -> None:
        replica = Replica()
        working = asyncio.create_task(diarize(durable(store, held), replica, "poison"))
        while not replica.num_deaths:
            await asyncio.sleep(0.001)
        async with asyncio.timeout(10):
            while not store.count_deaths(held, "diarize", "x").num_deaths:
                await asyncio.sleep(0.001)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    asyncio.run(first())
    store.release(held)
    again = store.claim("s")
    assert again is not None
    replica = Replica()
    replica.number = 100
    with pytest.raises(ProcessingError, match=r"step diarize: .* 2 replicas of Diarizer died; it is not tried again"):
        asyncio.run(diarize(durable(store, again), replica, "poison"))
    assert replica.num_deaths == 1


def test_one_death_is_tried_again_and_each_step_counts_for_itself(store: JobStore) -> None:
    replica, steps = Replica(), durable(store, claim(store, "a"))
    replica.errors = [died(50)]
    assert asyncio.run(diarize(steps, replica, "good")) == "good"
    replica.errors = [died(51)]

    async def piece(name: str) -> str:
        call = Calls(600.0)
        work = placed("Diarizer", replica)
        return await steps.run(name, str, lambda: call(work, Diarizes.diarize, "good"))  # type: ignore[arg-type, return-value]

    assert asyncio.run(piece("transcribe/00001")) == "good"


def test_neighbours_of_a_file_that_kills_end_well(store: JobStore) -> None:
    """All are on one replica, again and again: nobody knows whose file it is until it dies alone."""
    names = ["a", "b", "c", "poison"]
    steps = {name: durable(store, claim(store, name)) for name in names}
    replica = Replica()

    async def run() -> list[Any]:
        return await asyncio.gather(*(diarize(steps[name], replica, name) for name in names), return_exceptions=True)

    *good, bad = asyncio.run(run())
    assert good == ["a", "b", "c"]
    assert isinstance(bad, ProcessingError)
    assert "it is not tried again" in bad.detail
    assert replica.num_deaths == 2


@pytest.mark.parametrize(
    "error",
    [
        died(1, "The actor is dead because it was killed by `ray.kill`."),
        died(1, "The actor is dead because its worker process has died. Worker exit type: INTENDED_SYSTEM_EXIT"),
        died(1, "The actor died because its node has died. \n\tthe actor's node was terminated expectedly: drained"),
        died(1, "The actor is dead because all references to the actor were removed."),
        RayActorError("ab", "x", preempted=True),
        ActorUnavailableError("network", b"0" * 16),
        RequestCancelledError("id"),
        TaskCancelledError(),
    ],
)
def test_replicas_that_are_stopped_are_no_files_fault(store: JobStore, error: Exception) -> None:
    """Scale-down, rolling update, a drained or preempted node, a break of the network."""
    assert type(translate(error, "Diarizer")) is ReplicaLost
    replica = Replica()
    replica.errors = [error] * 5
    assert asyncio.run(diarize(durable(store, claim(store, "a")), replica, "good")) == "good"
    assert len(replica.calls) == 6


@pytest.mark.parametrize("error", [died(1), ActorDiedError(), RayActorError(), OutOfMemoryError("killed")])
def test_crashes_count(error: Exception) -> None:
    assert isinstance(translate(error, "Diarizer"), ReplicaDied)


@pytest.mark.parametrize("error", [died(1), TaskCancelledError()])
def test_a_caller_who_waits_gets_one_more_replica(store: JobStore, error: Exception) -> None:
    replica = Replica()
    replica.errors = [error] * 9
    with pytest.raises(ReplicaLost):
        asyncio.run(Calls(600.0)(placed("Diarizer", replica), Diarizes.diarize, "x"))  # type: ignore[arg-type]
    assert len(replica.calls) == 2


def test_also_where_the_argument_of_a_call_kills(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "until_made", _raised)

    async def run() -> None:
        call = Calls(600.0)
        audio = call.shared(placed("AudioAnalyzer", replica), AnalyzesAudio.decode, "poison")
        await call.with_shared(placed("Diarizer", Replica()), Diarizes.diarize, audio)

    replica = Replica()
    with pytest.raises(ReplicaLost):
        asyncio.run(run())
    assert replica.num_deaths == 2
