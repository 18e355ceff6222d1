"""The graph's deployments, by what they are for: `graph.build` binds them, Serve makes handles of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serve_app.deployments.protocols import TranscribesDrums
from serve_app.flows.handles import Placed
from serve_app.flows.video import VideoModels


@dataclass(frozen=True, slots=True)
class Deployments:
    """All that the ingress and the runners call. A further system is a field more.

    Attributes:
        video: the deployments of the video DAG.
        drums: the deployment that transcribes drums, and after it the one that takes over when its GPU memory ran out.
        classifiers: by task, the deployment that classifies pictures, and after it the one that takes over.
    """

    video: VideoModels
    drums: Sequence[Placed[TranscribesDrums]]
    classifiers: Mapping[str, Sequence[Placed[Any]]]

    def names(self) -> list[str]:
        """Return the names of all deployments."""
        others = (self.drums, *self.classifiers.values())
        return [each.name for each in (*self.video.placed(), *(each for group in others for each in group))]

    def loaded_once(self) -> dict[str, Sequence[Placed[Any]]]:
        """Return, by short name, the deployments whose model is not exchanged while they serve."""
        speech = {str(name): placed for name, placed in self.video.speech.backends.items()}
        return speech | {"diarization": self.video.diarizers, "drums": self.drums}
