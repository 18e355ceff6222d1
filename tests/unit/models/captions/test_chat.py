"""The captioner over HTTP, against a real server with every error of the protocol."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from PIL import Image

from serve_app.errors import CaptionRefused, ModelLoadingError, ProcessingError
from serve_app.models.captions import chat
from serve_app.models.captions.chat import MAX_ANSWER_BYTES, ChatCaptioner
from serve_app.models.captions.options import ChatOptions
from serve_app.models.captions.reply import parse_reply
from serve_app.models.remote_http import PassingFailure, retry_after_s
from serve_app.results import Caption
from tests.unit.models.captions.chat_server import CAPTION, GOOD, Answer, ChatServer, fails, says
from tests.unit.models.captions.drawn import plain, prepared
from tests.unit.models.images.pictures import noise

KEY = "sk-secret-0123456789"
PICTURE = prepared(plain("teal"))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer().running() as running:
        yield running


def ask(server: ChatServer, *script: Answer, picture: Any = PICTURE, key: str | None = KEY, **options: Any) -> Caption:
    """Return the caption that the captioner makes of the server's answers."""
    if script:
        server.script = list(script)

    async def call() -> Caption:
        chosen = {"base_url": server.url, "model": "m", "timeout_s": 5.0, "deadline_s": 10.0, **options}
        captioner = ChatCaptioner(ChatOptions(**chosen), key, first_wait_s=0.005)
        try:
            return await captioner.caption(picture.jpeg, picture.features)
        finally:
            await captioner.close()

    return asyncio.run(call())


def failure(server: ChatServer, *script: Answer, kind: type[Exception] = ProcessingError, **options: Any) -> str:
    """Return the error's text; it must never hold the key."""
    with pytest.raises(kind) as caught:
        ask(server, *script, **options)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    if kind is ProcessingError:
        assert not isinstance(caught.value, CaptionRefused)
    return str(caught.value)


# The request


def test_the_request_is_as_openai_wants_it(server: ChatServer) -> None:
    caption = ask(server)
    assert (caption.caption_ko, caption.caption_en) == (CAPTION["caption_ko"], CAPTION["caption_en"])
    assert (caption.valence, caption.arousal, caption.captioner) == (0.5, -0.5, "chat")
    assert caption.model_version == "chat:m"
    [request] = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert set(request.body) == {"model", "messages", "max_tokens", "temperature"}
    system, user = request.body["messages"]
    assert (system["role"], user["role"], user["content"][0]["type"]) == ("system", "user", "text")
    assert set(user["content"][1]["image_url"]) == {"url"}


def sent_image(server: ChatServer) -> tuple[Image.Image, dict[str, Any]]:
    sent = server.requests[-1].body["messages"][1]["content"][1]["image_url"]
    head, _, data = sent["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data))), sent


def test_the_picture_is_sent_small_and_whole(server: ChatServer) -> None:
    ask(server, GOOD, picture=prepared(noise(1500, 500)), detail="low")
    image, sent = sent_image(server)
    assert (image.size, image.format, sent["detail"]) == ((1024, 341), "JPEG", "low")
    ask(server, GOOD, picture=prepared(plain("red", (30, 50))))
    image, sent = sent_image(server)
    assert image.size == (30, 50)
    assert image.getpixel((10, 10))[0] > 240


@pytest.mark.parametrize(
    ("key", "header", "expected"),
    [
        (KEY, "api-key", {"api-key": KEY}),
        (None, "Authorization", {}),
        ("", "api-key", {}),
        (f"  {KEY}\n", "Authorization", {"authorization": f"Bearer {KEY}"}),
    ],
)
def test_the_key_goes_into_its_header_alone(server: ChatServer, key: Any, header: str, expected: dict) -> None:
    ask(server, GOOD, key=key, key_header=header)
    [request] = server.requests
    assert {name: request.headers[name] for name in ("authorization", "api-key") if name in request.headers} == expected
    assert KEY not in json.dumps(request.body)


def test_a_query_of_the_base_stays_behind_the_path(server: ChatServer) -> None:
    ask(server, GOOD, base_url=f"{server.url}/?api-version=2024-10-21")
    assert server.requests[0].path == "/v1/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize(
    ("base_url", "model"),
    [
        (None, "m"),
        ("http://h/v1", None),
        ("ftp://h/v1", "m"),
        ("h/v1", "m"),
        (f"https://user:{KEY}@h/v1", "m"),
        ("https://h/v1#x", "m"),
    ],
)
def test_options_that_lack_something_are_refused_at_once(base_url: str | None, model: str | None) -> None:
    with pytest.raises(ModelLoadingError, match="chat") as caught:
        ChatCaptioner(ChatOptions(base_url=base_url, model=model), None)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", [f"{KEY}\r\nX-Evil: 1", f"{KEY} x", f"{KEY}é"])
def test_a_key_that_no_header_takes_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(ModelLoadingError, match="copy the key again") as caught:
        ChatCaptioner(ChatOptions(base_url="http://h/v1", model="m"), key)
    assert KEY not in str(caught.value)


# Answers


def test_parts_of_a_content_are_joined(server: ChatServer) -> None:
    parts = [{"type": "text", "text": "A quiet"}, {"type": "image"}, "odd", None, {"type": "text", "text": "sea."}]
    assert ask(server, says(parts)).caption_en == "A quiet sea."


def test_prose_and_a_missing_language_are_kept(server: ChatServer) -> None:
    caption = ask(server, says("A quiet sea at dusk."))
    assert caption.caption_en == "A quiet sea at dusk."
    assert "청록색" in caption.caption_ko
    assert "Korean" in caption.notes[0]


@pytest.mark.parametrize(
    "answer",
    [
        says(None, refusal="I can't describe this person."),
        says("", finish_reason="content_filter"),
        says(None, finish_reason="content_filter", refusal=None),
        says("I'm sorry, but I can't help with that."),
        says("죄송합니다. 설명할 수 없습니다."),
        fails(400, "content_filter", "The response was filtered due to the prompt triggering the policy"),
        fails(400, "content_policy_violation", "rejected by our safety system"),
    ],
    ids=["refusal", "filter", "filter without content", "prose", "Korean prose", "Azure's filter", "policy"],
)
def test_a_refusal_is_final(server: ChatServer, answer: Answer) -> None:
    failure(server, answer, kind=CaptionRefused)
    assert len(server.requests) == 1


def test_an_empty_answer_is_asked_for_once_more(server: ChatServer) -> None:
    assert ask(server, says(""), GOOD).caption_en == "A quiet sea."
    assert len(server.requests) == 2
    assert "empty twice" in failure(server, says("  "), says(None), GOOD)
    assert len(server.requests) == 4


def test_thoughts_that_took_all_tokens_are_told(server: ChatServer) -> None:
    assert "raise captions.chat.max_tokens" in failure(server, says("", finish_reason="length"))


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome</html>",
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": "x"}',
        b'{"choices": [{"message": "x"}]}',
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_completion_is_final(server: ChatServer, body: bytes) -> None:
    text = failure(server, Answer(body=body))
    assert "no chat completion" in text
    assert len(text) < 500
    assert len(server.requests) == 1


def test_a_body_without_end_is_given_up(server: ChatServer) -> None:
    assert f"{MAX_ANSWER_BYTES} bytes" in failure(server, Answer(body=b" " * (MAX_ANSWER_BYTES + 1)))
    assert len(server.requests) == 1


# Failures


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_a_passing_failure_is_tried_again(server: ChatServer, status: int) -> None:
    assert ask(server, fails(status, "busy"), fails(status, "busy"), GOOD).caption_en == "A quiet sea."
    assert len(server.requests) == 3


def test_no_more_than_five_times(server: ChatServer) -> None:
    assert "503" in failure(server, fails(503, "busy"))
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (fails(401, "invalid_api_key", f"Incorrect API key provided: {KEY}"), "SERVE_APP_CAPTION_API_KEY"),
        (fails(403, "forbidden"), "right to use this model"),
        (fails(404, "model_not_found"), "chat.model"),
        (fails(400, "invalid_image"), "invalid_image"),
        (fails(402, "payment_required"), "402"),
        (fails(422, "unprocessable"), "422"),
        (Answer(400, b"plain words"), "plain words"),
        (Answer(404, {"detail": "Not Found"}), "Not Found"),
        (Answer(400, {"error": "words of ollama"}), "words of ollama"),
        (Answer(405, b""), "405"),
        (fails(429, "insufficient_quota", "You exceeded your current quota"), "quota is used up"),
        (Answer(429, {"error": {"type": "insufficient_quota"}}), "quota is used up"),
        (Answer(429, {"error": {"message": "Check your plan and billing details"}}), "quota is used up"),
    ],
)
def test_a_permanent_failure_is_final_and_says_what_to_do(server: ChatServer, answer: Answer, told: str) -> None:
    assert told in failure(server, answer)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        *(fails(status, "x", f"{{'authorization': 'Bearer {KEY}'}}") for status in (400, 401, 429, 503)),
        Answer(400, b" " * 795 + KEY.encode()),
        Answer(200, f"<html>{KEY}</html>".encode()),
    ],
)
@pytest.mark.parametrize("key_header", ["Authorization", "api-key"])
def test_an_endpoint_that_echoes_the_key_does_not_show_it(server: ChatServer, answer: Answer, key_header: str) -> None:
    text = failure(server, answer, key_header=key_header)
    assert "***" in text
    assert KEY[:5] not in text


def test_a_refusal_that_echoes_the_key_does_not_show_it(server: ChatServer) -> None:
    assert "***" in failure(server, says(None, refusal=f"Not with {KEY}"), kind=CaptionRefused)


def test_the_endpoints_words_are_cut_and_cleaned(server: ChatServer) -> None:
    text = failure(server, fails(400, "bad", f"\x1b[31m{KEY}\n" + "long " * 1000))
    assert text.isprintable()
    assert "***" in text
    assert len(text) < 400


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server: ChatServer, status: int) -> None:
    with ChatServer().running() as other:
        text = failure(server, Answer(status, b"", {"location": f"{other.url}/chat/completions"}))
        assert other.requests == []
    assert "redirects" in text
    assert len(server.requests) == 1


@pytest.mark.parametrize("headers", [{"Retry-After": "0.3"}, {"x-ratelimit-reset-requests": "300ms"}])
def test_the_wait_is_what_the_endpoint_asks_for(server: ChatServer, headers: dict[str, str]) -> None:
    started = time.monotonic()
    ask(server, fails(429, "rate_limit_exceeded", headers=headers), GOOD)
    assert 0.3 <= time.monotonic() - started < 3
    assert len(server.requests) == 2


def test_a_wait_beyond_the_deadline_is_not_begun(server: ChatServer) -> None:
    started = time.monotonic()
    limit = fails(429, "rate_limit_exceeded", "Slow down", {"Retry-After": "60"})
    assert "Slow down" in failure(server, limit)
    assert time.monotonic() - started < 2
    assert len(server.requests) == 1


def test_a_slow_endpoint_is_tried_again_until_the_deadline(server: ChatServer) -> None:
    assert ask(server, Answer(body={}, after_s=1.0), GOOD, timeout_s=0.3).caption_en == "A quiet sea."
    started = time.monotonic()
    failure(server, Answer(body={}, after_s=1.0), timeout_s=0.4, deadline_s=0.9)
    assert time.monotonic() - started < 2.0


def test_a_body_that_trickles_is_a_slow_one(server: ChatServer) -> None:
    assert ask(server, Answer(body=GOOD.body, trickle_s=0.05), GOOD, timeout_s=0.4).caption_en == "A quiet sea."
    assert len(server.requests) == 2


def test_a_connection_that_breaks_is_tried_again(server: ChatServer) -> None:
    assert ask(server, Answer(hang_up=True), GOOD).caption_en == "A quiet sea."
    assert len(server.requests) == 2


def test_an_endpoint_that_nobody_serves_can_not_be_reached(server: ChatServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "can't be reached" in failure(server, base_url=f"http://127.0.0.1:{port}/v1")


# Newer models


def test_max_tokens_gives_way_to_the_new_name(server: ChatServer) -> None:
    refused = fails(400, "unsupported_parameter", "Use 'max_completion_tokens' instead of 'max_tokens'.")
    assert ask(server, refused, GOOD, max_tokens=77).caption_en == "A quiet sea."
    first, second = (request.body for request in server.requests)
    assert first["max_tokens"] == second["max_completion_tokens"] == 77
    assert "max_tokens" not in second
    assert second["temperature"] == first["temperature"]


def test_a_temperature_is_left_out_where_it_is_refused(server: ChatServer) -> None:
    both = fails(400, "unsupported_parameter", "max_tokens and temperature are not supported")
    ask(server, both, GOOD)
    assert set(server.requests[1].body) == {"model", "messages", "max_completion_tokens"}


def test_a_field_that_is_refused_again_is_a_failure(server: ChatServer) -> None:
    refused = fails(400, "bad", "max_tokens and temperature are not supported")
    assert "max_tokens" in failure(server, refused)
    assert len(server.requests) == 2


def test_what_was_learned_is_kept_for_the_next_picture(server: ChatServer) -> None:
    server.script = [fails(400, "bad", "max_tokens is not supported"), GOOD]

    async def call() -> None:
        captioner = ChatCaptioner(ChatOptions(base_url=server.url, model="m"), KEY)
        await asyncio.gather(*(captioner.caption(PICTURE.jpeg, PICTURE.features) for _ in range(2)))
        await captioner.caption(PICTURE.jpeg, PICTURE.features)
        await captioner.close()

    asyncio.run(call())
    assert "max_completion_tokens" in server.requests[-1].body
    assert len(server.requests) <= 5


# Many at once, and what is told of it


def test_no_more_requests_at_once_than_allowed(server: ChatServer) -> None:
    server.script = [Answer(body=GOOD.body, after_s=0.05)]

    async def call() -> list[Caption]:
        captioner = ChatCaptioner(ChatOptions(base_url=server.url, model="m", max_concurrent=2), KEY)
        try:
            return await asyncio.gather(*(captioner.caption(PICTURE.jpeg, PICTURE.features) for _ in range(8)))
        finally:
            await captioner.close()

    assert len(asyncio.run(call())) == 8
    assert server.most_at_once == 2


def test_the_key_is_in_no_log_and_in_no_repr(server: ChatServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ask(server, fails(500, "x"), GOOD)
    assert caplog.records
    # httpcore's own debug lines hide Authorization; ours and httpx's hold no header at all
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpcore", "hpack"))]
    assert not any(KEY in line for line in ours)
    assert KEY not in repr(ChatCaptioner(ChatOptions(base_url=server.url, model="m"), KEY))


def test_a_failure_survives_the_way_between_processes() -> None:
    again = pickle.loads(pickle.dumps(PassingFailure("busy", 3.0)))
    assert (again.detail, again.retry_after_s, again.transient) == ("busy", 3.0, True)


NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-4"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-reset-requests": "12"}, 12.0),
        ({"x-ratelimit-reset-requests": "", "x-ratelimit-reset-tokens": "x"}, None),
        ({"x-ratelimit-reset-requests": "2s", "x-ratelimit-reset-tokens": "5s"}, 5.0),
        (
            {
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "5s",
                "x-ratelimit-remaining-tokens": "900",
            },
            2.0,
        ),
    ],
)
def test_the_wait_that_headers_ask_for(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, NOW) == expected


def test_replies_are_read_beside_the_event_loop(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def noted(*given: Any, **named: Any) -> Caption:
        threads.append(threading.current_thread())
        return parse_reply(*given, **named)

    monkeypatch.setattr(chat, "parse_reply", noted)
    assert ask(server, GOOD).captioner == "chat"
    assert threading.main_thread() not in threads
    assert len(threads) == 1
