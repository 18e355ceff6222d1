"""What the documents show is true: their example runs, and they name every setting."""

from __future__ import annotations

import base64
import re
import time
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs import webhook
from serve_app.settings import Settings

ROOT = Path(__file__).parents[2]
BODY = '{"job_id":"a","status":"processing","progress":10,"message":"비디오 다운로드 완료"}'.encode()
OTHER = "whsec_" + base64.b64encode(b"k" * 24).decode()


@pytest.fixture(scope="module")
def receiver() -> dict[str, Any]:
    """Return what the example of docs/callbacks.md defines."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "callbacks.md").read_text(encoding="utf-8"), re.S)
    names: dict[str, Any] = {"__name__": "receiver"}
    exec(compile(code, "docs/callbacks.md", "exec"), names)
    return names


def sent(secrets: str | None, timestamp_s: float) -> Message:
    """Return an attempt's headers as `http.server` hands them over."""
    values = webhook.headers(
        webhook.parse_secrets(secrets), webhook_id="msg_1", seq=1, timestamp_s=int(timestamp_s), body=BODY
    )
    message = Message()
    for name, value in values.items():
        message[name] = value
    return message


@pytest.mark.parametrize("secrets", ["{own}", "{other} {own}", "{own} {other}"])
def test_the_example_takes_what_we_sign(receiver: dict[str, Any], secrets: str) -> None:
    signed_with = secrets.format(own=receiver["SECRET"], other=OTHER)
    receiver["verify"](sent(signed_with, time.time()), BODY)


@pytest.mark.parametrize(
    ("secrets", "age_s", "body"),
    [
        (OTHER, 0, BODY),
        (None, 0, BODY),
        ("{own}", 3600, BODY),
        ("{own}", -3600, BODY),
        ("{own}", 0, BODY + b" "),
    ],
)
def test_the_example_refuses_the_rest(receiver: dict[str, Any], secrets: str | None, age_s: float, body: bytes) -> None:
    signed_with = secrets.format(own=receiver["SECRET"]) if secrets else None
    with pytest.raises(ValueError):
        receiver["verify"](sent(signed_with, time.time() - age_s), body)


class AskedNames(dict[str, str]):
    """An empty environment that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:
        self.asked.add(name)
        return default


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_the_readme_lists_the_settings(name: str) -> None:
    environment = AskedNames()
    Settings.from_environment(environment)
    read = environment.asked - {"HOME", "XDG_STATE_HOME"}
    assert len(read) > 10
    told = set(re.findall(r"`([A-Z][A-Z_]+)`", (ROOT / name).read_text(encoding="utf-8")))
    assert read <= told
    assert {each for each in told - read if each.startswith("SERVE_APP_")} == {"SERVE_APP_URL"}
