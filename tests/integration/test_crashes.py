"""Nothing is lost, done again or told twice when processes die under a job in flight."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from serve_app.client import Client
from serve_app.commands.demo.contract import callback_problems
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import CallbackReceiver, ReceivedCallback
from serve_app.commands.demo.videos import DemoVideo
from serve_app.jobs.store import JobStore
from tests.integration.processes import kill, replicas, wait_until
from tests.integration.recordings import read_audio, write_audio

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JOB_TIMEOUT_S = 300.0
STAGES = [0, 10, 25, 40, 60, 75, 90]


@pytest.fixture(scope="module")
def long_file(served: tuple[Path, str], videos: dict[str, DemoVideo]) -> str:
    """Address of a minute and a half of dialogue: every stage takes long enough to be killed in."""
    speech = read_audio(videos["dialogue"].path)
    write_audio(served[0] / "long.wav", np.tile(speech, 3)[None, : 90 * 16000], 16000, "pcm_s16le")
    return f"{served[1]}/long.wav"


@pytest.fixture(scope="module")
def longer_file(served: tuple[Path, str], videos: dict[str, DemoVideo]) -> str:
    """Address of six minutes of dialogue: two jobs on it take longer than a redeployment takes to begin."""
    speech = read_audio(videos["dialogue"].path)
    write_audio(served[0] / "longer.wav", np.tile(speech, 10)[None, : 360 * 16000], 16000, "pcm_s16le")
    return f"{served[1]}/longer.wav"


@pytest.fixture(scope="module")
def doubled(start_graph: Callable[..., LocalGraph], make_config: Callable[..., Path]) -> Iterator[LocalGraph]:
    """A graph with two runners."""
    graph = start_graph(make_config(job_runner={"min_replicas": 2, "max_replicas": 2}))
    yield graph
    graph.stop()


def store_of(graph: LocalGraph) -> JobStore:
    return JobStore(f"sqlite:///{graph.environment['SERVE_APP_STATE_DIR']}/jobs.sqlite3")


def told_once_and_in_order(found: list[ReceivedCallback], job_id: str) -> None:
    """Assert that each progress value came once, in order; a repeat carries the id of the one it repeats."""
    firsts = {callback.webhook_id: callback for callback in reversed(found)}
    in_order = [callback for callback in found if firsts[callback.webhook_id] is callback]
    assert callback_problems([callback.payload for callback in in_order], job_id) == []
    for callback in found:
        assert callback.payload == firsts[callback.webhook_id].payload


@pytest.mark.parametrize("progress", STAGES)
def test_a_killed_runner_loses_nothing(
    graph: LocalGraph, client: Client, receiver: CallbackReceiver, long_file: str, progress: int
) -> None:
    store = store_of(graph)
    job_id = str(uuid.uuid4())
    wait_until("a runner", lambda: replicas(graph, "JobRunner"), 60.0)
    client.submit(long_file, job_id=job_id, fastapi_base_url=receiver.base_url, language="en")
    wait_until("the job in work", lambda: store.get(job_id).started_at, 30.0)
    wait_until(f"{progress} %", lambda: store.get(job_id).progress >= progress, JOB_TIMEOUT_S)
    for pid in replicas(graph, "JobRunner"):
        kill(pid)
    finished = store.step_seconds(job_id)

    found = receiver.wait_until_final(job_id, JOB_TIMEOUT_S)

    told_once_and_in_order(found, job_id)
    job = store.get(job_id)
    assert job.attempts == 0, "a crash is no failed attempt"
    # a step that ran again would have taken other seconds
    after = store.step_seconds(job_id)
    assert {name: after[name] for name in finished} == finished


def test_a_killed_cluster_goes_on_where_it_was(
    start_graph: Callable[..., LocalGraph], make_config: Callable[..., Path], receiver: CallbackReceiver, long_file: str
) -> None:
    config = make_config()
    first = start_graph(config)
    store = store_of(first)
    job_id = str(uuid.uuid4())
    with Client(first.base_url) as client:
        client.submit(long_file, job_id=job_id, fastapi_base_url=receiver.base_url, language="en")
    wait_until("a piece recognised", lambda: len(store.step_seconds(job_id)) >= 3, JOB_TIMEOUT_S)
    first.kill()
    finished = store.step_seconds(job_id)
    assert len(finished) >= 3

    second = start_graph(config, {"SERVE_APP_STATE_DIR": first.environment["SERVE_APP_STATE_DIR"]})

    found = receiver.wait_until_final(job_id, JOB_TIMEOUT_S)
    told_once_and_in_order(found, job_id)
    after = store.step_seconds(job_id)
    assert {name: after[name] for name in finished} == finished
    second.stop()


def test_one_of_two_runners_is_killed(doubled: LocalGraph, receiver: CallbackReceiver, long_file: str) -> None:
    store = store_of(doubled)
    ids = [str(uuid.uuid4()) for _ in range(4)]
    with Client(doubled.base_url) as client:
        for job_id in ids:
            client.submit(long_file, job_id=job_id, fastapi_base_url=receiver.base_url, language="en")
    wait_until("both runners at work", lambda: store.queue_depth().running == 2, 60.0)
    wait_until("a job in transcription", lambda: any(store.get(i).progress >= 60 for i in ids), JOB_TIMEOUT_S)
    kill(replicas(doubled, "JobRunner")[0])
    for job_id in ids:
        told_once_and_in_order(receiver.wait_until_final(job_id, 2 * JOB_TIMEOUT_S), job_id)
        assert store.get(job_id).attempts == 0


def test_a_scale_down_hands_the_job_back(
    doubled: LocalGraph, receiver: CallbackReceiver, make_config: Callable[..., Path], longer_file: str
) -> None:
    """A runner that is taken away in the middle of a job gives it back: no attempt counted, nothing told twice."""
    store = store_of(doubled)
    ids = [str(uuid.uuid4()) for _ in range(2)]
    wait_until("two runners", lambda: len(replicas(doubled, "JobRunner")) == 2, 120.0)
    with Client(doubled.base_url) as client:
        for job_id in ids:
            client.submit(longer_file, job_id=job_id, fastapi_base_url=receiver.base_url, language="en")
    wait_until("both in transcription", lambda: all(store.get(i).progress >= 60 for i in ids), JOB_TIMEOUT_S)
    fewer = yaml.safe_load(make_config(job_runner={"min_replicas": 1, "max_replicas": 1}).read_text())
    fewer["http_options"]["port"] = doubled.port
    path = doubled.ray_dir / "fewer.yaml"
    path.write_text(yaml.safe_dump(fewer))
    redeploy(doubled, path)
    wait_until("one runner", lambda: len(replicas(doubled, "JobRunner")) == 1, 120.0)
    wait_until("a job handed back", lambda: "handed back" in doubled.log_path.read_text(errors="replace"), 30.0)
    for job_id in ids:
        told_once_and_in_order(receiver.wait_until_final(job_id, JOB_TIMEOUT_S), job_id)
        assert store.get(job_id).attempts == 0


def redeploy(graph: LocalGraph, config: Path) -> None:
    """`serve run --non-blocking` onto the graph's own cluster."""
    environment = {
        **graph.environment,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(graph.ray_dir / "auth_token"),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
    }
    address = (graph.ray_dir / "address").read_text()
    command = [str(Path(sys.executable).parent / "serve"), "run", "--address", address, "--non-blocking", str(config)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("deployment", ["Diarizer", "SpeechRecognizer", "AudioAnalyzer"])
def test_a_killed_model_replica_is_waited_out(
    graph: LocalGraph, client: Client, receiver: CallbackReceiver, long_file: str, deployment: str
) -> None:
    store = store_of(graph)
    job_id = str(uuid.uuid4())
    wait_until("a replica", lambda: replicas(graph, deployment), 120.0)
    client.submit(long_file, job_id=job_id, fastapi_base_url=receiver.base_url, language="en")
    wait_until("the stage", lambda: store.get(job_id).progress >= 60, JOB_TIMEOUT_S)
    for pid in replicas(graph, deployment):
        kill(pid)
    found = receiver.wait_until_final(job_id, JOB_TIMEOUT_S)
    told_once_and_in_order(found, job_id)
    assert Counter(callback.payload["status"] for callback in found)["completed"] == 1
