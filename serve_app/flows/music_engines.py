"""`MusicEngines`: attempts of the engines at a plan, each in durable steps, until a piece passes its checks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from serve_app.deployments.protocols import MakesMusic
from serve_app.errors import (
    GpuMemoryError,
    ModelError,
    ModelLoadingError,
    ProcessingError,
    StorageError,
    shown_reason,
)
from serve_app.flows.handles import Calls, Placed
from serve_app.flows.media_source import MediaSource
from serve_app.flows.steps import Steps
from serve_app.jobs.record import MusicRequest
from serve_app.messages import MusicStage
from serve_app.results import MusicPlan
from serve_app.sentences import Sentence, Text, joined
from serve_app.threads import FILES

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

_PROGRESS_STEP = 5  # percent between two callbacks
# A failure is stored as a step's result, so by its code; if it is the last one, the job fails with it.
_ERRORS: dict[str, type[ModelError]] = {
    error.code: error for error in (ProcessingError, ModelLoadingError, GpuMemoryError)
}


@dataclass(frozen=True, slots=True)
class MadePiece:
    """What became of an engine's attempt, and the keys of its files in the artefact store; "" where there is none."""

    key: str = ""
    midi_key: str = ""
    engine_version: str = ""
    license: Text = ""
    notes: tuple[Text, ...] = ()
    failure: Text | None = None
    failure_code: str = ""


@dataclass(frozen=True, slots=True)
class _Started:
    """The id of a remote engine's task, None of an engine that has none; or why it could not be begun."""

    task: str | None
    failed: MadePiece | None = None


@dataclass(frozen=True, slots=True)
class _Mastered:
    """Facts of a mastered piece, and its key in the artefact store."""

    duration_s: float
    measurements: dict[str, float]
    faults: tuple[Text, ...]
    key: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedPiece:
    """The attempt that passed its checks, and why those before it were given up."""

    number: int
    engine: str
    plan: MusicPlan
    made: MadePiece
    mastered: _Mastered
    reasons: tuple[Text, ...]


class MusicEngines:
    """The engines of a generator.

    Args:
        generator: makes and masters.
        engines: in order of preference.
        media: keeps the files between the steps.
        call: calls the generator.
    """

    def __init__(self, generator: Placed[MakesMusic], engines: Sequence[str], media: MediaSource, call: Calls) -> None:
        self._generator = generator
        self._engines = engines
        self._media = media
        self._call = call

    async def play(self, request: MusicRequest, plan: MusicPlan, steps: Steps) -> AcceptedPiece:
        """Return the first piece that passes its checks."""
        from serve_app.models.music.attempts import Attempts

        attempts = Attempts(plan, self._engines)
        failures: list[MadePiece] = []
        for attempt in attempts:
            made = await self._make(request, attempt.number, attempt.engine, attempt.plan, steps)
            if made.failure is not None:
                failures.append(made)
                attempts.failed(attempt, made.failure)
                continue
            mastered = await self._master(made, attempt.number, attempt.plan, steps)
            if not mastered.faults:
                reasons = tuple(attempts.reasons)
                return AcceptedPiece(attempt.number, attempt.engine, attempt.plan, made, mastered, reasons)
            attempts.rejected(attempt, mastered.faults)
        error = _ERRORS.get(failures[-1].failure_code, ProcessingError) if failures else ProcessingError
        raise error(Sentence("no engine made a piece: {reasons}", reasons=joined("; ", attempts.reasons)))

    async def _make(self, request: MusicRequest, number: int, engine: str, plan: MusicPlan, steps: Steps) -> MadePiece:
        """Return what became of an engine's attempt; a failure is a result too, which is not tried again."""
        shown = 0

        async def on_progress(share: float) -> None:
            nonlocal shown
            percent = int(MusicStage.COMPOSING + share * (MusicStage.MASTERING - MusicStage.COMPOSING))
            if shown + _PROGRESS_STEP <= percent < MusicStage.MASTERING:
                shown = percent
                await steps.announce(percent)

        async def start() -> _Started:
            try:
                return _Started(await self._call(self._generator, MakesMusic.start, engine, plan))
            except ModelError as error:
                return _Started(None, _failed(request, engine, error))

        async def render() -> MadePiece:
            try:
                music = await self._call.last(
                    self._generator, MakesMusic.render, on_progress, engine, plan, started.task
                )
            except ModelError as error:
                return _failed(request, engine, error)
            key, midi_key = f"jobs/{steps.place}/raw-{number}.flac", ""
            await self._media.put(key, music.audio)
            if music.midi is not None:
                midi_key = f"jobs/{steps.place}/raw-{number}.mid"
                await self._media.put(midi_key, music.midi)
            return MadePiece(key, midi_key, music.model_version, music.license, music.notes)

        with steps.timed("music"):
            # a remote engine's task is known before it is waited for: a new runner asks for it again
            started = await steps.run(f"music/{number}/start", _Started, start)
            if started.failed is not None:
                return started.failed
            made = await steps.run(f"music/{number}", MadePiece, render, announce=(MusicStage.MASTERING,))
            if made.failure is None and not await FILES.run(self._media.has, made.key):
                made = await render()
            return made

    async def _master(self, made: MadePiece, number: int, plan: MusicPlan, steps: Steps) -> _Mastered:
        async def master() -> _Mastered:
            audio = await self._media.read(made.key)
            mastered = await self._call(self._generator, MakesMusic.master, audio, plan)
            key = f"jobs/{steps.place}/mastered-{number}.flac"
            await self._media.put(key, mastered.audio)
            return _Mastered(mastered.duration_s, mastered.measurements, mastered.faults, key)

        with steps.timed("master"):
            return await kept(self._media, steps, f"master/{number}", _Mastered, lambda done: done.key, master)


async def kept(
    media: MediaSource,
    steps: Steps,
    name: str,
    result_type: type[T],
    key_of: Callable[[T], str],
    work: Callable[[], Awaitable[T]],
    announce: Sequence[int] = (),
) -> T:
    """Return the result of a step that leaves a file, whose key `key_of` finds in the result.

    Where the file is gone, because an operator emptied the store, or where an earlier version of this program kept no
    key, the work is repeated; its result is then not stored.
    """
    result = await steps.run(name, result_type, work, announce)
    return result if await FILES.run(media.has, key_of(result)) else await work()


def _failed(request: MusicRequest, engine: str, error: ModelError) -> MadePiece:
    """Return the failure as a result; what may pass here is raised, and the job tried again.

    A remote engine's passing failure is a result too: the engine has tried often enough.
    """
    if isinstance(error, StorageError):
        raise error
    logger.warning("job %s: %s: %s", request.job_id, engine, error.detail)
    return MadePiece(failure=shown_reason(error), failure_code=error.code)
