import json
from dataclasses import asdict

import pytest

from serve_app.jobs.record import MusicRequest, VideoRequest
from serve_app.jobs.tables import decode_request, encode, encode_request, storable
from serve_app.messages import Locale


def test_json_is_compact_and_keeps_korean():
    assert encode({"text": "안녕", "n": [1, 2.5, None]}) == '{"text":"안녕","n":[1,2.5,null]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_lacks_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        encode({"confidence": value})


def test_text_that_postgres_refuses_is_made_storable():
    assert storable("a\x00b\ud800c") == "ab?c"
    assert json.loads(encode(["a\x00b", "half \ud800"])) == ["a\x00b", "half ?"]


def test_a_request_survives_storage():
    request = VideoRequest(
        job_id="id", video_url="https://e.example/v.mp4", callback_base="https://b.example", language="ko"
    )
    assert decode_request("video", encode_request(request)) == request


def test_a_request_of_another_kind_survives_storage():
    request = MusicRequest(job_id="id", upload_sha256="ab", duration_s=12.5, seed=7, locale=Locale.EN)
    assert decode_request("music", encode_request(request)) == request


def test_a_request_stored_before_a_field_existed_gets_its_default():
    request = VideoRequest(job_id="id", video_url="https://e.example/v.mp4", num_speakers=None)
    stored = asdict(request)
    del stored["num_speakers"]
    assert decode_request("video", json.dumps(stored)) == request


def test_options_are_stored_flat_beside_what_only_a_job_has():
    stored = json.loads(
        encode_request(VideoRequest(job_id="id", video_url="https://e.example/v.mp4", language="ko", max_workers=2))
    )
    assert stored == {
        "job_id": "id",
        "video_url": "https://e.example/v.mp4",
        "callback_base": None,
        "enable_gpu": True,
        "emotion_detection": True,
        "language": "ko",
        "max_workers": 2,
        "num_speakers": None,
        "min_speakers": None,
        "max_speakers": None,
    }
