"""Drums through the client, against the real app on a real socket."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from serve_app import errors
from serve_app.client import Client
from serve_app.results import Drum
from serve_app.services import DrumOptions
from tests.unit.api.memory_services import DRUM_MIDI, MemoryDrums


@pytest.fixture
def drums(running: tuple[FastAPI, str], client: Client) -> MemoryDrums:
    return running[0].state.services.drums


def test_path(client: Client, drums: MemoryDrums, tmp_path: Path) -> None:
    path = tmp_path / "북 1.wav"
    path.write_bytes(b"recording")
    answer = client.transcribe_drums(path)
    assert (answer["filename"], answer["bpm"], len(answer["hits"])) == ("북 1.wav", 120.0, 3)
    assert base64.b64decode(answer["midi"]) == DRUM_MIDI
    assert drums.contents == [b"recording"]
    assert drums.asked == [(["북 1.wav"], DrumOptions())]


def test_options(client: Client, drums: MemoryDrums) -> None:
    drums.picture = b"\x89PNG"
    answer = client.transcribe_drums(
        io.BytesIO(b"x"),
        bpm=99.5,
        grid={"kick": 8, "hihat": 32},
        thresholds={Drum.SNARE: 0.25},
        plot=True,
        filename="a.wav",
    )
    assert base64.b64decode(answer["picture"]) == b"\x89PNG"
    asked = DrumOptions(99.5, {Drum.KICK: 8, Drum.HIHAT: 32}, {Drum.SNARE: 0.25}, True)
    assert drums.asked == [(["a.wav"], asked)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bpm": 5}, "body.bpm"),
        ({"grid": {"snare": 0}}, "body.grid_snare"),
        ({"grid": {"cowbell": 8}}, "body.grid_cowbell: Unknown field"),
        ({"thresholds": {"kick": 2}}, "body.threshold_kick"),
    ],
)
def test_refusals(client: Client, options: dict[str, Any], told: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        client.transcribe_drums(io.BytesIO(b"x"), **options)
    assert told in caught.value.detail


@pytest.mark.parametrize(
    "error",
    [
        errors.AudioExtractionError("no audio"),
        errors.ProcessingError("x"),
        errors.ModelLoadingError("x"),
        errors.GpuMemoryError("x"),
        errors.Unavailable("starting", 3.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failures_are_the_errors_of_the_tree(client: Client, drums: MemoryDrums, error: errors.ServeAppError) -> None:
    drums.failures["a.wav"] = error
    with pytest.raises(type(error)) as caught:
        client.transcribe_drums(io.BytesIO(b"x"), filename="a.wav")
    assert type(caught.value) is type(error)
    assert error.detail in caught.value.detail
    assert getattr(caught.value, "retry_after_s", None) == getattr(error, "retry_after_s", None)


def test_full_service(client: Client, drums: MemoryDrums) -> None:
    drums.busy = errors.Overloaded("full", 4.0)
    with pytest.raises(errors.Overloaded) as caught:
        client.transcribe_drums(io.BytesIO(b"x"))
    assert caught.value.retry_after_s == 4.0


def test_too_large(client: Client) -> None:
    with pytest.raises(errors.MediaTooLarge, match="100000 bytes"):
        client.transcribe_drums(io.BytesIO(bytes(200_000)))


def test_missing_file(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client.transcribe_drums(tmp_path / "gone.wav")
