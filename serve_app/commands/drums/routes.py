"""Ways from a recording to its MIDI file: through a server here, on this machine in `local`."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from serve_app.client import Client
from serve_app.commands.transcribe.patience import PatientCalls, Stalled

OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller wants; what is left out is the model's default.

    Attributes:
        bpm: the tempo; None: detected.
        grid: by drum: into how many parts a whole note is divided; 0: as played.
        thresholds: by drum: the least activation that is a hit.
        plot: whether a picture is wanted.
    """

    bpm: float | None = None
    grid: Mapping[str, int] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    plot: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """A recording's drums, ready to be stored.

    Attributes:
        midi: the MIDI file.
        text_log: for people.
        picture: PNG; None where none was asked for.
        bpm: the tempo.
        duration_s: of the recording.
        num_hits: by drum.
        notes: what was repaired, degraded or assumed.
    """

    midi: bytes
    text_log: str
    picture: bytes | None
    bpm: float
    duration_s: float
    num_hits: Mapping[str, int]
    notes: tuple[str, ...]


class Route(Protocol):
    """Writes recordings down, one at a time."""

    def transcribe(self, path: Path, on_progress: OnProgress) -> Written:
        """Return what is played in a recording; `on_progress` is told how much of it is done, 0 to 1.

        Raises:
            ServeAppError: it can't be transcribed.
            OSError: it can't be read.
        """
        ...


class ServerRoute:
    """Uploads recordings.

    Args:
        client: of the server.
        wishes: of the caller.
        calls: how often a busy server is asked again.
    """

    def __init__(self, client: Client, wishes: Wishes, calls: PatientCalls | None = None) -> None:
        client.health()  # a wrong address fails at once, not after ten minutes of patience
        self._client = client
        self._wishes = wishes
        self._calls = calls or PatientCalls()

    def transcribe(self, path: Path, on_progress: OnProgress) -> Written:
        """Return what the server makes of a recording."""
        wishes = self._wishes
        try:
            answer = self._calls.call(
                lambda: self._client.transcribe_drums(
                    path, bpm=wishes.bpm, grid=wishes.grid, thresholds=wishes.thresholds, plot=wishes.plot
                )
            )
        except Stalled as error:
            raise error.refusal from error
        return Written(
            base64.b64decode(answer["midi"]),
            answer["log"],
            base64.b64decode(answer["picture"]) if answer["picture"] else None,
            answer["bpm"],
            answer["duration"],
            Counter(hit["drum"] for hit in answer["hits"]),
            tuple(answer["notes"]),
        )
