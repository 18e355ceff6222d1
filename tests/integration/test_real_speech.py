"""The default configuration on real weights: real speech, over real HTTP. Skips where the weights were not fetched."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import httpx
import numpy as np
import pytest
from openai import OpenAI

from serve_app.client import Client
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import CallbackReceiver
from serve_app.commands.demo.videos import DemoVideo
from serve_app.scoring import count_letter_errors, score_result
from tests.fetched_models import fetched_folder
from tests.integration.recordings import write_audio

TIMEOUT_S = 180.0
KOREAN = json.loads((resources.files("serve_app.demo_media") / "korean.json").read_text(encoding="utf-8"))["text"]


@pytest.fixture(scope="module")
def real_graph(start_graph: Callable[..., LocalGraph], make_config: Callable[..., Path]) -> Iterator[LocalGraph]:
    for name in ("whisper-base", "pyannote-segmentation-3.0", "campplus-zh-en"):
        fetched_folder(name)
    graph = start_graph(make_config())
    yield graph
    graph.stop()


@pytest.fixture(scope="module")
def real_client(real_graph: LocalGraph) -> Iterator[Client]:
    with Client(real_graph.base_url, timeout_s=TIMEOUT_S) as client:
        yield client


def test_a_job_on_the_made_dialogue(
    real_client: Client, receiver: CallbackReceiver, videos: dict[str, DemoVideo], served: tuple[Path, str], job_id: str
) -> None:
    video = videos["dialogue"]
    url = f"{served[1]}/{video.path.name}"
    real_client.submit(url, job_id=job_id, fastapi_base_url=receiver.base_url, language="auto")
    result = real_client.wait(job_id, timeout_s=TIMEOUT_S)["result"]
    assert video.truth is not None
    scores = score_result(result, video.truth)
    assert scores.word_error_rate < 0.2
    assert scores.word_speaker_error_rate < 0.1
    assert scores.median_word_start_error_s < 0.1
    assert result["language"] == "en"
    metadata = result["metadata"]
    assert metadata["model_version"].startswith("faster-whisper:whisper-base:int8")
    assert "pyannote-segmentation-3.0" in metadata["diarization_model_version"]
    assert metadata["unique_speakers"] == 2
    assert 0.0 <= metadata["speech_seconds_without_words"] < 3.0
    assert not any("stand in" in note or "whisper-micro" in note for note in metadata["notes"])


def test_a_korean_upload_is_detected_and_transcribed(real_client: Client, videos: dict[str, DemoVideo]) -> None:
    answer = real_client.transcribe(videos["korean"].path)
    num_errors, num_letters = count_letter_errors(KOREAN, answer["text"])
    assert (answer["language"], answer["backend"]) == ("ko", "faster-whisper")
    assert num_errors / num_letters < 0.2


def test_a_korean_upload_is_translated(real_graph: LocalGraph, videos: dict[str, DemoVideo]) -> None:
    client = OpenAI(base_url=f"{real_graph.base_url}/v1", api_key="unused", timeout=TIMEOUT_S, max_retries=0)
    with videos["korean"].path.open("rb") as file:
        told = client.audio.translations.create(file=file, model="whisper-1")
    letters = [letter for letter in told.text if letter.isalpha()]
    assert len(letters) > 40
    assert all(letter.isascii() for letter in letters)


def test_an_upload_is_analysed_in_full(real_client: Client, videos: dict[str, DemoVideo]) -> None:
    answer = real_client.transcribe(videos["call"].path, diarize=True, num_speakers=2)
    assert answer["success"] is True
    assert len(answer["speakers"]) == 2
    said = " ".join(segment["text"] for segment in answer["segments"]).lower()
    assert "didn't know you were there" in said
    assert "originally from chicago" in said
    assert answer["segments"][0]["words"][0]["acoustic_features"]["volume_db"] < 0


def test_silence_is_told(real_client: Client, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "silence.flac", np.zeros((1, 20 * 16_000), np.float32), 16_000, "flac")
    answer = real_client.transcribe(path)
    assert (answer["text"], answer["language"]) == ("", "und")
    assert "음성이 감지되지 않았습니다" in answer["notes"]


def test_a_language_that_nothing_serves_is_refused_at_once(
    real_graph: LocalGraph, videos: dict[str, DemoVideo]
) -> None:
    began = time.monotonic()
    with videos["korean"].path.open("rb") as file:
        answer = httpx.post(
            f"{real_graph.base_url}/transcribe", files={"file": file}, data={"language": "xx"}, timeout=TIMEOUT_S
        )
    assert answer.status_code == 422
    assert time.monotonic() - began < 15.0  # no backend that is scaled to zero was started for it
