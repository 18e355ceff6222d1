"""The third way in: `serve deploy CONFIG` onto a Ray cluster that is already there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from serve_app.client import Client
from serve_app.commands.demo.contract import callback_problems
from serve_app.commands.demo.local_graph import session_members
from serve_app.commands.demo.receiver import CallbackReceiver
from serve_app.commands.demo.videos import DemoVideo
from serve_app.launch.launch import ray_environment
from serve_app.launch.ports import free_ports
from serve_app.models.weights import EMBEDDED
from tests.integration.drawn_images import drawn_jpeg

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BIN = Path(sys.executable).parent


@pytest.fixture
def cluster() -> Iterator[tuple[str, dict[str, str]]]:
    """Address of the dashboard of a running Ray, and the environment that talks to it."""
    folder = Path(tempfile.mkdtemp(prefix="sa-"))
    (folder / "haproxy").mkdir()
    environment = {
        **os.environ,
        **ray_environment(folder, folder),
        "RAY_AUTH_TOKEN": "ab" * 32,
        "SERVE_APP_STATE_DIR": str(folder / "state"),
        "SERVE_APP_ALLOWED_HOSTS": "127.0.0.1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
    }
    dashboard_port, gcs_port = free_ports(2)
    command = [str(BIN / "ray"), "start", "--head", "--block", "--port", str(gcs_port), "--temp-dir", str(folder)]
    command += ["--dashboard-port", str(dashboard_port), "--object-store-memory", str(10**9), "--num-cpus", "4"]
    with (folder / "ray.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    yield f"http://127.0.0.1:{dashboard_port}", environment
    for pid in session_members(process.pid):
        os.kill(pid, 9)
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def test_serve_deploy(
    cluster: tuple[str, dict[str, str]],
    make_config: Callable[..., Path],
    receiver: CallbackReceiver,
    served: tuple[Path, str],
    videos: dict[str, DemoVideo],
    tmp_path: Path,
) -> None:
    dashboard, environment = cluster
    path = make_config(images={"container": {"in_ingress": False}})
    config = yaml.safe_load(path.read_text())
    [port] = free_ports(1)
    config["http_options"]["port"] = port
    path.write_text(yaml.safe_dump(config))
    deploy = [str(BIN / "serve"), "deploy", str(path), "--address", dashboard]
    deadline = time.monotonic() + 120
    while (done := subprocess.run(deploy, env=environment, capture_output=True, text=True)).returncode != 0:
        assert time.monotonic() < deadline, done.stderr[-3000:]  # the dashboard is still starting
        time.sleep(1.0)

    base_url = f"http://127.0.0.1:{port}"
    while True:
        try:
            if httpx.get(f"{base_url}/health/ready", timeout=5.0).status_code == 200:
                break
        except httpx.HTTPError:
            pass
        status = [str(BIN / "serve"), "status", "--address", dashboard]
        assert time.monotonic() < deadline + 120, subprocess.run(
            status, env=environment, capture_output=True, text=True
        ).stdout
        time.sleep(1.0)

    job_id = str(uuid.uuid4())
    with Client(base_url) as client:
        client.submit(f"{served[1]}/dialogue.mp4", job_id=job_id, fastapi_base_url=receiver.base_url, language="en")
    payloads = [callback.payload for callback in receiver.wait_until_final(job_id, 240.0)]
    assert callback_problems(payloads, job_id) == []

    # other weights by `user_config`: the replicas that run take them, and no request fails meanwhile
    def classified() -> httpx.Response:
        return httpx.post(f"{base_url}/classify-reusable", files={"file": image}, timeout=240.0)

    image = drawn_jpeg("container", "reusable", 0)
    before = classified()
    assert before.status_code == 200, before.text
    [pid] = replica_pids(base_url)
    other = tmp_path / "other.safetensors"
    layers = load_file(EMBEDDED["container-net"])
    save_file({name: np.asarray(value * 1.01, value.dtype) for name, value in layers.items()}, other)
    [classifier] = [each for each in config["applications"][0]["deployments"] if each["name"] == "ContainerClassifier"]
    classifier["user_config"] = {"model": str(other)}
    path.write_text(yaml.safe_dump(config))
    subprocess.run(deploy, env=environment, capture_output=True, check=True)
    deadline = time.monotonic() + 120
    while not (answer := classified()).headers.get("x-model-version", "").startswith("other.safetensors ("):
        assert answer.status_code == 200, answer.text
        assert time.monotonic() < deadline, answer.headers
        time.sleep(0.1)
    assert answer.json()["probabilities"] != before.json()["probabilities"]
    assert replica_pids(base_url) == [pid]


def replica_pids(base_url: str) -> list[int]:
    with Client(base_url) as client:
        return [
            replica["pid"] for model in client.models() if model["name"] == "container" for replica in model["replicas"]
        ]
