"""Options of models: the base of all sections of a config file's `args:`, and the operator's environment.

Each section is a dataclass beside the code that uses it; `graph_args.GraphArgs` nests them. pydantic reads them there:
it refuses unknown keys and checks the bounds. It does not check a section that code makes itself; a `__post_init__`
does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, MinLen

from serve_app.sentences import Sentence

Count = Annotated[int, Ge(1)]
WaitSeconds = Annotated[float, Ge(0)]
PositiveSeconds = Annotated[float, Gt(0)]
Name = Annotated[str, MinLen(1)]


class Options:
    """A section of `args:`."""

    __slots__ = ()
    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}


def require_address(option: str, address: str | None, *, may_have_query: bool = False) -> None:
    """Raise ValueError, which names the option, unless an address is like `https://HOST:PORT/PATH`.

    Args:
        option: of the configuration.
        may_have_query: an address to which no path is added may have one.
    """
    try:
        parts = urlsplit(address or "")
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_plain = "@" not in parts.netloc and not parts.fragment and (may_have_query or not parts.query)
    except ValueError:  # a port above 65535, half an IPv6 address
        is_address = is_plain = False
    if not (is_address and is_plain):
        raise ValueError(
            Sentence(
                "{option} must be like https://HOST, with http or https, and without a user or a password",
                option=option,
            )
        )


def require_no_repetition(option: str, names: Iterable[str]) -> None:
    """Raise ValueError where a list names something twice."""
    given = list(names)
    if len(set(given)) < len(given):
        raise ValueError(f"{option} names something twice: {', '.join(given)}")


def require_pattern(option: str, value: str | None, pattern: str, example: str) -> None:
    """Raise ValueError, which names the option, unless a value is there and has a form."""
    if not re.fullmatch(pattern, value or "", re.ASCII):
        raise ValueError(f"{option} must be like {example}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEnvironment:
    """The operator's settings for every model, as of `settings.Settings`."""

    models_dir: Path
    hf_token: str | None = field(default=None, repr=False)
    mirror: str | None = field(default=None, repr=False)
    caption_api_key: str | None = field(default=None, repr=False)
    music_api_key: str | None = field(default=None, repr=False)
