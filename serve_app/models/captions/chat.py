"""The captioner `chat`: any endpoint that speaks OpenAI's chat completions and sees pictures. Imports no torch."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from serve_app.errors import CaptionRefused, ModelError, ModelLoadingError, ProcessingError
from serve_app.models.captions.chat_failures import EndpointFailure, failure_of
from serve_app.models.captions.embedded import describe_picture
from serve_app.models.captions.options import ChatOptions
from serve_app.models.captions.picture import encode_jpeg, shrunk
from serve_app.models.captions.reply import PROMPT, SYSTEM_PROMPT, parse_reply
from serve_app.models.image_file import decoded_image
from serve_app.models.remote_http import Answer, PassingFailure, RemoteServer, checked_key, shown_words, told_by
from serve_app.results import Caption, PictureFeatures
from serve_app.sentences import Sentence

NAME = "chat"
LONG_SIDE_PX = 1024
MAX_ANSWER_BYTES = 1_000_000
_TEMPERATURE = 0.2
_WHO = "The caption endpoint"


class ChatCaptioner:
    """Asks an endpoint for captions. An instance is for one event loop."""

    def __init__(self, options: ChatOptions, key: str | None, *, first_wait_s: float = 1.0) -> None:
        """Check the options; nothing is sent yet.

        Args:
            key: of the endpoint; None where it wants none.
            first_wait_s: as of `RemoteServer`.

        Raises:
            ModelLoadingError: an option is missing or malformed.
        """
        self._options = options
        key = checked_key(key, "SERVE_APP_CAPTION_API_KEY")
        header = options.key_header
        self._headers = {header: f"Bearer {key}" if header == "Authorization" else key} if key else {}
        base_url, self._path = _address(options)
        self._server = RemoteServer(_WHO, base_url, "captions.chat.base_url", first_wait_s=first_wait_s)
        self._seats = asyncio.Semaphore(options.max_concurrent)
        # newer models want the second name and may refuse a temperature; learned from the endpoint's answers
        self._length_field = "max_tokens"
        self._sends_temperature = True
        self.model_version = f"{NAME}:{options.model}"

    async def caption(self, jpeg: bytes, features: PictureFeatures) -> Caption:
        """Return the endpoint's caption of a prepared picture.

        Raises:
            CaptionRefused: the model or the endpoint's filter will not describe it.
            EndpointFailure: the endpoint does not answer in time, or refuses the key or the model.
            PassingFailure: it can't be reached, or answers 408, 409, 425, 429 or 5xx each time.
            ProcessingError: it refuses the request, or its answer is no caption.
        """
        data_url = await asyncio.to_thread(_data_url, jpeg)
        reply = await self._reply(data_url)
        described = await asyncio.to_thread(describe_picture, jpeg, features)
        return await asyncio.to_thread(
            parse_reply, reply, features, described, captioner=NAME, model_version=self.model_version
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def _reply(self, data_url: str) -> str:
        """Return the model's words; a reply without any is asked for once more."""
        deadline_s = self._options.deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                for _ in range(2):
                    answer: tuple[dict[str, Any], str] = await self._server.retrying(deadline_s)(self._ask, data_url)
                    message, finish_reason = answer
                    if words := _words_of(message, finish_reason, self._headers):
                        return words
        except TimeoutError:
            raise EndpointFailure(
                Sentence("{who} gave no caption within {deadline_s:g} s", who=_WHO, deadline_s=deadline_s)
            ) from None
        if finish_reason == "length":
            raise ProcessingError(
                Sentence(
                    "{who}'s answer was empty twice; its thoughts took all tokens: raise captions.chat.max_tokens",
                    who=_WHO,
                )
            )
        raise ProcessingError(Sentence("{who}'s answer was empty twice", who=_WHO))

    async def _ask(self, data_url: str) -> tuple[dict[str, Any], str]:
        """Return the message of the first choice and its finish reason."""
        async with self._seats:
            while True:
                length_field, with_temperature = self._length_field, self._sends_temperature
                answer = await self._post(self._request(data_url))
                if answer.status == 400 and self._adapts_to(told_by(answer.body), length_field, with_temperature):
                    continue
                if answer.status != 200:
                    raise failure_of(answer)
                return _first_choice(answer)

    def _adapts_to(self, words: str, length_field: str, with_temperature: bool) -> bool:
        """Leave out a field of the last request that the endpoint names; return whether the request is another now."""
        adapted = False
        if "max_tokens" in words and length_field == "max_tokens":
            self._length_field, adapted = "max_completion_tokens", True
        if "temperature" in words and with_temperature:
            self._sends_temperature, adapted = False, True
        return adapted

    def _request(self, data_url: str) -> dict[str, Any]:
        image: dict[str, Any] = {"url": data_url}
        if self._options.detail:
            image["detail"] = self._options.detail
        request: dict[str, Any] = {
            "model": self._options.model,
            "messages": [
                {"role": "system", "content": SYSTEM_PROMPT},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": image}],
                },
            ],
            self._length_field: self._options.max_tokens,
        }
        if self._sends_temperature:
            request["temperature"] = _TEMPERATURE
        return request

    async def _post(self, request: dict[str, Any]) -> Answer:
        try:
            async with asyncio.timeout(self._options.timeout_s):
                return await self._server.ask_once(
                    "POST", self._path, max_bytes=MAX_ANSWER_BYTES, headers=self._headers, content=request
                )
        except TimeoutError:
            raise PassingFailure(
                Sentence("{who} gave no answer within {timeout_s:g} s", who=_WHO, timeout_s=self._options.timeout_s)
            ) from None


def _address(options: ChatOptions) -> tuple[str, str]:
    """Return the base of the endpoint's address and the path of its completions, with the base's query behind it."""
    if not options.base_url or not options.model:
        raise ModelLoadingError(Sentence("The captioner chat needs captions.chat.base_url and captions.chat.model"))
    base, mark, query = options.base_url.partition("?")  # Azure's has the api-version
    return base, f"/chat/completions{mark}{query}"


def _data_url(jpeg: bytes) -> str:
    with decoded_image(jpeg, at_least_px=LONG_SIDE_PX) as image:
        small = encode_jpeg(shrunk(image, LONG_SIDE_PX))
    return f"data:image/jpeg;base64,{base64.b64encode(small).decode('ascii')}"


def _first_choice(answer: Answer) -> tuple[dict[str, Any], str]:
    try:
        choice = json.loads(answer.body)["choices"][0]
        return dict(choice["message"]), str(choice.get("finish_reason"))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise _no_completion(answer) from None


def _no_completion(answer: Answer) -> ModelError:
    return ProcessingError(
        Sentence(
            "{who}'s answer is no chat completion; does captions.chat.base_url lead to an OpenAI-compatible "
            "API? It begins: {shown_words}",
            who=_WHO,
            shown_words=shown_words(answer.body[:1000].decode("utf-8", errors="replace"), answer.sent),
        )
    )


def _words_of(message: dict[str, Any], finish_reason: str, sent: dict[str, str]) -> str:
    """Return a message's text, "" where it has none; CaptionRefused where it refuses."""
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal.strip():
        raise CaptionRefused(
            Sentence("The model will not describe the picture: {shown_words}", shown_words=shown_words(refusal, sent))
        )
    content = message.get("content")
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        content = "\n".join(part for part in parts if isinstance(part, str))
    words = content.strip() if isinstance(content, str) else ""
    if not words and finish_reason == "content_filter":
        raise CaptionRefused(Sentence("{who}'s filter withheld the answer", who=_WHO))
    return words
