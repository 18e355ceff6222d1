"""Uploads put into words over real HTTP on the shared graph: every backend, whisper-micro in each of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from serve_app.client import Client
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import CallbackReceiver
from serve_app.commands.demo.videos import DemoVideo
from serve_app.scoring import count_word_errors
from tests.integration.recordings import read_audio, write_audio

ROOT = Path(__file__).resolve().parents[2]
UTTERANCES = ROOT / "tests" / "data" / "whisper_micro"
WHISPERS = ["faster-whisper", "transformers", "openai-whisper"]
RATE_HZ = 16_000
# A backend starts from zero replicas; on two busy cores that took up to 30 s.
TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Utterance:
    path: Path
    language: str
    text: str
    words: list[tuple[str, float, float]]


def utterances(language: str) -> list[Utterance]:
    listed = json.loads((UTTERANCES / "utterances.json").read_text())["utterances"]
    return [
        Utterance(UTTERANCES / each["file"], each["language"], each["text"], [tuple(word) for word in each["words"]])
        for each in listed
        if each["language"] == language
    ]


@dataclass(frozen=True)
class Recording:
    """Utterances one after another, with what is said in it."""

    path: Path
    text: str
    starts_s: list[float]
    duration_s: float


def joined(path: Path, spoken: list[Utterance], pauses_s: list[float]) -> Recording:
    """Write utterances with pauses before them; the words' starts are true to the sample."""
    parts: list[np.ndarray] = []
    starts_s: list[float] = []
    at_s = 0.0
    for utterance, pause_s in zip(spoken, pauses_s, strict=True):
        samples = read_audio(utterance.path)
        parts += [np.zeros(round(pause_s * RATE_HZ), np.float32), samples]
        starts_s += [at_s + pause_s + start_s for _, start_s, _ in utterance.words]
        at_s += pause_s + len(samples) / RATE_HZ
    write_audio(path, np.concatenate(parts)[None], RATE_HZ, "flac")
    return Recording(path, " ".join(utterance.text for utterance in spoken), starts_s, at_s)


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """About 50 s: more than one of Whisper's windows."""
    spoken = utterances("en") + utterances("en")[:6]
    return joined(tmp_path_factory.mktemp("speech") / "english.flac", spoken, [0.5 + 0.1 * (n % 4) for n in range(18)])


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return joined(tmp_path_factory.mktemp("speech") / "sentences.flac", utterances("en")[:4], [0.6] * 4)


@pytest.fixture(scope="module")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return joined(tmp_path_factory.mktemp("speech") / "korean.flac", utterances("ko"), [0.6] * 6)


@pytest.fixture(scope="module")
def heard(graph: LocalGraph, english: Recording) -> dict[str, dict[str, Any]]:
    """What each backend makes of the same recording; they start side by side."""
    with Client(graph.base_url, timeout_s=TIMEOUT_S) as client, ThreadPoolExecutor(len(WHISPERS)) as pool:
        answers = pool.map(lambda backend: client.transcribe(english.path, backend=backend), WHISPERS)
        return dict(zip(WHISPERS, answers, strict=True))


@pytest.fixture
def openai_client(graph: LocalGraph) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{graph.base_url}/v1", api_key="any", timeout=TIMEOUT_S, max_retries=0) as client:
        yield client


def word_error_rate(spoken: str, text: str) -> float:
    errors, num_words = count_word_errors(spoken, text)
    return errors / num_words


@pytest.mark.parametrize("backend", WHISPERS)
def test_a_named_backend_answers_with_what_was_said_and_when(
    heard: dict[str, dict[str, Any]], english: Recording, backend: str
) -> None:
    answer = heard[backend]
    assert answer["success"] is True
    assert answer["backend"] == backend
    assert answer["model_version"] == f"{backend}:whisper-micro:float32"
    assert answer["language"] == "en"
    assert answer["duration"] == pytest.approx(english.duration_s, abs=0.05)
    assert word_error_rate(english.text, answer["text"]) <= 0.10
    words = [word for segment in answer["segments"] for word in segment["words"]]
    assert [word["start"] for word in words] == sorted(word["start"] for word in words)
    assert all(0 <= word["start"] <= word["end"] <= answer["duration"] for word in words)
    assert all(left["end"] <= right["start"] + 0.001 for left, right in pairwise(answer["segments"]))
    if len(words) == len(english.starts_s):
        errors_s = [abs(word["start"] - true) for word, true in zip(words, english.starts_s, strict=True)]
        assert np.median(errors_s) <= 0.1


def test_all_backends_hear_the_same(heard: dict[str, dict[str, Any]]) -> None:
    texts = [heard[backend]["text"] for backend in WHISPERS]
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert word_error_rate(texts[left], texts[right]) <= 0.02


def test_the_first_request_tells_that_it_waited_for_the_start(heard: dict[str, dict[str, Any]]) -> None:
    """In configs/local.yaml the Whisper backends have no replica until somebody asks."""
    assert all(heard[backend]["stage_seconds"]["backend_start"] > 0.5 for backend in WHISPERS)


def test_without_a_name_the_contracts_order_decides(
    client: Client, heard: dict[str, dict[str, Any]], korean: Recording
) -> None:
    answer = client.transcribe(korean.path)
    assert answer["backend"] == "faster-whisper"
    assert answer["language"] == "ko"
    assert "backend_start" not in answer["stage_seconds"]
    assert any("whisper-micro는 합성 음성의 단어 수백 개만" in note for note in answer["notes"])
    assert word_error_rate(korean.text, answer["text"]) <= 0.15


def test_an_unknown_backend_is_refused_with_the_names_of_the_others(graph: LocalGraph, korean: Recording) -> None:
    with korean.path.open("rb") as file:
        answer = httpx.post(
            f"{graph.base_url}/transcribe", files={"file": file}, data={"backend": "kaldi"}, timeout=TIMEOUT_S
        )
    assert answer.status_code == 422
    assert answer.json()["success"] is False
    assert all(name in answer.json()["error"] for name in [*WHISPERS, "pocketsphinx"])


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"", 422, "AUDIO_EXTRACTION_ERROR"), (b"no sound at all" * 99, 422, "AUDIO_EXTRACTION_ERROR")],
)
def test_what_holds_no_sound_is_refused(graph: LocalGraph, content: bytes, status: int, code: str) -> None:
    answer = httpx.post(
        f"{graph.base_url}/transcribe",
        files={"file": ("a.wav", content)},
        data={"backend": "pocketsphinx"},
        timeout=TIMEOUT_S,
    )
    assert answer.status_code == status
    if content:
        assert answer.json()["error_code"] == code


def test_silence_has_no_words(client: Client, tmp_path: Path) -> None:
    quiet = write_audio(tmp_path / "quiet.wav", np.zeros((1, 3 * RATE_HZ), np.float32), RATE_HZ, "pcm_s16le")
    answer = client.transcribe(quiet, backend="faster-whisper")
    assert answer["success"] is True
    assert (answer["text"], answer["segments"]) == ("", [])


def test_a_large_upload_goes_through_the_artefact_store_and_leaves_nothing(
    client: Client, graph: LocalGraph, tmp_path: Path, english: Recording
) -> None:
    """Above 2 MiB; as 48 kHz stereo the same recording is 9 MB."""
    samples = read_audio(english.path, 48_000)
    large = write_audio(tmp_path / "large.wav", np.stack([samples, samples]), 48_000, "pcm_s16le", "stereo")
    assert large.stat().st_size > 8e6
    answer = client.transcribe(large, backend="faster-whisper")
    assert word_error_rate(english.text, answer["text"]) <= 0.10
    state = Path(graph.environment["SERVE_APP_STATE_DIR"])
    assert [path for path in (state / "artifacts").rglob("*upload-*") if path.is_file()] == []


def test_the_openai_client_works_by_changing_its_base_url(openai_client: OpenAI, sentences: Recording) -> None:
    assert {"faster-whisper", "transformers", "openai-whisper", "pocketsphinx"} <= {
        model.id for model in openai_client.models.list()
    }
    with sentences.path.open("rb") as file:
        told = openai_client.audio.transcriptions.create(
            file=file,
            model="faster-whisper",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
    assert word_error_rate(sentences.text, told.text) <= 0.10
    assert told.words is not None
    assert len(told.words) == len(told.text.split())
    assert told.segments
    with sentences.path.open("rb") as file:
        subtitles = openai_client.audio.transcriptions.create(file=file, model="whisper-1", response_format="srt")
    assert str(subtitles).startswith("1\n00:00:00,")
    with sentences.path.open("rb") as file, pytest.raises(NotFoundError, match="faster-whisper"):
        openai_client.audio.transcriptions.create(file=file, model="no-such-model")


def test_the_openai_client_streams_pieces_as_they_are_heard(openai_client: OpenAI, english: Recording) -> None:
    with english.path.open("rb") as file:
        events = list(openai_client.audio.transcriptions.create(file=file, model="faster-whisper", stream=True))
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert len(deltas) >= 2, "the recording has more than one piece"
    assert events[-1].type == "transcript.text.done"
    assert "".join(deltas).split() == events[-1].text.split()
    assert word_error_rate(english.text, events[-1].text) <= 0.10


@pytest.fixture(scope="module")
def dialogue(served: tuple[Path, str], videos: dict[str, DemoVideo]) -> Path:
    """The first 12 s, with both speakers, above 2 MiB, in the folder that is served."""
    samples = read_audio(videos["dialogue"].path, 48_000)[: 12 * 48_000]
    path = write_audio(served[0] / "dialogue.wav", np.stack([samples, samples]), 48_000, "pcm_s16le", "stereo")
    assert path.stat().st_size > 2 * 1024**2
    return path


@pytest.fixture(scope="module")
def by_address(graph: LocalGraph, served: tuple[Path, str], dialogue: Path) -> dict[str, Any]:
    """What the JSON form answers."""
    with Client(graph.base_url, timeout_s=TIMEOUT_S) as client:
        return client.analyze(audio_path=f"{served[1]}/{dialogue.name}", language="en", num_speakers=2)


def test_a_diarized_upload_is_answered_like_a_file_by_address(
    client: Client, graph: LocalGraph, dialogue: Path, by_address: dict[str, Any]
) -> None:
    uploaded = client.transcribe(dialogue, language="en", diarize=True, num_speakers=2)
    assert list(uploaded) == list(by_address)
    assert uploaded["success"] is True
    for name in ("segments", "speakers", "speaker_turns"):
        assert uploaded[name] == by_address[name], name
    assert set(uploaded["speakers"]) == {"SPEAKER_00", "SPEAKER_01"}
    words = [word for segment in uploaded["segments"] for word in segment["words"]]
    assert all(word["acoustic_features"]["volume_db"] < 0 for word in words)
    measured = {"processing_time", "processed_at", "stage_seconds"}
    assert {name: value for name, value in uploaded["metadata"].items() if name not in measured} == {
        name: value for name, value in by_address["metadata"].items() if name not in measured
    }
    assert set(by_address["metadata"]["stage_seconds"]) - set(uploaded["metadata"]["stage_seconds"]) <= {
        "fetch",
        "backend_start",
    }
    state = Path(graph.environment["SERVE_APP_STATE_DIR"])
    assert [path for path in (state / "artifacts").rglob("*direct-*") if path.is_file()] == []


def test_a_diarized_upload_by_a_named_backend(client: Client, korean: Recording) -> None:
    answer = client.transcribe(korean.path, backend="faster-whisper", diarize=True, num_speakers=1)
    assert answer["metadata"]["model_version"] == "faster-whisper:whisper-micro:float32"
    assert answer["metadata"]["language_detected"] == "ko"
    assert list(answer["speakers"]) == ["SPEAKER_00"]
    text = " ".join(segment["text"] for segment in answer["segments"])
    assert word_error_rate(korean.text, text) <= 0.15


def test_options_of_an_analysis_are_refused_without_it(graph: LocalGraph, korean: Recording) -> None:
    with korean.path.open("rb") as file:
        answer = httpx.post(
            f"{graph.base_url}/transcribe", files={"file": file}, data={"num_speakers": "2"}, timeout=TIMEOUT_S
        )
    assert answer.status_code == 422
    assert "num_speakers: diarize=true" in answer.json()["error"]


def test_the_openai_client_is_told_who_said_what(
    openai_client: OpenAI, dialogue: Path, by_address: dict[str, Any]
) -> None:
    asked: dict[str, Any] = {
        "model": "gpt-4o-transcribe-diarize",
        "response_format": "diarized_json",
        "language": "en",
        "chunking_strategy": {"type": "server_vad", "threshold": 0.5},
    }
    with dialogue.open("rb") as file:
        told = openai_client.audio.transcriptions.create(file=file, **asked)
    assert told.task == "transcribe"
    assert {segment.speaker for segment in told.segments} == {"A", "B"}
    assert told.text.split() == [word for part in by_address["segments"] for word in part["text"].split()]
    assert [segment.text for segment in told.segments] == [part["text"] for part in by_address["segments"]]
    with dialogue.open("rb") as file:
        events = list(openai_client.audio.transcriptions.create(file=file, stream=True, **asked))
    segments = [event for event in events if event.type == "transcript.text.segment"]
    assert [(event.speaker, event.text) for event in segments] == [(part.speaker, part.text) for part in told.segments]
    assert events[-1].text == told.text


@pytest.mark.usefixtures("heard")
def test_names_that_clients_hard_code_are_the_first_healthy_backend(openai_client: OpenAI, korean: Recording) -> None:
    listed = {model.id for model in openai_client.models.list()}
    for alias in ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"):
        assert alias in listed
        assert openai_client.models.retrieve(alias).id == alias
        with korean.path.open("rb") as file:
            told = openai_client.audio.transcriptions.create(
                file=file, model=alias, response_format="verbose_json", chunking_strategy="auto"
            )
        assert told.backend == "faster-whisper"  # type: ignore[attr-defined]
        assert word_error_rate(korean.text, told.text) <= 0.15


@pytest.mark.usefixtures("heard")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("model", [*WHISPERS, "whisper-1"])
def test_whisper_micro_can_not_translate_and_says_what_can(
    openai_client: OpenAI, korean: Recording, model: str
) -> None:
    with korean.path.open("rb") as file, pytest.raises(BadRequestError) as raised:
        openai_client.audio.translations.create(file=file, model=model)
    named = "faster-whisper" if model == "whisper-1" else model
    assert f"{named}:whisper-micro:float32" in raised.value.message
    assert "whisper-base" in raised.value.message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_embedded_recogniser_can_not_translate(openai_client: OpenAI, korean: Recording) -> None:
    with korean.path.open("rb") as file, pytest.raises(BadRequestError, match="faster-whisper"):
        openai_client.audio.translations.create(file=file, model="pocketsphinx")


def test_a_job_in_a_language_of_whisper_only_is_heard_by_whisper(
    client: Client, receiver: CallbackReceiver, served: tuple[Path, str], korean: Recording, job_id: str
) -> None:
    """The local config prefers the recogniser that knows more words; it does not know Korean."""
    (served[0] / "korean.flac").write_bytes(korean.path.read_bytes())
    client.submit(
        f"{served[1]}/korean.flac", job_id=job_id, language="ko", fastapi_base_url=receiver.base_url, num_speakers=1
    )
    receiver.wait_until_final(job_id, TIMEOUT_S)
    result = client.get(job_id)["result"]
    assert result["metadata"]["model_version"] == "faster-whisper:whisper-micro:float32"
    assert result["metadata"]["processing_mode"] == "targeted"
    assert result["language"] == "ko"
    assert word_error_rate(korean.text, result["text"]) <= 0.15
    srt = client.transcript(job_id, "srt")
    assert srt.count(" --> ") >= 3
    cues = [line for line in srt.splitlines() if line and "-->" not in line and not line.isdecimal()]
    assert " ".join(cues).split() == result["text"].split()
    assert client.transcript(job_id, "vtt").startswith("WEBVTT")
    assert json.loads(client.transcript(job_id, "json"))


def test_a_folder_is_transcribed_by_the_command_line(graph: LocalGraph, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    spoken = utterances("en")[:6]
    for utterance in spoken:
        (folder / utterance.path.name).write_bytes(utterance.path.read_bytes())
    (folder / "broken.wav").write_bytes(b"RIFF nothing")
    command = [sys.executable, "-m", "serve_app", "transcribe", str(folder), "--url", graph.base_url]
    command += ["--backend", "faster-whisper", "--language", "en", "--out", str(tmp_path / "results.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 1, "one file failed"
    assert "broken.wav" in done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert [set(entry) for entry in results] == [{"file", "text", "language", "duration"}] * 6
    errors = [count_word_errors(u.text, entry["text"])[0] for u, entry in zip(spoken, results, strict=True)]
    assert sum(errors) <= 4
