"""`MusicPipeline`: the music DAG, which JobRunner runs in durable steps.

ingest ─ caption ─ plan ─ music ─ master ─ encode ─ publish
                          └──── again with another seed or engine, until the piece passes its checks
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter

from serve_app.deployments.protocols import CaptionsPictures, MakesMusic
from serve_app.errors import (
    GpuMemoryError,
    ModelError,
    ModelLoadingError,
    ProcessingError,
    StorageError,
    shown_reason,
)
from serve_app.flows.handles import Calls, Placed, with_fallback
from serve_app.flows.media_source import MediaSource
from serve_app.flows.steps import Steps
from serve_app.jobs.record import MusicRequest
from serve_app.media.artifacts import job_key, published_key
from serve_app.messages import MusicStage
from serve_app.models.music.options import EngineName
from serve_app.results import MAX_SEED, Caption, MusicPiece, MusicPlan, PictureFeatures
from serve_app.services import MusicFile

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

_PROGRESS_STEP = 5  # percent between two callbacks
_CONTENT_TYPES = {
    MusicFile.PICTURE: "image/jpeg",
    MusicFile.CAPTION: "application/json",
    MusicFile.PLAN: "application/json",
    MusicFile.MP3: "audio/mpeg",
    MusicFile.FLAC: "audio/flac",
    MusicFile.MIDI: "audio/midi",
}
_ERRORS: dict[str, type[ModelError]] = {
    error.code: error for error in (ProcessingError, ModelLoadingError, GpuMemoryError)
}


@dataclass(frozen=True, slots=True)
class MusicModels:
    """The deployments of the DAG.

    Attributes:
        captioners: in order of preference; the next one is called when GPU memory ran out.
        generator: makes, masters and encodes.
        engines: of the generator, in order of preference; the next one is asked when one fails.
    """

    captioners: Sequence[Placed[CaptionsPictures]]
    generator: Placed[MakesMusic]
    engines: tuple[str, ...] = (EngineName.COMPOSER,)

    def placed(self) -> list[Placed[Any]]:
        """Return all deployments."""
        return [*self.captioners, self.generator]


@dataclass(frozen=True, slots=True)
class _Ingested:
    """Facts of the picture, which is in the artefact store."""

    sha256: str
    features: PictureFeatures
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Made:
    """What became of an engine's attempt; its files are in the artefact store."""

    engine_version: str = ""
    license: str = ""
    has_midi: bool = False
    notes: tuple[str, ...] = ()
    failure: str | None = None
    failure_code: str = ""


@dataclass(frozen=True, slots=True)
class _Started:
    """The id of a remote engine's task, None of an engine that has none; or why it could not be begun."""

    task: str | None
    failed: _Made | None = None


@dataclass(frozen=True, slots=True)
class _Mastered:
    """Facts of a mastered piece, which is in the artefact store."""

    duration_s: float
    measurements: dict[str, float]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Accepted:
    """The attempt that passed its checks, and why those before it were given up."""

    number: int
    engine: str
    plan: MusicPlan
    made: _Made
    mastered: _Mastered
    reasons: tuple[str, ...]


class MusicPipeline:
    """Makes pieces of music from pictures.

    Args:
        models: the deployments.
        media: fetches pictures, and keeps the files.
        patience_s: how long a full queue or a lost replica is waited for.
    """

    def __init__(self, models: MusicModels, media: MediaSource, patience_s: float) -> None:
        self._models = models
        self._media = media
        self._call = Calls(patience_s)

    async def make(self, request: MusicRequest, steps: Steps) -> dict[str, Any]:
        """Return a `results.MusicPiece` as JSON; its files are published then.

        Raises:
            ServeAppError: of the failing stage.
            LeaseLost: another runner has the job.
        """
        ingested = await self._kept(
            steps,
            "ingest",
            _Ingested,
            published_key(request.job_id, MusicFile.PICTURE),
            lambda: self._ingest(request),
            (MusicStage.PICTURE_READY, MusicStage.CAPTIONING),
        )
        caption = await steps.run(
            "caption", Caption, lambda: self._caption(request, ingested), announce=(MusicStage.PLANNING,)
        )
        plan = await steps.run(
            "plan",
            MusicPlan,
            lambda: asyncio.to_thread(_plan, request, ingested, caption),
            announce=(MusicStage.COMPOSING,),
        )
        accepted = await self._music(request, plan, steps)
        await steps.announce(MusicStage.ENCODING)
        sizes = await self._kept(
            steps,
            "encode",
            dict[str, int],
            published_key(request.job_id, MusicFile.FLAC),
            lambda: self._encode(request, accepted),
            (MusicStage.PUBLISHING,),
        )
        files = await steps.run("publish", dict[str, int], lambda: self._publish(request, caption, accepted, sizes))
        piece = MusicPiece(
            caption=caption,
            plan=accepted.plan,
            engine_used=accepted.engine,
            engine_version=accepted.made.engine_version,
            license=accepted.made.license,
            fallback_reason="; ".join(accepted.reasons) or None,
            duration=round(accepted.mastered.duration_s, 3),
            measurements=accepted.mastered.measurements,
            files=files,
            page_url=f"/music/{request.job_id}/page",
            audio_url=f"/music/{request.job_id}/audio",
            download_url=f"/music/{request.job_id}/download",
            stage_seconds=dict(steps.seconds),
            notes=(*ingested.notes, *caption.notes, *accepted.made.notes),
        )
        result: dict[str, Any] = TypeAdapter(MusicPiece).dump_python(piece, mode="json")
        return result

    async def _kept(
        self,
        steps: Steps,
        name: str,
        result_type: type[T],
        key: str,
        work: Callable[[], Awaitable[T]],
        announce: Sequence[int] = (),
    ) -> T:
        """Return the result of a step that leaves a file; repeat it where the file is gone."""
        result = await steps.run(name, result_type, work, announce)
        # an operator may have emptied the store since the step
        return result if await asyncio.to_thread(self._media.has, key) else await work()

    async def _ingest(self, request: MusicRequest) -> _Ingested:
        if request.image_url is not None:
            data = await self._media.fetch_image(request.image_url)
        else:
            data = await self._media.read(upload_key(request))
        prepared = await self._captioner(lambda placed: self._call(placed, CaptionsPictures.prepare, data), "cleaning")
        await self._put(request, MusicFile.PICTURE, prepared.jpeg)
        return _Ingested(prepared.sha256, prepared.features, prepared.notes)

    async def _caption(self, request: MusicRequest, ingested: _Ingested) -> Caption:
        jpeg = await self._media.read(published_key(request.job_id, MusicFile.PICTURE))
        return await self._captioner(
            lambda placed: self._call(placed, CaptionsPictures.caption, jpeg, ingested.features), "captioning"
        )

    async def _put(self, request: MusicRequest, name: MusicFile, content: bytes) -> None:
        await self._media.put(published_key(request.job_id, name), content, _CONTENT_TYPES[name])

    async def _captioner(self, attempt: Callable[[Placed[CaptionsPictures]], Awaitable[T]], what: str) -> T:
        return await with_fallback(self._models.captioners, attempt, what)

    async def _music(self, request: MusicRequest, plan: MusicPlan, steps: Steps) -> _Accepted:
        """Return the first piece that passes its checks."""
        from serve_app.models.music.attempts import Attempts

        attempts = Attempts(plan, self._models.engines)
        failures: list[_Made] = []
        for attempt in attempts:
            made = await self._make(request, attempt.number, attempt.engine, attempt.plan, steps)
            if made.failure is not None:
                failures.append(made)
                attempts.failed(attempt, made.failure)
                continue
            mastered = await self._master(request, attempt.number, attempt.plan, steps)
            if not mastered.faults:
                reasons = tuple(attempts.reasons)
                return _Accepted(attempt.number, attempt.engine, attempt.plan, made, mastered, reasons)
            attempts.rejected(attempt, mastered.faults)
        error = _ERRORS.get(failures[-1].failure_code, ProcessingError) if failures else ProcessingError
        raise error(f"no engine made a piece: {'; '.join(attempts.reasons)}")

    async def _make(self, request: MusicRequest, number: int, engine: str, plan: MusicPlan, steps: Steps) -> _Made:
        """Return what became of an engine's attempt; a failure is a result too, which is not tried again."""
        generator = self._models.generator
        shown = 0

        async def on_progress(share: float) -> None:
            nonlocal shown
            percent = int(MusicStage.COMPOSING + share * (MusicStage.MASTERING - MusicStage.COMPOSING))
            if shown + _PROGRESS_STEP <= percent < MusicStage.MASTERING:
                shown = percent
                await steps.announce(percent)

        async def start() -> _Started:
            try:
                return _Started(await self._call(generator, MakesMusic.start, engine, plan))
            except ModelError as error:
                return _Started(None, _failed(request, engine, error))

        async def render() -> _Made:
            try:
                music = await self._call.last(generator, MakesMusic.render, on_progress, engine, plan, started.task)
            except ModelError as error:
                return _failed(request, engine, error)
            await self._media.put(_raw_key(request, number), music.audio)
            if music.midi is not None:
                await self._media.put(_midi_key(request, number), music.midi)
            return _Made(music.model_version, music.license, music.midi is not None, music.notes)

        with steps.timed("music"):
            # a remote engine's task is known before it is waited for: a new runner asks for it again
            started = await steps.run(f"music/{number}/start", _Started, start)
            if started.failed is not None:
                return started.failed
            made = await steps.run(f"music/{number}", _Made, render, announce=(MusicStage.MASTERING,))
            if made.failure is None and not await asyncio.to_thread(self._media.has, _raw_key(request, number)):
                made = await render()
            return made

    async def _master(self, request: MusicRequest, number: int, plan: MusicPlan, steps: Steps) -> _Mastered:
        async def master() -> _Mastered:
            audio = await self._media.read(_raw_key(request, number))
            mastered = await self._call(self._models.generator, MakesMusic.master, audio, plan)
            await self._media.put(_mastered_key(request, number), mastered.audio)
            return _Mastered(mastered.duration_s, mastered.measurements, mastered.faults)

        with steps.timed("master"):
            return await self._kept(steps, f"master/{number}", _Mastered, _mastered_key(request, number), master, ())

    async def _encode(self, request: MusicRequest, accepted: _Accepted) -> dict[str, int]:
        audio = await self._media.read(_mastered_key(request, accepted.number))
        encoded = await self._call(self._models.generator, MakesMusic.encode, audio)
        files = {MusicFile.MP3: encoded.mp3, MusicFile.FLAC: encoded.flac}
        for name, content in files.items():  # FLAC last: where it is, MP3 is too
            await self._put(request, name, content)
        return {str(name): len(content) for name, content in files.items()}

    async def _publish(
        self, request: MusicRequest, caption: Caption, accepted: _Accepted, sizes: dict[str, int]
    ) -> dict[str, int]:
        """Publish what is small; return the bytes of all files."""
        files = {MusicFile.CAPTION: _json(caption), MusicFile.PLAN: _json(accepted.plan)}
        if accepted.made.has_midi:
            files[MusicFile.MIDI] = await self._media.read(_midi_key(request, accepted.number))
        for name, content in files.items():
            await self._put(request, name, content)
        picture = await self._media.read(published_key(request.job_id, MusicFile.PICTURE))
        return {str(MusicFile.PICTURE): len(picture)} | sizes | {str(name): len(data) for name, data in files.items()}


def upload_key(request: MusicRequest) -> str:
    """Return the key of an uploaded picture."""
    return job_key(request.job_id, str(request.upload_name))


def _raw_key(request: MusicRequest, number: int) -> str:
    return job_key(request.job_id, f"raw-{number}.flac")


def _midi_key(request: MusicRequest, number: int) -> str:
    return job_key(request.job_id, f"raw-{number}.mid")


def _mastered_key(request: MusicRequest, number: int) -> str:
    return job_key(request.job_id, f"mastered-{number}.flac")


def _failed(request: MusicRequest, engine: str, error: ModelError) -> _Made:
    """Return the failure as a result; what may pass here is raised, and the job tried again.

    A remote engine's passing failure is a result too: the engine has tried often enough.
    """
    if isinstance(error, StorageError):
        raise error
    logger.warning("job %s: %s: %s", request.job_id, engine, error.detail)
    return _Made(failure=shown_reason(error), failure_code=error.code)


def _plan(request: MusicRequest, ingested: _Ingested, caption: Caption) -> MusicPlan:
    from serve_app.models.music.plan import make_plan

    seed = request.seed
    if seed is None:
        seed = int.from_bytes(hashlib.sha256(request.job_id.encode()).digest()[:8], "big") % (MAX_SEED + 1)
    return make_plan(
        caption,
        ingested.features,
        ingested.sha256,
        duration_s=request.duration_s,
        seed=seed,
        prompt=request.prompt,
    )


def _json(value: Any) -> bytes:
    return json.dumps(asdict(value), ensure_ascii=False, indent=1).encode()
