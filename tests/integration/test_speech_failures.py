"""The contract's failure behaviour of transcription, on a real graph with made faults (`faulty_graph`)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from serve_app.client import Client
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import CallbackReceiver
from serve_app.errors import ModelLoadingError, Unavailable

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
UTTERANCE = ROOT / "tests" / "data" / "whisper_micro" / "en-00.flac"
SAID = json.loads((UTTERANCE.parent / "utterances.json").read_text())["utterances"][0]["text"]
TIMEOUT_S = 180.0
REPEATED = "transcription ran out of GPU memory and was repeated on the CPU"


@pytest.fixture(scope="module")
def faulty(
    start_graph: Callable[..., LocalGraph], make_config: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> LocalGraph:
    """A graph whose GPU is full, whose first choice of a model is not there, and one of whose backends has none."""
    config = yaml.safe_load(
        make_config(
            whisper={
                "models": ["/nowhere/whisper-large", "embedded:whisper-micro"],
                "device": "cuda",
                "faster_whisper": {"cpu_fallback": True},
                "openai_whisper": {"enabled": False},
            },
            speech={"video_order": ["transformers", "faster-whisper"]},
        ).read_text()
    )
    [application] = config["applications"]
    application["import_path"] = "tests.integration.faulty_graph:build"
    application["deployments"] = [each for each in application["deployments"] if each["name"] != "OpenAIWhisper"]
    path = tmp_path_factory.mktemp("faulty") / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return start_graph(path, {"PYTHONPATH": str(ROOT)})


@pytest.fixture
def faulty_client(faulty: LocalGraph) -> Iterator[Client]:
    with Client(faulty.base_url, timeout_s=TIMEOUT_S) as client:
        yield client


def test_out_of_gpu_memory_an_upload_is_heard_on_the_cpu_by_the_smaller_model(faulty_client: Client) -> None:
    answer = faulty_client.transcribe(UTTERANCE, backend="faster-whisper")
    assert answer["text"].lower().split()[-2:] == SAID.split()[-2:]
    assert answer["model_version"] == "faster-whisper:whisper-micro:float32"
    assert REPEATED in answer["notes"]
    [fallen] = [note for note in answer["notes"] if "whisper-large" in note]
    assert fallen.endswith("whisper-micro is used instead")


def test_a_job_tells_every_fall_back_in_its_metadata(
    faulty_client: Client, receiver: CallbackReceiver, served: tuple[Path, str], job_id: str
) -> None:
    (served[0] / "utterance.flac").write_bytes(UTTERANCE.read_bytes())
    url = f"{served[1]}/utterance.flac"
    faulty_client.submit(url, job_id=job_id, language="en", fastapi_base_url=receiver.base_url)
    assert receiver.wait_until_final(job_id, TIMEOUT_S)[-1].payload["status"] == "completed"
    metadata = faulty_client.get(job_id)["result"]["metadata"]
    assert metadata["model_version"] == "faster-whisper:whisper-micro:float32"
    assert REPEATED in metadata["notes"]
    assert any("passed over" in note and "/nowhere" in note for note in metadata["notes"])


def test_a_job_without_gpu_goes_to_the_cpu_at_once(
    faulty_client: Client, receiver: CallbackReceiver, served: tuple[Path, str], job_id: str
) -> None:
    (served[0] / "utterance.flac").write_bytes(UTTERANCE.read_bytes())
    url = f"{served[1]}/utterance.flac"
    # the preferred backend has GPU replicas only: it is passed over
    faulty_client.submit(
        url, job_id=job_id, language="en", enable_gpu=False, fastapi_base_url=receiver.base_url, emotion_detection=False
    )
    assert receiver.wait_until_final(job_id, TIMEOUT_S)[-1].payload["status"] == "completed"
    notes = faulty_client.get(job_id)["result"]["metadata"]["notes"]
    assert REPEATED not in notes
    assert any("enable_gpu is false" in note for note in notes)


def test_a_backend_without_any_model_says_why_and_shows_in_the_health(
    faulty: LocalGraph, faulty_client: Client
) -> None:
    with pytest.raises(ModelLoadingError, match="whisper-small"):
        faulty_client.transcribe(UTTERANCE, backend="transformers")
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        answer = httpx.get(f"{faulty.base_url}/health/ready", timeout=10.0)
        if answer.status_code == 503:
            break
        time.sleep(0.5)
    assert answer.json()["deployments"]["TransformersWhisper"] == "UNHEALTHY"
    with pytest.raises((Unavailable, ModelLoadingError)):
        faulty_client.transcribe(UTTERANCE, backend="transformers")
    assert faulty_client.transcribe(UTTERANCE, backend="pocketsphinx")["success"] is True
