"""`MusicGenerator`: deployment of the music engines, of mastering and of encoding."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray import serve

from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.process import replica_device
from serve_app.deployments.replica.worker_threads import WorkerThreads
from serve_app.errors import ModelError, ModelLoadingError
from serve_app.models.music.options import EngineName, MusicOptions
from serve_app.models.options import ModelEnvironment
from serve_app.results import EncodedMusic, MasteredMusic, MusicPlan, RenderedMusic
from serve_app.services import ReplicaModel

if TYPE_CHECKING:
    from serve_app.models.music.acestep import AceStep
    from serve_app.models.music.musicgen import MusicGen
    from serve_app.models.music.vertex import Vertex

logger = logging.getLogger("ray.serve")

_REPORT_S = 0.25
_OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class _Engines:
    """The engines that this replica has made ready; the composer needs nothing."""

    musicgen: MusicGen | None = None
    musicgen_failure: str | None = None
    acestep: AceStep | None = None
    vertex: Vertex | None = None


@serve.deployment(name="MusicGenerator", max_ongoing_requests=16)
class MusicGenerator:
    """Makes pieces of music with the configured engines; MusicGen makes one at a time.

    A MusicGen that can't be loaded leaves the other engines in service. Which engine follows a failed one is decided
    by the flow.
    """

    def __init__(self, options: MusicOptions, environment: ModelEnvironment) -> None:
        self._options = options
        self._device = replica_device(options.device) if EngineName.MUSICGEN in options.engines else "cpu"
        self._model: LoadedModel[_Engines] = LoadedModel(
            "MusicGenerator", lambda: self._load(environment), self._version
        )
        self._threads = WorkerThreads(options.num_threads, "music")
        self._musicgen_thread = WorkerThreads(1, "musicgen")

    def check_health(self) -> None:
        """Raise once MusicGen has been missing for a while, if there is no other engine."""
        self._model.check_health()

    async def describe(self) -> ReplicaModel:
        """Return what this replica serves."""
        failure = None if (engines := self._model.or_none) is None else engines.musicgen_failure
        return self._model.describe(
            spec=" > ".join(self._options.engines), engine="music", device=self._device, failure=failure
        )

    async def start(self, engine: str, plan: MusicPlan) -> str | None:
        """Begin a remote engine's task and return its id; None: the engine has none."""
        self._check(engine)
        acestep = self._model.get().acestep
        return await acestep.start(plan) if engine == EngineName.ACESTEP and acestep is not None else None

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
        self._check(engine)
        loop = asyncio.get_running_loop()
        shares: asyncio.Queue[float | None] = asyncio.Queue()

        def on_progress(share: float) -> None:
            loop.call_soon_threadsafe(shares.put_nowait, share)

        work = asyncio.ensure_future(self._rendered(EngineName(engine), plan, task, on_progress))
        work.add_done_callback(lambda _: shares.put_nowait(None))
        reported, next_report_s = 0.0, 0.0
        try:
            while (share := await shares.get()) is not None:
                if share > reported and (now_s := time.monotonic()) >= next_report_s:
                    reported, next_report_s = min(share, 1.0), now_s + _REPORT_S
                    yield reported
            yield await work
        finally:
            work.cancel()

    async def master(self, audio: bytes, plan: MusicPlan) -> MasteredMusic:
        """Return a rendered piece, trimmed to its length, faded, and as loud as all others; and what is wrong."""
        from serve_app.models.music.finishing import finish

        return await self._threads.run(lambda should_stop: finish(audio, plan))

    async def encode(self, audio: bytes) -> EncodedMusic:
        """Return a mastered piece as files."""
        from serve_app.models.music.encoding import encode

        return await self._threads.run(lambda should_stop: encode(audio))

    def _check(self, engine: str) -> None:
        if engine not in self._options.engines:
            configured = ", ".join(self._options.engines)
            raise ModelLoadingError(f"The music engine {engine!r} is not configured; there is {configured}")

    def _rendered(
        self, engine: EngineName, plan: MusicPlan, task: str | None, on_progress: _OnProgress
    ) -> Awaitable[RenderedMusic]:
        engines = self._model.get()
        if engine is EngineName.COMPOSER:
            from serve_app.models.music.composing import compose

            soundfont = self._options.soundfont
            return self._threads.run(lambda should_stop: compose(plan, soundfont, on_progress, should_stop))
        if engine is EngineName.MUSICGEN and (musicgen := engines.musicgen) is not None:
            return self._musicgen_thread.run(lambda should_stop: musicgen.render(plan, on_progress, should_stop))
        if engine is EngineName.ACESTEP and engines.acestep is not None:
            return engines.acestep.render(plan, task, on_progress)
        if engine is EngineName.VERTEX and engines.vertex is not None:
            return engines.vertex.render(plan)
        raise ModelLoadingError(engines.musicgen_failure or f"The music engine {engine} is not ready")

    def _load(self, environment: ModelEnvironment) -> _Engines:
        """Return the engines; ModelError where MusicGen is the only one and can't be loaded."""
        wanted = set(self._options.engines)
        musicgen, failure, acestep, vertex = None, None, None, None
        if EngineName.ACESTEP in wanted:
            from serve_app.models.music.acestep import AceStep

            acestep = AceStep(self._options.acestep, environment.music_api_key)
        if EngineName.VERTEX in wanted:
            from serve_app.models.music.vertex import Vertex

            vertex = Vertex(self._options.vertex)
        if EngineName.MUSICGEN in wanted:
            from serve_app.models.music.musicgen import MusicGen

            try:
                musicgen = MusicGen(
                    self._options.musicgen,
                    device=self._device,
                    cache_dir=environment.models_dir,
                    hf_token=environment.hf_token,
                )
            except ModelError as error:
                if wanted == {EngineName.MUSICGEN}:
                    raise
                failure = error.detail
                logger.error("MusicGenerator serves without MusicGen: %s", failure)
        return _Engines(musicgen, failure, acestep, vertex)

    def _version(self, engines: _Engines) -> str:
        """Return the versions of the engines, in the configuration's order."""
        return " > ".join(
            engines.musicgen.model_version if name is EngineName.MUSICGEN and engines.musicgen else name
            for name in self._options.engines
            if not (name is EngineName.MUSICGEN and engines.musicgen is None)
        )
