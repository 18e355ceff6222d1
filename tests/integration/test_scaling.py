"""Fractions and queue depth: where replicas land, and how many there are."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from serve_app.client import Client
from serve_app.commands.demo.contract import callback_problems
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import CallbackReceiver
from serve_app.commands.demo.videos import DemoVideo
from serve_app.errors import JobConflict
from serve_app.jobs.store import JobStore
from tests.integration.processes import replicas, wait_until
from tests.integration.recordings import read_audio, write_audio

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ACTORS = """
import json, sys
import ray
from ray.util.state import list_actors
ray.init(address=sys.argv[1], namespace="serve", log_to_driver=False)
alive = [actor for actor in list_actors(address=sys.argv[1], detail=True, limit=1000) if actor.state == "ALIVE"]
found = {actor.name.split("#")[-2] if actor.name.count("#") > 1 else actor.name: actor.required_resources
         for actor in alive if actor.name.startswith("SERVE_REPLICA")}
print(json.dumps({"replicas": found, "free_gpus": ray.available_resources().get("GPU", 0.0)}))
"""


@pytest.fixture(scope="module")
def scaled(start_graph: Callable[..., LocalGraph], make_config: Callable[..., Path]) -> Iterator[LocalGraph]:
    """The GPU configuration on one logical GPU; the models themselves run on the CPU here."""
    config = make_config(
        "gpu.yaml",
        diarizer={"device": "cpu", "num_threads": 1},
        drums={"device": "cpu"},
        whisper={"device": "cpu", "models": ["embedded:whisper-micro"]},
        job_runner={"jobs_per_replica": 1, "upscale_delay_s": 0.5, "downscale_delay_s": 5.0},
    )
    config.write_text(config.read_text().replace("0.0.0.0", "127.0.0.1"))
    environment = {"SERVE_APP_MAX_QUEUED_JOBS": "8"}
    graph = start_graph(config, environment, ("--num-gpus", "1", "--num-cpus", "8", "--dashboard"))
    yield graph
    graph.stop()


@pytest.fixture(scope="module")
def short_file(served: tuple[Path, str], videos: dict[str, DemoVideo]) -> str:
    speech = read_audio(videos["dialogue"].path)[: 15 * 16000]
    write_audio(served[0] / "short.wav", np.asarray(speech)[None], 16000, "pcm_s16le")
    return f"{served[1]}/short.wav"


def test_replicas_take_the_fractions_of_the_config(scaled: LocalGraph) -> None:
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(scaled.ray_dir / "auth_token"),
    }
    done = subprocess.run(
        [sys.executable, "-c", ACTORS, (scaled.ray_dir / "address").read_text()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    fractions = {name: resources.get("GPU", 0.0) for name, resources in told["replicas"].items()}
    assert {name: fraction for name, fraction in fractions.items() if fraction} == {
        "FasterWhisper": 0.3,
        "Diarizer": 0.25,
        "DrumTranscriber": 0.05,
    }
    assert told["free_gpus"] == pytest.approx(0.4)
    assert "DiarizerCPU" not in fractions, "it starts with the first job that needs it"


def test_a_backlog_takes_the_runners_from_one_to_three_and_back(
    scaled: LocalGraph, receiver: CallbackReceiver, short_file: str
) -> None:
    store = JobStore(f"sqlite:///{scaled.environment['SERVE_APP_STATE_DIR']}/jobs.sqlite3")
    wait_until("one runner", lambda: len(replicas(scaled, "JobRunner")) == 1, 60.0)
    ids = [str(uuid.uuid4()) for _ in range(8)]
    with Client(scaled.base_url) as client:
        for job_id in ids:
            client.submit(short_file, job_id=job_id, fastapi_base_url=receiver.base_url, language="en")
        wait_until("three runners", lambda: len(replicas(scaled, "JobRunner")) == 3, 120.0)
        wait_until("three jobs at once", lambda: store.queue_depth().running == 3, 120.0)
        for job_id in ids:
            payloads = [callback.payload for callback in receiver.wait_until_final(job_id, 400.0)]
            assert callback_problems(payloads, job_id) == [], "lost, doubled or out of order"
        wait_until("one runner again", lambda: len(replicas(scaled, "JobRunner")) == 1, 120.0)
    assert all(store.get(job_id).attempts == 0 for job_id in ids)


def test_a_scale_down_hands_running_jobs_back(
    scaled: LocalGraph, receiver: CallbackReceiver, served: tuple[Path, str], videos: dict[str, DemoVideo]
) -> None:
    """Jobs are in flight when runners go: they are finished by those that stay, with no attempt counted."""
    speech = read_audio(videos["dialogue"].path)
    write_audio(served[0] / "longer.wav", np.tile(speech, 2)[None, : 80 * 16000], 16000, "pcm_s16le")
    store = JobStore(f"sqlite:///{scaled.environment['SERVE_APP_STATE_DIR']}/jobs.sqlite3")
    ids = [str(uuid.uuid4()) for _ in range(3)]
    with Client(scaled.base_url) as client:
        for job_id in ids:
            url = f"{served[1]}/longer.wav"
            client.submit(url, job_id=job_id, fastapi_base_url=receiver.base_url, language="en")
        wait_until("three jobs at once", lambda: store.queue_depth().running == 3, 120.0)
        # one job ends or is cancelled: the policy wants fewer runners while the others are in work
        client.cancel(ids[0])
        for job_id in ids[1:]:
            payloads = [callback.payload for callback in receiver.wait_until_final(job_id, 400.0)]
            assert callback_problems(payloads, job_id) == []
    assert receiver.wait_until_final(ids[0], 30.0)[-1].payload["status"] == "cancelled"
    assert all(store.get(job_id).attempts == 0 for job_id in ids)


def test_a_full_queue_answers_429_with_retry_after(scaled: LocalGraph, short_file: str) -> None:
    answers = []
    with Client(scaled.base_url) as client:
        submitted = []
        for _ in range(16):
            job_id = str(uuid.uuid4())
            answer = httpx.post(
                f"{scaled.base_url}/api/upload-video/process-video", json={"job_id": job_id, "video_url": short_file}
            )
            answers.append(answer)
            if answer.status_code == 200:
                submitted.append(job_id)
        refused = [answer for answer in answers if answer.status_code != 200]
        assert refused
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        for job_id in submitted:
            with contextlib.suppress(JobConflict):  # it has ended meanwhile
                client.cancel(job_id)


def test_two_clusters_on_one_machine_never_meet(graph: LocalGraph, scaled: LocalGraph) -> None:
    """Serve's replicas and proxies share ports where they can: a request must not end up in the other cluster."""
    job_id = str(uuid.uuid4())
    with Client(graph.base_url) as client:
        client.submit("http://10.0.0.1/refused.mp4", job_id=job_id)
    for _ in range(100):
        assert httpx.get(f"{graph.base_url}/jobs/{job_id}").status_code == 200
        assert httpx.get(f"{scaled.base_url}/jobs/{job_id}").status_code == 404
