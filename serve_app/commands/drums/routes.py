"""`LocalRoute`, which runs the drum model in this process, and `ServerRoute`, which uploads recordings."""

from __future__ import annotations

import argparse
import base64
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.client import Client
from serve_app.commands.calls import RetryingCalls
from serve_app.commands.drums.command import DRUMS
from serve_app.commands.each_file import OnProgress
from serve_app.settings import Settings


@dataclass(frozen=True, slots=True)
class DrumFile:
    """A recording's drums as files: MIDI, text log, PNG where `--plot` asked for one; and a line for the terminal."""

    midi: bytes
    log: str
    picture: bytes | None
    summary: str


class LocalRoute:
    """Runs the network in this process; InvalidRequest for a wrong option, ModelLoadingError."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from serve_app.models.drums.checkpoint import EMBEDDED, load_drums
        from serve_app.models.drums.config import InferenceConfig, checked_bpm  # torch: not for a server's answers

        self.config = InferenceConfig()
        self.config.grid_division.update(_given(arguments, "grid"))
        self.config.thresholds.update(_given(arguments, "threshold"))
        self.config.check()
        self._bpm = checked_bpm(getattr(arguments, "bpm", None))
        self._plot = getattr(arguments, "plot", False)
        settings = Settings.from_environment()
        self.loaded = load_drums(
            arguments.model or EMBEDDED,
            cache_dir=settings.models_dir,
            device=arguments.device or settings.device,
            hf_token=settings.hf_token.get_secret_value() if settings.hf_token else None,
        )

    def transcribe(self, path: Path, on_progress: OnProgress) -> DrumFile:
        """Return a recording's drums; `on_progress` gets the share that is done. Errors as `transcribe_drums`."""
        from serve_app.models.drums.transcription import render, transcribe_drums

        drums = transcribe_drums(path, self.loaded, self.config, self._bpm, on_progress=on_progress)
        files = render(drums, path.name, self.config, self.loaded, with_picture=self._plot)
        transcript = drums.transcript
        hits = (str(hit.drum) for hit in transcript.hits)
        return DrumFile(*files, _summary(hits, transcript.bpm, transcript.duration_s, transcript.notes))


class ServerRoute:
    """Uploads recordings."""

    def __init__(self, client: Client, arguments: argparse.Namespace) -> None:
        client.health()  # a wrong address fails at once, not after ten minutes of new tries
        self._client = client
        self._options = {
            "bpm": arguments.bpm,
            "grid": _given(arguments, "grid"),
            "thresholds": _given(arguments, "threshold"),
            "plot": arguments.plot,
        }
        self._calls = RetryingCalls()

    def transcribe(self, path: Path, on_progress: OnProgress) -> DrumFile:
        """Return a recording's drums; errors as `Client.transcribe_drums`."""
        answer = self._calls.call(lambda: self._client.transcribe_drums(path, **self._options))
        hits = (hit["drum"] for hit in answer["hits"])
        return DrumFile(
            base64.b64decode(answer["midi"]),
            answer["log"],
            base64.b64decode(answer["picture"]) if answer["picture"] else None,
            _summary(hits, answer["bpm"], answer["duration"], answer["notes"]),
        )


def _given(arguments: argparse.Namespace, option: str) -> dict[str, Any]:
    values = {drum: getattr(arguments, f"{option}_{drum}", None) for drum in DRUMS}
    return {drum: value for drum, value in values.items() if value is not None}


def _summary(hits: Iterable[str], bpm: float, duration_s: float, notes: Iterable[str]) -> str:
    num_hits = Counter(hits)
    counts = ", ".join(f"{num_hits[drum]} {drum}" for drum in DRUMS)
    return f"{counts}, {bpm:.1f} BPM, {duration_s:.1f} s" + "".join(f" ({note})" for note in notes)
