"""Options of the music engines: a section of `args:` in a config file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from annotated_types import Ge, Gt, MinLen

from serve_app.models.options import (
    Count,
    Options,
    PositiveSeconds,
    require_address,
    require_no_repetition,
    require_pattern,
)


class EngineName(StrEnum):
    """What can make a piece of music."""

    COMPOSER = "composer"
    MUSICGEN = "musicgen"
    ACESTEP = "acestep"
    VERTEX = "vertex"


@dataclass(frozen=True, slots=True, kw_only=True)
class MusicGenOptions(Options):
    """MusicGen, through transformers.

    Attributes:
        model_id: Hugging Face id, `ORG/NAME@REVISION`, or a local folder with safetensors. Meta's weights, such as
            `facebook/musicgen-small`, are licensed for non-commercial use only (CC-BY-NC-4.0).
        half: on a GPU, compute in half precision.
        num_threads: of torch in one replica.
        guidance_scale: how closely the music follows the words; above 1 a step takes twice the work.
        top_k: the next sound is drawn from so many.
        temperature: of that draw.
    """

    model_id: str | None = None
    half: bool = True
    num_threads: Count = 1
    guidance_scale: Annotated[float, Ge(1)] = 3.0
    top_k: Count = 250
    temperature: Annotated[float, Gt(0)] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AceStepOptions(Options):
    """A server of ACE-Step 1.5. Its key is `SERVE_APP_MUSIC_API_KEY`.

    Attributes:
        base_url: of the server, such as `http://localhost:8001`.
        model: one of the server's models; None: its default.
        inference_steps: of the diffusion; 8 suits the turbo models.
        timeout_s: for one piece, with waiting in the server's queue.
        poll_s: how often the server is asked whether a piece is ready.
    """

    base_url: str | None = None
    model: str | None = None
    inference_steps: Count = 8
    timeout_s: PositiveSeconds = 600.0
    poll_s: Annotated[float, Ge(0.1)] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexOptions(Options):
    """Vertex AI, with Google's Application Default Credentials (extra `gcs`).

    Attributes:
        project: Google Cloud project.
        location: region of the model or endpoint.
        model: of Google, such as `lyria-002`.
        endpoint_id: of a model of your own, instead of `model`; it gets prompt, seed, duration, tempo and key.
        endpoint_url: address of the API, for Private Service Connect; None: that of the location.
        timeout_s: for one piece, with all tries.
    """

    project: str | None = None
    location: str = "us-central1"
    model: str = "lyria-002"
    endpoint_id: str | None = None
    endpoint_url: str | None = None
    timeout_s: PositiveSeconds = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MusicOptions(Options):
    """Music.

    Attributes:
        engines: in the order of preference. Where one fails, the next one is asked. Where two pieces of one fail the
            checks, `composer` is, if it is named behind it. `composer` needs no weights and no network.
        soundfont: file of a SoundFont for the composer (extra `soundfont`); None: its own synthesiser.
        device: of MusicGen: `cpu`, `cuda`, `cuda:N`, `mps`, or `auto`: a GPU where the deployment was given one
            (`num_gpus`), else the CPU. None: the value of `DEVICE`.
        num_threads: calls of the composer, of mastering and of encoding that one replica runs at the same time.
        musicgen: MusicGen.
        acestep: ACE-Step.
        vertex: Vertex AI.
    """

    engines: Annotated[tuple[EngineName, ...], MinLen(1)] = (EngineName.COMPOSER,)
    soundfont: str | None = None
    device: str | None = None
    num_threads: Count = 2
    musicgen: MusicGenOptions = field(default_factory=MusicGenOptions)
    acestep: AceStepOptions = field(default_factory=AceStepOptions)
    vertex: VertexOptions = field(default_factory=VertexOptions)

    def __post_init__(self) -> None:
        """Raise ValueError where a listed engine lacks what it needs."""
        require_no_repetition("music.engines", self.engines)
        if EngineName.MUSICGEN in self.engines and not self.musicgen.model_id:
            raise ValueError("The engine musicgen needs music.musicgen.model_id: an id of the hub or a folder")
        if EngineName.ACESTEP in self.engines:
            require_address("music.acestep.base_url", self.acestep.base_url)
        if EngineName.VERTEX in self.engines:
            vertex = self.vertex
            require_pattern("music.vertex.project", vertex.project, r"[a-z0-9.:-]+", "my-project-1")
            require_pattern("music.vertex.location", vertex.location, r"[a-z0-9-]+", "us-central1")
            if vertex.endpoint_id is None:
                require_pattern("music.vertex.model", vertex.model, r"[\w.@-]+", "lyria-002")
            else:
                require_pattern("music.vertex.endpoint_id", vertex.endpoint_id, r"[a-z0-9-]+", "1234567890")
            if vertex.endpoint_url is not None:
                require_address("music.vertex.endpoint_url", vertex.endpoint_url)
