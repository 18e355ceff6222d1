"""`clean_text`: words of pictures, models and remote servers, safe to show."""

from __future__ import annotations

import unicodedata


def clean_text(text: str, most: int) -> str:
    """Return a text in one line and composed form, without control and formatting characters, cut to a length."""
    composed = unicodedata.normalize("NFC", text[: most * 4])
    kept = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in composed)
    return " ".join(kept.split())[:most].rstrip()
