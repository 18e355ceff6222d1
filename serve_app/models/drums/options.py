"""Options of the drum model: the section `drums` of `args:`."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.models.options import Count, Options, WaitSeconds

EMBEDDED = "embedded:drum-net"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrumModelOptions(Options):
    """Drum transcription; replicas, GPU fraction and queue stand under `deployments:`.

    Attributes:
        model: spec of the weights (`models.weights`): `embedded:drum-net`, a path, an address, a Hugging Face id.
        device: as the diarizer's.
        num_threads: of the network in one replica; on a CPU more than one is slower wherever something else runs, as
            threads wait for each other at each step of the GRU.
        num_readers: recordings that one replica decodes and measures side by side; others wait for their turn.
        batch_size: pieces of 30 s, of several requests, in one call of the network.
        batch_wait_s: how long a free network waits for more pieces.
        half: compute in float16 on a GPU.
        cpu_fallback: as the diarizer's (`DrumTranscriberCPU`).
    """

    model: str = EMBEDDED
    device: str | None = None
    num_threads: Count = 1
    num_readers: Count = 4
    batch_size: Count = 4
    batch_wait_s: WaitSeconds = 0.0
    half: bool = False
    cpu_fallback: bool = False
