"""Options of the captioner: a section of `args:` in a config file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from serve_app.models.options import (
    Count,
    Name,
    Options,
    PositiveSeconds,
    WaitSeconds,
    require_address,
    require_no_repetition,
    require_pattern,
)

CaptionerName = Literal["features", "chat", "transformers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions(Options):
    """An OpenAI-compatible endpoint that sees pictures. Its key is the setting `SERVE_APP_CAPTION_API_KEY`.

    Attributes:
        base_url: up to and without `/chat/completions`, as `https://api.openai.com/v1` or `http://localhost:11434/v1`.
        model: as the endpoint names it.
        key_header: `Authorization` sends `Bearer KEY`; another header, such as Azure's `api-key`, sends the key alone.
        detail: of the picture, where the endpoint knows this field: `low`, `high` or `auto`. None: not sent.
        max_tokens: of an answer; a model that reasons counts its thoughts, too.
        timeout_s: of one request.
        deadline_s: of a caption, with all tries and waits.
        max_concurrent: requests of one replica at once; endpoints limit pictures by number, not by size.
    """

    base_url: str | None = None
    model: str | None = None
    key_header: Name = "Authorization"
    detail: Literal["low", "high", "auto"] | None = None
    max_tokens: Annotated[int, Ge(64)] = 600
    timeout_s: PositiveSeconds = 60.0
    deadline_s: PositiveSeconds = 120.0
    max_concurrent: Count = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionerOptions(Options):
    """Captions of pictures.

    Attributes:
        captioners: in the order in which they are tried: `features` describes measured colours and light, without a
            model; `chat` asks an endpoint; `transformers` runs a local model.
        chat: the endpoint of `chat`.
        model_id: of `transformers`: Hugging Face id or folder (docs/models/captions.md lists the architectures).
        revision: of the model's repository; None: its newest.
        device: as the diarizer's.
        cpu_fallback: as the diarizer's (`CaptionerCPU`).
        num_threads: of torch in one replica; threads × replicas must not exceed the cores.
        batch_size: pictures in one call of the local model.
        batch_wait_s: how long a free model waits for more pictures.
        max_new_tokens: of the local model's answer.
    """

    captioners: Annotated[tuple[CaptionerName, ...], MinLen(1)] = ("features",)
    chat: ChatOptions = field(default_factory=ChatOptions)
    model_id: str | None = None
    revision: str | None = None
    device: str | None = None
    cpu_fallback: bool = False
    num_threads: Count = 1
    batch_size: Annotated[Count, Le(64)] = 4
    batch_wait_s: WaitSeconds = 0.0
    max_new_tokens: Annotated[Count, Le(2048)] = 256

    def __post_init__(self) -> None:
        """Raise ValueError where a listed captioner lacks what it needs."""
        require_no_repetition("captions.captioners", self.captioners)
        if "chat" in self.captioners:
            require_address("captions.chat.base_url", self.chat.base_url, may_have_query=True)
            require_pattern("captions.chat.model", self.chat.model, r".*\S.*", "gpt-4o-mini")
            # a token of HTTP: RFC 9110, section 5.6.2
            require_pattern("captions.chat.key_header", self.chat.key_header, r"[\w!#$%&'*+.^`|~-]+", "api-key")
        if "transformers" in self.captioners and not self.model_id:
            raise ValueError("The captioner transformers needs captions.model_id: an id of the hub or a folder")
