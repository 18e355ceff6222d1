"""Options of models: the base of all sections of a config file's `args:`, and the operator's environment.

Each section is a dataclass beside the code that uses it; `graph_args.GraphArgs` nests them. pydantic reads them there:
it refuses unknown keys and checks the bounds. It does not check a section that code makes itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, MinLen

Count = Annotated[int, Ge(1)]
WaitSeconds = Annotated[float, Ge(0)]
PositiveSeconds = Annotated[float, Gt(0)]
Name = Annotated[str, MinLen(1)]


class Options:
    """A section of `args:`."""

    __slots__ = ()
    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEnvironment:
    """The operator's settings for every model, as of `settings.Settings`."""

    models_dir: Path
    hf_token: str | None = field(default=None, repr=False)
    mirror: str | None = field(default=None, repr=False)
    caption_api_key: str | None = field(default=None, repr=False)
    music_api_key: str | None = field(default=None, repr=False)
