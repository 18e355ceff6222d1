from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.exceptions import ActorDiedError, ObjectLostError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from serve_app.errors import AudioExtractionError, ProcessingError, ReplicaLost, ServeAppError, Unavailable
from serve_app.flows.calls import Calls, translate


def over_a_handle(cause: Exception) -> RayTaskError:
    """What Ray makes of an exception that a replica raised."""
    return RayTaskError("Diarizer.diarize", "remote traceback with /secret/path", cause).as_instanceof_cause()


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
        (ActorDiedError(), ReplicaLost),
        (ObjectLostError("ab" * 28, None, ""), ReplicaLost),
        (BackPressureError(num_queued_requests=9, max_queued_requests=8), Unavailable),
        (DeploymentUnavailableError.__new__(DeploymentUnavailableError), Unavailable),
    ],
)
def test_what_ray_raises_itself_is_worth_another_try(raised: Exception, expected: type[ServeAppError]) -> None:
    error = translate(raised, "Diarizer")
    assert type(error) is expected
    assert error.transient
    assert "Diarizer" in error.detail


def test_a_bug_of_the_caller_is_not_translated() -> None:
    assert translate(TypeError("x"), "Diarizer") is None


class FakeHandle:
    """Stands for a deployment handle whose method fails a number of times."""

    deployment_name = "Diarizer"

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures
        self.num_calls = 0
        self.diarize = self

    def remote(self, *args: object) -> asyncio.Future[str]:
        self.num_calls += 1
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if self.failures:
            future.set_exception(self.failures.pop(0))
        else:
            future.set_result("turns")
        return future


@pytest.mark.parametrize(
    "lost", [ActorDiedError(), AioRpcError(StatusCode.UNKNOWN, Metadata(), Metadata(), "Stream removed")]
)
def test_a_lost_replica_is_tried_again(lost: Exception) -> None:
    handle = FakeHandle([lost])
    assert asyncio.run(Calls(5.0)(handle, "diarize")) == "turns"
    assert handle.num_calls == 2


def test_without_patience_it_fails_at_once() -> None:
    handle = FakeHandle([ActorDiedError()])
    with pytest.raises(ReplicaLost):
        asyncio.run(Calls(0.0)(handle, "diarize"))
    assert handle.num_calls == 1


def test_an_error_that_will_not_pass_is_not_tried_again() -> None:
    handle = FakeHandle([over_a_handle(AudioExtractionError("empty file"))])
    with pytest.raises(AudioExtractionError):
        asyncio.run(Calls(60.0)(handle, "diarize"))
    assert handle.num_calls == 1
