"""`Deployments`: the graph's deployments by system: `graph.build` binds them, Serve replaces them by handles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serve_app.deployments.protocols import TranscribesDrums
from serve_app.flows.handles import Placed
from serve_app.flows.music import MusicModels
from serve_app.flows.video import VideoModels
from serve_app.messages import JobKind


@dataclass(frozen=True, slots=True)
class Deployments:
    """The deployments that the ingress and the runners call. A new system adds a field.

    Attributes:
        video: the deployments of the video DAG.
        drums: transcribe drums, in order of preference; the next one is called when GPU memory ran out.
        classifiers: by task, classify pictures, in order of preference.
        music: the deployments of the music DAG.
    """

    video: VideoModels
    drums: Sequence[Placed[TranscribesDrums]]
    classifiers: Mapping[str, Sequence[Placed[Any]]]
    music: MusicModels

    def names(self) -> list[str]:
        """Return the names of the deployments that are in the graph."""
        return [each.name for each in self._placed() if each.missing is None]

    def left_out(self) -> dict[str, str]:
        """Return, by name, what to install for each deployment that is not."""
        return {each.name: each.missing for each in self._placed() if each.missing is not None}

    def needed(self) -> dict[JobKind, Sequence[Placed[Any]]]:
        """Return the deployments without which no job of a kind can be done."""
        return {JobKind.VIDEO: self.video.needed(), JobKind.MUSIC: self.music.placed()}

    def _placed(self) -> list[Placed[Any]]:
        others = (self.drums, *self.classifiers.values(), self.music.placed())
        return [*self.video.placed(), *(each for group in others for each in group)]

    def loaded_once(self) -> dict[str, Sequence[Placed[Any]]]:
        """Return, by short name, the deployments whose model is never replaced while they serve."""
        speech: dict[str, Sequence[Placed[Any]]] = {
            str(name): placed for name, placed in self.video.speech.backends.items()
        }
        music: dict[str, Sequence[Placed[Any]]] = {"captions": self.music.captioners, "music": [self.music.generator]}
        return speech | {"diarization": self.video.diarizers, "drums": self.drums} | music
