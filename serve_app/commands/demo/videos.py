"""The recordings of the demonstration."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from serve_app.demo_media import make_call_video


@dataclass(frozen=True, slots=True)
class DemoVideo:
    """A recording, the options of its job, and its truth.

    Attributes:
        num_speakers: None: the service must find out.
        truth: words, times and speakers, where they are known.
        text: the words alone, where no more is known.
    """

    path: Path
    title: str
    language: str
    num_speakers: int | None
    truth: dict[str, Any] | None = None
    text: str | None = None


def demo_videos(folder: Path) -> list[DemoVideo]:
    """Put the recordings into a folder and return them."""
    media = resources.files("serve_app.demo_media")
    dialogue, korean = folder / "dialogue.mp4", folder / "korean.ogg"
    for path in (dialogue, korean):
        with resources.as_file(media / path.name) as shipped:
            shutil.copy(shipped, path)
    text = json.loads((media / "korean.json").read_text(encoding="utf-8"))["text"]
    truth = json.loads((media / "dialogue.json").read_text(encoding="utf-8"))
    call = folder / "call.mp4"
    make_call_video(call)
    return [
        DemoVideo(dialogue, "A dialogue that we made: synthetic voices, known words", "en", None, truth),
        DemoVideo(call, "A real telephone call (pyannote.audio.sample): two real voices", "auto", 2),
        DemoVideo(korean, "A Korean recording (Microsoft's sample for custom speech)", "auto", None, text=text),
    ]
