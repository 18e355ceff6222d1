"""How the commands about models print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console_of() -> Console:
    """Return where to print."""
    from rich.console import Console

    # a table that is read by a script must not be cut at a terminal's width that is not there
    return Console() if sys.stdout.isatty() else Console(width=240)


def plain(text: str) -> str:
    """Return a text for rich's tables, in which it would take brackets for markup."""
    from rich.markup import escape

    return escape(text)


def folder_of(path: Path) -> str:
    """Return a path as a person writes it."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
