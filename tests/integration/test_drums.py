"""Drums over real HTTP on the shared graph: the weights that come with serve_app, batches, failures."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import mido
import numpy as np
import pytest

from serve_app.client import Client
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.errors import AudioExtractionError
from tests.integration.played_drums import BPM, RATE_HZ, Played, play
from tests.integration.recordings import write_audio, write_silent_video

# The deployment starts from zero replicas; on two busy cores the first request waits for that.
TIMEOUT_S = 180.0
NOTES = {36: "kick", 38: "snare", 42: "hihat"}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Small enough to travel with the call."""
    return play(tmp_path_factory.mktemp("drums") / "rock 1.wav", 16, 1, "pcm_s16le")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """More than one piece of the network's, and more than 2 MiB."""
    return play(tmp_path_factory.mktemp("drums") / "long.wav", 80, 2, "pcm_f32le")


@pytest.fixture(scope="module")
def heard(graph: LocalGraph, short: Played) -> dict[str, Any]:
    """Return what is heard in the short one; also waits for the deployment's start."""
    with Client(graph.base_url, timeout_s=TIMEOUT_S) as client:
        return client.transcribe_drums(short.path)


def post(graph: LocalGraph, *files: tuple[str, bytes], accept: str = "*/*", **fields: Any) -> httpx.Response:
    return httpx.post(
        f"{graph.base_url}/transcribe-drums",
        files=[("file", file) for file in files],
        data=fields,
        headers={"Accept": accept},
        timeout=TIMEOUT_S,
    )


def check_strokes(answer: dict[str, Any], played: Played) -> None:
    """See that of each drum nearly every stroke was heard, and nearly nothing else."""
    assert answer["duration"] == pytest.approx(played.duration_s, abs=0.01)
    for drum, strokes_s in played.strokes_s.items():
        times_s = np.array([hit["time"] for hit in answer["hits"] if hit["drum"] == drum])
        apart_s = np.abs(times_s[:, None] - np.array(strokes_s))  # (hits, strokes)
        assert np.mean(apart_s.min(axis=0) <= 0.03) >= 0.9, drum
        assert np.mean(apart_s.min(axis=1) <= 0.03) >= 0.9, drum


def same_hits(left: dict[str, Any], right: dict[str, Any]) -> bool:
    drums = [[hit["drum"] for hit in answer["hits"]] for answer in (left, right)]
    times_s = [[hit["time"] for hit in answer["hits"]] for answer in (left, right)]
    return drums[0] == drums[1] and np.allclose(*times_s, atol=1e-3)


def test_what_is_played_is_heard(heard: dict[str, Any], short: Played) -> None:
    check_strokes(heard, short)
    assert {hit["drum"] for hit in heard["hits"]} <= {"kick", "snare", "hihat"}
    assert all(1 <= hit["velocity"] <= 127 and 0 < hit["confidence"] <= 1 for hit in heard["hits"])
    octave = np.log2(heard["bpm"] / BPM)
    assert abs(octave - round(octave)) < 0.03
    assert heard["tempo_map"]
    assert heard["filename"] == "rock 1.wav"
    assert heard["log"].startswith("# file: rock 1.wav\n")


def test_the_midi_file_says_the_same(graph: LocalGraph, heard: dict[str, Any], short: Played) -> None:
    answer = post(graph, (short.path.name, short.path.read_bytes()), accept="audio/midi", bpm=BPM)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/midi"
    assert answer.headers["content-disposition"] == 'attachment; filename="rock 1.mid"'
    assert answer.headers["x-model-version"] == heard["model_version"]
    told = post(graph, (short.path.name, short.path.read_bytes()), bpm=BPM).json()
    assert base64.b64decode(told["midi"]) == answer.content
    file = mido.MidiFile(file=io.BytesIO(answer.content))
    now_s, notes = 0.0, set()
    for message in file:
        now_s += message.time
        if message.type == "note_on" and message.velocity:
            assert message.channel == 9
            notes.add((NOTES[message.note], round(now_s, 2)))
    assert notes == {(hit["drum"], round(hit["quantized_time"], 2)) for hit in told["hits"]}
    assert told["bpm"] == BPM


def test_grid_and_thresholds_are_the_callers(client: Client, heard: dict[str, Any], short: Played) -> None:
    told = client.transcribe_drums(
        short.path, bpm=BPM, grid={"kick": 4, "snare": 4, "hihat": 4}, thresholds={"hihat": 0.99}, plot=True
    )
    first_s = told["tempo_map"][0]["time"]
    for hit in told["hits"]:
        beats = (hit["quantized_time"] - first_s) * BPM / 60
        assert beats == pytest.approx(round(beats), abs=0.01)
    assert sum(hit["drum"] == "hihat" for hit in told["hits"]) < sum(hit["drum"] == "hihat" for hit in heard["hits"])
    assert base64.b64decode(told["picture"]).startswith(b"\x89PNG")


def test_several_files_are_answered_one_by_one(
    graph: LocalGraph, heard: dict[str, Any], short: Played, tmp_path: Path
) -> None:
    silent = write_silent_video(tmp_path / "silent.mp4").read_bytes()
    good = short.path.read_bytes()
    answer = post(
        graph, ("a.wav", good), ("b.wav", b"RIFF nothing"), ("c.wav", b""), ("d.mp4", silent), ("e.wav", good)
    )
    assert answer.status_code == 200
    first, *failed, last = answer.json()["results"]
    assert same_hits(first, heard)
    assert same_hits(last, heard)
    assert [result["filename"] for result in failed] == ["b.wav", "c.wav", "d.mp4"]
    assert {result["error"]["code"] for result in failed} == {"AUDIO_EXTRACTION_ERROR"}
    assert post(graph, ("a.wav", good), ("b.wav", good), accept="audio/midi").status_code == 406


def test_eight_at_once_hear_what_one_does(
    graph: LocalGraph, heard: dict[str, Any], short: Played, long: Played
) -> None:
    """Long ones, which go through the artefact store, between short ones, which must not hear of them."""
    paths = [short.path, long.path] * 4

    def transcribe(path: Path) -> dict[str, Any]:
        with Client(graph.base_url, timeout_s=TIMEOUT_S) as client:
            return client.transcribe_drums(path)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(transcribe, paths))
    assert all(same_hits(answer, heard) for answer in answers[::2])
    check_strokes(answers[1], long)
    assert all(same_hits(answer, answers[1]) for answer in answers[3::2])
    state = Path(graph.environment["SERVE_APP_STATE_DIR"])
    assert [path for path in (state / "artifacts").rglob("*upload-*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"bpm": "401"}, "body.bpm"),
        ({"grid_kick": "0"}, "body.grid_kick"),
        ({"threshold_snare": "1"}, "threshold_snare"),
    ],
)
def test_a_wrong_field_is_named(graph: LocalGraph, fields: dict[str, str], told: str) -> None:
    answer = post(graph, ("a.wav", b"RIFF"), **fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")
    assert told in answer.json()["error"]["message"]
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


def test_a_file_without_sound_is_an_error(client: Client, heard: dict[str, Any]) -> None:
    with pytest.raises(AudioExtractionError):
        client.transcribe_drums(io.BytesIO(b"no sound at all" * 99), filename="a.wav")


def test_silence_has_no_hits(client: Client, heard: dict[str, Any], tmp_path: Path) -> None:
    quiet = write_audio(tmp_path / "quiet.wav", np.zeros((1, RATE_HZ), np.float32), RATE_HZ, "pcm_s16le")
    answer = client.transcribe_drums(quiet)
    assert (answer["hits"], answer["duration"]) == ([], 1.0)
    assert answer["notes"]


def test_the_command_line_writes_what_the_server_says(
    graph: LocalGraph, heard: dict[str, Any], short: Played, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "serve_app",
        "drums",
        str(short.path),
        "--url",
        graph.base_url,
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rock 1.mid").read_bytes() == base64.b64decode(heard["midi"])
    assert (tmp_path / "rock 1.txt").read_text("utf-8") == heard["log"]
