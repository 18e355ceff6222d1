"""`MusicGenerator`: deployment of the music engines, of mastering and of encoding."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray import serve

from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.process import replica_device, return_large_blocks
from serve_app.deployments.replica.shares import shares_then_result
from serve_app.deployments.replica.worker_threads import WorkerThreads
from serve_app.errors import ModelError, ModelLoadingError
from serve_app.extras import require
from serve_app.models.music.options import EngineName, MusicOptions
from serve_app.models.options import ModelEnvironment
from serve_app.results import EncodedMusic, MasteredMusic, MusicPlan, RenderedMusic
from serve_app.sentences import Sentence, joined
from serve_app.services import ReplicaModel

if TYPE_CHECKING:
    from serve_app.models.music.acestep import AceStep

logger = logging.getLogger("ray.serve")

_OnProgress = Callable[[float], None]
_Render = Callable[[MusicPlan, str | None, _OnProgress], Awaitable[RenderedMusic]]


@dataclass(frozen=True)
class _Engines:
    """The engines that are ready, with their versions, and why the others are not."""

    ready: dict[EngineName, _Render]
    versions: dict[EngineName, str]
    failures: dict[EngineName, str]


@serve.deployment(name="MusicGenerator", max_ongoing_requests=16)
class MusicGenerator:
    """Makes pieces of music with the configured engines; MusicGen makes one at a time.

    A MusicGen that can't be loaded leaves the other engines in service. Which engine follows a failed one is decided
    by the flow.
    """

    def __init__(self, options: MusicOptions, environment: ModelEnvironment) -> None:
        return_large_blocks()
        self._options = options
        self._environment = environment
        self._device = replica_device(options.device) if EngineName.MUSICGEN in options.engines else "cpu"
        self._threads = WorkerThreads(options.num_threads, "music")
        self._acestep: AceStep | None = None
        self._model = LoadedModel("MusicGenerator", self._load, lambda engines: " > ".join(engines.versions.values()))

    def check_health(self) -> None:
        """Raise once no engine has been ready for a while."""
        self._model.check_health()

    async def describe(self) -> ReplicaModel:
        """Return what this replica serves."""
        engines = self._model.or_none
        return self._model.describe(
            spec=" > ".join(self._options.engines),
            engine="music",
            device=self._device,
            failure=joined("; ", engines.failures.values()) or None if engines else None,
        )

    async def start(self, engine: str, plan: MusicPlan) -> str | None:
        """Begin a remote engine's task and return its id; None: the engine has none."""
        self._ready(engine)
        return await self._acestep.start(plan) if engine == EngineName.ACESTEP and self._acestep else None

    async def render(
        self, engine: str, plan: MusicPlan, task: str | None = None
    ) -> AsyncIterator[float | RenderedMusic]:
        """Yield the share that is done, rising, at most four times a second; at last the piece.

        A caller who leaves ends the work.

        Args:
            engine: one of the configuration's.
            plan: of the piece.
            task: what `start` returned.

        Raises:
            MusicRefused: the engine will not make this piece.
            ModelLoadingError: the engine has no model, or is not configured.
            GpuMemoryError: it ran out of GPU memory.
            ProcessingError: it failed, or did not end in time.
        """
        render = self._ready(engine)
        async with aclosing(shares_then_result(lambda on_progress: render(plan, task, on_progress))) as items:
            async for item in items:
                yield item

    async def master(self, audio: bytes, plan: MusicPlan) -> MasteredMusic:
        """Return a rendered piece, trimmed to its length, faded, and as loud as all others; and what is wrong."""
        from serve_app.models.music.finishing import finish

        return await self._threads.run(lambda should_stop: finish(audio, plan))

    async def encode(self, audio: bytes) -> EncodedMusic:
        """Return a mastered piece as files."""
        from serve_app.models.music.encoding import encode

        return await self._threads.run(lambda should_stop: encode(audio))

    def _ready(self, engine: str) -> _Render:
        """Return an engine; ModelLoadingError with the reason where there is none."""
        engines = self._model.get()
        if engine not in self._options.engines:
            configured = ", ".join(self._options.engines)
            raise ModelLoadingError(
                Sentence(
                    "The music engine {engine!r} is not configured; there is {configured}",
                    engine=engine,
                    configured=configured,
                )
            )
        name = EngineName(engine)
        if name not in engines.ready:
            raise ModelLoadingError(engines.failures[name])
        return engines.ready[name]

    def _load(self) -> _Engines:
        """Return the engines; ModelLoadingError where none is ready."""
        # here, not in the first call, which would wait for them
        from serve_app.models.music import encoding, finishing  # noqa: F401

        made = {
            EngineName.COMPOSER: self._composer,
            EngineName.MUSICGEN: self._musicgen,
            EngineName.ACESTEP: self._remote_acestep,
            EngineName.VERTEX: self._remote_vertex,
        }
        engines = _Engines({}, {}, {})
        for name in self._options.engines:
            try:
                engines.ready[name], engines.versions[name] = made[name]()
            except ModelError as error:
                engines.failures[name] = error.detail
                logger.error("MusicGenerator has no engine %s: %s", name, error.detail)
        if not engines.ready:
            raise ModelLoadingError(joined("; ", engines.failures.values()))
        return engines

    def _composer(self) -> tuple[_Render, str]:
        from serve_app.models.music.composer.engine import render_piece

        soundfont = self._options.soundfont
        return (
            lambda plan, task, on_progress: self._threads.run(
                lambda should_stop: render_piece(plan, soundfont, on_progress, should_stop)
            ),
            EngineName.COMPOSER,
        )

    def _musicgen(self) -> tuple[_Render, str]:
        require("MusicGen")
        from serve_app.models.music.musicgen import MusicGen

        model = MusicGen(
            self._options.musicgen,
            device=self._device,
            cache_dir=self._environment.models_dir,
            hf_token=self._environment.hf_token,
        )
        thread = WorkerThreads(1, "musicgen")
        return (
            lambda plan, task, on_progress: thread.run(
                lambda should_stop: model.render(plan, on_progress, should_stop)
            ),
            model.model_version,
        )

    def _remote_acestep(self) -> tuple[_Render, str]:
        from serve_app.models.music.acestep import AceStep

        self._acestep = AceStep(self._options.acestep, self._environment.music_api_key)
        return self._acestep.render, EngineName.ACESTEP

    def _remote_vertex(self) -> tuple[_Render, str]:
        from serve_app.models.music.vertex import Vertex

        vertex = Vertex(self._options.vertex)
        return lambda plan, task, on_progress: vertex.render(plan), vertex.model_version
