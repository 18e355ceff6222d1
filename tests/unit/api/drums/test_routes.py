"""`POST /transcribe-drums`: answers, batches, limits and failures."""

from __future__ import annotations

import base64
import json
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from serve_app import errors
from serve_app.api.app import create_app
from serve_app.api.drums.answers import midi_disposition
from serve_app.api.drums.routes import MAX_FILES
from serve_app.api.http.options import ApiSettings
from serve_app.messages import Locale
from serve_app.results import Drum
from serve_app.services import DrumOptions, Services
from tests.unit.api.live import DEADLINE_S, serving, until
from tests.unit.api.memory_services import DRUM_MIDI, DRUM_TRANSCRIPT, MemoryDrums

SHAPE = [
    "filename",
    "bpm",
    "bpm_alternative",
    "duration",
    "hits",
    "tempo_map",
    "midi",
    "log",
    "picture",
    "model_version",
    "processing_time",
    "notes",
]


def upload(
    client: Any, content: bytes = b"RIFF....", filename: str = "loop.wav", *, accept: str = "*/*", **fields: Any
) -> Any:
    files = {"file": (filename, content)}
    return client.post("/transcribe-drums", files=files, data=fields, headers={"Accept": accept})


def upload_all(client: Any, *names: str, accept: str = "*/*", **fields: Any) -> Any:
    files = [("file", (name, name.encode())) for name in names]
    return client.post("/transcribe-drums", files=files, data=fields, headers={"Accept": accept})


class TestOneFile:
    def test_json(self, client: TestClient) -> None:
        answer = upload(client)
        assert answer.status_code == 200
        assert answer.headers["vary"] == "Accept"
        body = answer.json()
        assert list(body) == SHAPE
        assert base64.b64decode(body.pop("midi")) == DRUM_MIDI
        assert body == {
            "filename": "loop.wav",
            "bpm": 120.0,
            "bpm_alternative": None,
            "duration": 1.75,
            "hits": [
                {"time": 0.5012, "quantized_time": 0.5, "drum": "kick", "velocity": 110, "confidence": 0.9876},
                {"time": 0.5031, "quantized_time": 0.5, "drum": "hihat", "velocity": 64, "confidence": 0.42},
                {"time": 0.9987, "quantized_time": 1.0, "drum": "snare", "velocity": 101, "confidence": 0.8},
            ],
            "tempo_map": [{"time": 0.5, "bpm": 120.0}],
            "log": "0.501 kick",
            "picture": None,
            "model_version": "drum-net:0123abcd",
            "processing_time": 0.25,
            "notes": ["3 samples that are not numbers count as silence"],
        }

    @pytest.mark.parametrize("accept", ["audio/midi", "audio/x-midi", "audio/midi, */*;q=0.5"])
    def test_midi(self, client: TestClient, accept: str) -> None:
        answer = upload(client, filename="../takes/my loop.flac", accept=accept)
        assert answer.status_code == 200
        assert answer.content == DRUM_MIDI
        assert answer.headers["content-type"] == accept.partition(",")[0]
        assert answer.headers["content-disposition"] == 'attachment; filename="my loop.mid"'
        assert answer.headers["x-model-version"] == "drum-net:0123abcd"
        assert answer.headers["vary"] == "Accept"

    def test_what_nobody_can_answer_is_json(self, client: TestClient) -> None:
        assert upload(client, accept="text/html").json()["bpm"] == 120.0

    def test_defaults(self, client: TestClient, drums: MemoryDrums) -> None:
        assert upload(client, b"RIFFdata").status_code == 200
        assert drums.contents == [b"RIFFdata"]
        assert drums.asked == [(["loop.wav"], DrumOptions())]

    def test_every_field_is_handed_on(self, client: TestClient, drums: MemoryDrums) -> None:
        drums.picture = b"\x89PNG"
        fields = {
            "bpm": "96.5",
            "grid_kick": "16",
            "grid_snare": "12",
            "grid_hihat": "8",
            "threshold_kick": "0.5",
            "threshold_snare": "0.25",
            "threshold_hihat": "0.15",
            "plot": "true",
        }
        body = upload(client, filename="북.wav", **fields).json()
        assert (body["filename"], base64.b64decode(body["picture"])) == ("북.wav", b"\x89PNG")
        asked = DrumOptions(
            96.5,
            {Drum.KICK: 16, Drum.SNARE: 12, Drum.HIHAT: 8},
            {Drum.KICK: 0.5, Drum.SNARE: 0.25, Drum.HIHAT: 0.15},
            True,
        )
        assert drums.asked == [(["북.wav"], asked)]

    def test_some_fields(self, client: TestClient, drums: MemoryDrums) -> None:
        upload(client, grid_hihat="32", threshold_kick="0.9", bpm="", threshold_snare="")
        assert drums.asked[0][1] == DrumOptions(None, {Drum.HIHAT: 32}, {Drum.KICK: 0.9})

    def test_an_audio_track_can_be_chosen(self, client: TestClient, drums: MemoryDrums) -> None:
        upload(client, audio_track="1")
        assert drums.asked[0][1] == DrumOptions(audio_track=1)

    def test_picture_is_not_drawn_for_midi(self, client: TestClient, drums: MemoryDrums) -> None:
        upload(client, accept="audio/midi", plot="true", bpm="90")
        assert drums.asked[0][1] == DrumOptions(90.0)

    def test_silence(self, client: TestClient, drums: MemoryDrums) -> None:
        drums.transcript = replace(DRUM_TRANSCRIPT, hits=())
        assert upload(client).json()["hits"] == []


class TestWrongRequest:
    @pytest.mark.parametrize(
        ("fields", "name", "told"),
        [
            ({"bpm": "19.9"}, "bpm", "20"),
            ({"bpm": "400.1"}, "bpm", "400"),
            ({"bpm": "fast"}, "bpm", "number"),
            ({"bpm": "nan"}, "bpm", "finite"),
            ({"grid_kick": "0"}, "grid_kick", "greater than or equal to 1"),
            ({"grid_snare": "193"}, "grid_snare", "less than or equal to 192"),
            ({"grid_hihat": "8.5"}, "grid_hihat", "integer"),
            ({"threshold_kick": "0"}, "threshold_kick", "greater than 0"),
            ({"threshold_snare": "1"}, "threshold_snare", "less than 1"),
            ({"threshold_hihat": "inf"}, "threshold_hihat", "finite"),
            ({"plot": "perhaps"}, "plot", "boolean"),
            ({"tempo": "120"}, "tempo", "Allowed: file, bpm, grid_kick"),
            ({"bpm": ["100", "120"]}, "bpm", "once"),
        ],
    )
    def test_field_is_named(
        self, client: TestClient, drums: MemoryDrums, fields: dict[str, Any], name: str, told: str
    ) -> None:
        answer = upload(client, **fields)
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert list(error) == ["code", "message", "request_id"]
        assert error["code"] == "INVALID_REQUEST"
        assert error["message"].startswith(f"body.{name}: ")
        assert told in error["message"]
        assert error["request_id"] == answer.headers["x-request-id"]
        assert drums.asked == []

    @pytest.mark.parametrize(
        ("files", "told"),
        [
            ({"audio": ("a.wav", b"RIFF")}, "body.audio: No file is expected here; name it file"),
            ([("file", ("a.wav", b"x")), ("audio", ("b.wav", b"x"))], "body.audio: No file is expected here"),
            ({"file": ("a.wav", b"")}, "body.file: The file is empty"),
            ([("file", (f"{n}.wav", b"x")) for n in range(MAX_FILES + 1)], f"Send up to {MAX_FILES} files, each named"),
        ],
    )
    def test_files(self, client: TestClient, drums: MemoryDrums, files: Any, told: str) -> None:
        answer = client.post("/transcribe-drums", files=files)
        assert answer.status_code == 422
        assert told in answer.json()["error"]["message"]
        assert drums.asked == []

    def test_no_form(self, client: TestClient) -> None:
        answer = client.post("/transcribe-drums", json={"file": "a.wav"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")

    def test_limit_of_bytes_is_the_uploads(self, client_with: Callable[..., TestClient], drums: MemoryDrums) -> None:
        client = client_with(max_upload_bytes=3000, max_body_bytes=1024)
        assert upload(client, b"x" * 2000).status_code == 200
        answer = upload(client, b"x" * 3000)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "REQUEST_TOO_LARGE")
        assert client.post("/transcribe-drums", json={"x": "v" * 2000}).status_code == 415
        assert len(drums.asked) == 1


class TestFailure:
    @pytest.mark.parametrize(
        ("error", "status", "code", "message"),
        [
            (errors.AudioExtractionError("no audio"), 422, "AUDIO_EXTRACTION_ERROR", "Audio extraction failed: no"),
            (errors.InvalidRequest("bpm: no"), 422, "INVALID_REQUEST", "bpm: no"),
            (errors.ProcessingError("x"), 500, "PROCESSING_ERROR", "An error occurred during processing: x"),
            (errors.ModelLoadingError("x"), 503, "MODEL_LOADING_ERROR", "A model could not be loaded: x"),
            (errors.GpuMemoryError("x"), 503, "GPU_MEMORY_ERROR", "Out of GPU memory: x"),
            (errors.Unavailable("full", 7.1), 503, "UNAVAILABLE", "full"),
        ],
    )
    def test_of_the_one_file(
        self,
        client_with: Callable[..., TestClient],
        drums: MemoryDrums,
        error: Exception,
        status: int,
        code: str,
        message: str,
    ) -> None:
        drums.failures["loop.wav"] = error
        for accept in ("*/*", "audio/midi"):
            answer = upload(client_with(locale=Locale.EN), accept=accept)
            assert answer.status_code == status
            assert answer.json()["error"]["code"] == code
            assert answer.json()["error"]["message"].startswith(message)
            assert ("retry-after" in answer.headers) == (status == 503)

    @pytest.mark.parametrize(
        ("busy", "status"), [(errors.Unavailable("busy", 4.2), 503), (errors.Overloaded("full", 4.2), 429)]
    )
    def test_full_service(self, client: TestClient, drums: MemoryDrums, busy: Exception, status: int) -> None:
        drums.busy = busy
        answer = upload_all(client, "a.wav", "b.wav")
        assert (answer.status_code, answer.headers["retry-after"]) == (status, "5")

    def test_unexpected_one_keeps_its_secrets(
        self, client: TestClient, drums: MemoryDrums, caplog: pytest.LogCaptureFixture
    ) -> None:
        drums.failures["a.wav"] = KeyError("hunter2")
        answer = upload_all(client, "a.wav", "b.wav")
        assert answer.json()["results"][0]["error"]["code"] == "INTERNAL_ERROR"
        assert "hunter2" not in answer.text
        assert "hunter2" in caplog.text  # the operator finds it


class TestSeveralFiles:
    def test_each_is_answered_in_order(self, client: TestClient, drums: MemoryDrums) -> None:
        answer = upload_all(client, "a.wav", "b.wav", "a.wav", bpm="100")
        assert answer.status_code == 200
        results = answer.json()["results"]
        assert [result["filename"] for result in results] == ["a.wav", "b.wav", "a.wav"]
        assert all(list(result) == SHAPE for result in results)
        assert drums.contents == [b"a.wav", b"b.wav", b"a.wav"]
        assert drums.asked == [(["a.wav", "b.wav", "a.wav"], DrumOptions(100.0))]

    def test_one_that_fails_leaves_the_others(self, client: TestClient, drums: MemoryDrums) -> None:
        drums.failures["b.wav"] = errors.AudioExtractionError("not media")
        answer = upload_all(client, "a.wav", "b.wav", "c.wav")
        assert answer.status_code == 200
        good, bad, last = answer.json()["results"]
        assert (list(good), list(last)) == (SHAPE, SHAPE)
        assert set(bad) == {"filename", "error"}
        assert bad["filename"] == "b.wav"
        assert bad["error"]["code"] == "AUDIO_EXTRACTION_ERROR"
        assert bad["error"]["request_id"] == answer.headers["x-request-id"]

    def test_an_empty_one_is_left_to_the_service(self, client: TestClient, drums: MemoryDrums) -> None:
        files = [("file", ("a.wav", b"x")), ("file", ("b.wav", b""))]
        assert len(client.post("/transcribe-drums", files=files).json()["results"]) == 2
        assert drums.contents == [b"x", b""]

    def test_they_can_not_be_one_midi_file(self, client: TestClient, drums: MemoryDrums) -> None:
        answer = upload_all(client, "a.wav", "b.wav", accept="audio/midi")
        assert (answer.status_code, answer.json()["error"]["code"]) == (406, "NOT_ACCEPTABLE")
        assert "application/json" in answer.json()["error"]["message"]
        assert drums.asked == []

    def test_most(self, client: TestClient) -> None:
        names = [f"{number}.wav" for number in range(MAX_FILES)]
        assert [each["filename"] for each in upload_all(client, *names).json()["results"]] == names


@pytest.mark.parametrize(
    ("upload_name", "disposition"),
    [
        ("loop.wav", 'attachment; filename="loop.mid"'),
        ("loop", 'attachment; filename="loop.mid"'),
        ("a.b.wav", 'attachment; filename="a.b.mid"'),
        (".wav", 'attachment; filename="wav.mid"'),
        ("...", 'attachment; filename="drums.mid"'),
        ('say "hi".wav', "attachment; filename=\"say _hi_.mid\"; filename*=UTF-8''say%20%22hi%22.mid"),
        ("100%.wav", "attachment; filename=\"100_.mid\"; filename*=UTF-8''100%25.mid"),
        ("북.wav", "attachment; filename=\"_.mid\"; filename*=UTF-8''%EB%B6%81.mid"),
        ("half\ud800.wav", "attachment; filename=\"half_.mid\"; filename*=UTF-8''half%3F.mid"),
    ],
)
def test_midi_file_is_named_after_the_upload(upload_name: str, disposition: str) -> None:
    assert midi_disposition(upload_name) == disposition
    disposition.encode("latin-1")  # as a header must be


def test_route_is_documented(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/transcribe-drums"]["post"]
    schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    grids, thresholds = ([f"{what}_{drum}" for drum in Drum] for what in ("grid", "threshold"))
    assert list(schema["properties"]) == ["file", "bpm", *grids, *thresholds, "audio_track", "plot"]
    assert schema["required"] == ["file"]
    assert schema["properties"]["file"]["maxItems"] == MAX_FILES
    content = operation["responses"]["200"]["content"]
    assert set(content) == {"application/json", "audio/midi"}
    answers = {each["$ref"].rpartition("/")[2] for each in content["application/json"]["schema"]["anyOf"]}
    assert answers == {"DrumView", "DrumBatchView"}
    assert {"406", "413", "415", "422", "429", "503"} <= set(operation["responses"])


def test_files_are_closed_after_the_answer(client: TestClient, drums: MemoryDrums) -> None:
    upload_all(client, "a.wav", "b.wav")
    assert [file.closed for file in drums.files] == [True, True]


def test_leaving_client_ends_the_work(services: Services, drums: MemoryDrums, caplog: pytest.LogCaptureFixture) -> None:
    drums.hangs = True
    caplog.set_level(logging.INFO, "serve_app")
    with serving(create_app(services, ApiSettings())) as url:
        request = httpx.Request("POST", f"{url}/transcribe-drums", files={"file": ("a.wav", b"x" * (2 << 20))})
        content = request.read()
        headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        with socket.create_connection((request.url.host, request.url.port or 80), DEADLINE_S) as connection:
            connection.sendall(f"POST {request.url.path} HTTP/1.1\r\n{headers}\r\n".encode() + content)
            assert drums.started.wait(DEADLINE_S)
        assert drums.cancelled.wait(DEADLINE_S)
        until(lambda: drums.files[0].closed, "the recording closed")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "serve_app.access"]
    assert [line["status"] for line in lines] == [499]
