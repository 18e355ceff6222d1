"""What is left of addresses and paths in specs and sentences."""

from __future__ import annotations

import pytest

from serve_app.errors import ModelLoadingError
from serve_app.messages import Locale, error_message
from serve_app.redaction import shown_spec, without_places, without_secrets

SECRETS = ("hunter2", "5e4c3e7", "robot", "AKIA")
URL = "https://robot:hunter2@weights.example/a/reusable.pth?X-Amz-Credential=AKIA&X-Amz-Signature=5e4c3e7#sha256=00"


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        (URL, "https://weights.example/a/reusable.pth"),
        ("s3://AKIA:hunter2@bucket/folder/", "s3://bucket/folder/"),
        ("simplecache::s3://AKIA:hunter2@bucket/x?token=5e4c3e7", "simplecache::s3://bucket/x"),
        ("https://robot:hunter2@[::1/x", "https://…"),
        ("s3://bucket/my models/x.pth?X-Amz-Signature=5e4c3e7", "s3://bucket/my models/x.pth"),
        ("file:///srv/private/reusable.pth", "file://reusable.pth"),
        ("/srv/private/reusable.pth", "reusable.pth"),
        ("~/models/reusable/", "reusable"),
        ("../x/reusable.pth", "reusable.pth"),
        ("openai/whisper-small@main", "openai/whisper-small@main"),
        ("embedded:container-net", "embedded:container-net"),
        ("whisper-base", "whisper-base"),
    ],
)
def test_specs(spec: str, shown: str) -> None:
    assert shown_spec(spec) == shown


@pytest.mark.parametrize("frame", ["{} can't be fetched", "'{}' is a folder", "({})", "see {}, then", '"{}"', "{}."])
def test_addresses_in_sentences(frame: str) -> None:
    text = without_secrets(frame.format(URL))
    assert text == frame.format("https://weights.example/a/reusable.pth")
    assert not any(secret in text for secret in SECRETS)


def test_queries_of_addresses_without_their_host() -> None:
    """As requests and urllib3 quote them, also behind the redirect of a hub to signed addresses."""
    text = (
        "HTTPConnectionPool(host='cdn', port=443): Max retries exceeded with url: /a/x.bin?X-Sig=5e4c3e7&k=AKIA (Caused"
    )
    assert without_secrets(text) == text.replace("?X-Sig=5e4c3e7&k=AKIA", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("There is no file '/srv/my models/x.pt' (in /home/op/app), and", "There is no file 'x.pt' (in app), and"),
        ("/srv/a/b.safetensors is cut off", "b.safetensors is cut off"),
        ("~/models/x.pt lacks a key", "x.pt lacks a key"),
        ("see GET /v1/models, and/or a/b 1/2", "see GET /v1/models, and/or a/b 1/2"),
        ("use http:// or https://", "use http:// or https://"),
    ],
)
def test_paths_in_sentences(text: str, shown: str) -> None:
    assert without_places(text) == shown


def test_errors_for_callers_tell_neither() -> None:
    error = ModelLoadingError(f"{URL} does not fit /srv/private/reusable.pth")
    for locale in Locale:
        told = error_message(error, locale)
        assert told.endswith("https://weights.example/a/reusable.pth does not fit reusable.pth")
