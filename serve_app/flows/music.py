"""`MusicPipeline`: the music DAG, which JobRunner runs in durable steps.

ingest ─ caption ─ plan ─ music ─ master ─ encode ─ publish
                          └──── again with another seed or engine, until the piece passes its checks
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter

from serve_app.deployments.protocols import CaptionsPictures, MakesMusic
from serve_app.flows.handles import Calls, Placed, with_fallback
from serve_app.flows.media_source import MediaSource
from serve_app.flows.music_engines import AcceptedPiece, MusicEngines, kept, mastered_key, midi_key
from serve_app.flows.steps import Steps
from serve_app.jobs.record import MusicRequest
from serve_app.media.artifacts import job_key, published_key
from serve_app.messages import MusicStage
from serve_app.models.music.options import EngineName
from serve_app.results import MAX_SEED, Caption, MusicPiece, MusicPlan, PictureFeatures
from serve_app.services import MusicFile

T = TypeVar("T")


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
        self._engines = MusicEngines(models.generator, models.engines, media, self._call)

    async def make(self, request: MusicRequest, steps: Steps) -> dict[str, Any]:
        """Return a `results.MusicPiece` as JSON; its files are published then.

        Raises:
            ServeAppError: of the failing stage.
            LeaseLost: another runner has the job.
        """
        ingested = await kept(
            self._media,
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
        accepted = await self._engines.play(request, plan, steps)
        await steps.announce(MusicStage.ENCODING)
        sizes = await kept(
            self._media,
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
        await self._media.put(published_key(request.job_id, name), content, name.media_type)

    async def _captioner(self, attempt: Callable[[Placed[CaptionsPictures]], Awaitable[T]], what: str) -> T:
        return await with_fallback(self._models.captioners, attempt, what)

    async def _encode(self, request: MusicRequest, accepted: AcceptedPiece) -> dict[str, int]:
        audio = await self._media.read(mastered_key(request, accepted.number))
        encoded = await self._call(self._models.generator, MakesMusic.encode, audio)
        files = {MusicFile.MP3: encoded.mp3, MusicFile.FLAC: encoded.flac}
        for name, content in files.items():  # FLAC last: where it is, MP3 is too
            await self._put(request, name, content)
        return {str(name): len(content) for name, content in files.items()}

    async def _publish(
        self, request: MusicRequest, caption: Caption, accepted: AcceptedPiece, sizes: dict[str, int]
    ) -> dict[str, int]:
        """Publish what is small; return the bytes of all files."""
        files = {MusicFile.CAPTION: _json(caption), MusicFile.PLAN: _json(accepted.plan)}
        if accepted.made.has_midi:
            files[MusicFile.MIDI] = await self._media.read(midi_key(request, accepted.number))
        for name, content in files.items():
            await self._put(request, name, content)
        picture = await self._media.read(published_key(request.job_id, MusicFile.PICTURE))
        return {str(MusicFile.PICTURE): len(picture)} | sizes | {str(name): len(data) for name, data in files.items()}


def upload_key(request: MusicRequest) -> str:
    """Return the key of an uploaded picture."""
    return job_key(request.job_id, str(request.upload_name))


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
