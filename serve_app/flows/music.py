"""`MusicPipeline`: the music DAG, which JobRunner runs in durable steps.

ingest ─ caption ─ plan ─ music ─ master ─ encode ─ publish
                          └──── again with another seed or engine, until the piece passes its checks
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter

from serve_app.deployments.protocols import CaptionsPictures, MakesMusic
from serve_app.flows.handles import Calls, Placed, with_fallback
from serve_app.flows.media_source import MediaSource
from serve_app.flows.music_engines import AcceptedPiece, MusicEngines, kept
from serve_app.flows.steps import Steps
from serve_app.jobs.record import MusicRequest
from serve_app.media.artifacts import job_key, upload_key
from serve_app.messages import MusicStage
from serve_app.models.music.options import EngineName
from serve_app.results import MAX_SEED, Caption, MusicPiece, MusicPlan, PictureFeatures
from serve_app.sentences import Locale, Text, joined
from serve_app.services import MusicFile
from serve_app.threads import FILES

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
    """Facts of the picture, and its key in the artefact store."""

    sha256: str
    features: PictureFeatures
    notes: tuple[Text, ...]
    key: str = ""
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Files:
    """Files of the piece: their bytes, and their keys in the artefact store."""

    num_bytes: dict[str, int] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


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
            lambda done: done.key,
            lambda: self._ingest(request, steps),
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
        encoded = await kept(
            self._media,
            steps,
            "encode",
            _Files,
            lambda done: done.keys.get(MusicFile.FLAC, ""),
            lambda: self._encode(accepted, steps),
            (MusicStage.PUBLISHING,),
        )
        published = await kept(
            self._media,
            steps,
            "publish",
            _Files,
            lambda done: done.keys.get(MusicFile.PLAN, ""),
            lambda: self._publish(request, caption, accepted, steps),
        )
        sizes = {str(MusicFile.PICTURE): ingested.num_bytes} | encoded.num_bytes | published.num_bytes
        piece = MusicPiece(
            caption=caption,
            plan=accepted.plan,
            engine_used=accepted.engine,
            engine_version=accepted.made.engine_version,
            license=accepted.made.license,
            fallback_reason=joined("; ", accepted.reasons) or None,
            duration=round(accepted.mastered.duration_s, 3),
            measurements=accepted.mastered.measurements,
            files=sizes,
            stored={str(MusicFile.PICTURE): ingested.key} | encoded.keys | published.keys,
            page_url=f"/music/{request.job_id}/page",
            audio_url=f"/music/{request.job_id}/audio",
            download_url=f"/music/{request.job_id}/download",
            stage_seconds=dict(steps.seconds),
            notes=(*ingested.notes, *caption.notes, *accepted.made.notes),
        )
        return _json(piece, request)

    async def _ingest(self, request: MusicRequest, steps: Steps) -> _Ingested:
        if request.image_url is not None:
            data = await self._media.fetch_image(request.image_url)
        else:
            data = await self._media.read(await self._upload(request))
        prepared = await self._captioner(lambda placed: self._call(placed, CaptionsPictures.prepare, data), "cleaning")
        stored = await self._put({MusicFile.PICTURE: prepared.jpeg}, steps)
        key = stored.keys[MusicFile.PICTURE]
        return _Ingested(prepared.sha256, prepared.features, prepared.notes, key, len(prepared.jpeg))

    async def _upload(self, request: MusicRequest) -> str:
        """Return the key of the uploaded picture."""
        key = upload_key(request.job_id, str(request.upload_name))
        old_key = job_key(request.job_id, str(request.upload_name))  # of a version without fences
        is_old = await FILES.run(lambda: not self._media.has(key) and self._media.has(old_key))
        return old_key if is_old else key

    async def _caption(self, request: MusicRequest, ingested: _Ingested) -> Caption:
        jpeg = await self._media.read(ingested.key)
        return await self._captioner(
            lambda placed: self._call(placed, CaptionsPictures.caption, jpeg, ingested.features), "captioning"
        )

    async def _put(self, files: Mapping[MusicFile, bytes], steps: Steps) -> _Files:
        """Store files where callers may fetch them once the step is committed that returns their keys."""
        keys = {name: f"published/{steps.place}/{name}" for name in files}
        for name, content in files.items():
            await self._media.put(keys[name], content, name.media_type)
        return _Files(
            {str(name): len(content) for name, content in files.items()}, {str(n): k for n, k in keys.items()}
        )

    async def _captioner(self, attempt: Callable[[Placed[CaptionsPictures]], Awaitable[T]], what: str) -> T:
        return await with_fallback(self._models.captioners, attempt, what)

    async def _encode(self, accepted: AcceptedPiece, steps: Steps) -> _Files:
        audio = await self._media.read(accepted.mastered.key)
        encoded = await self._call(self._models.generator, MakesMusic.encode, audio)
        # FLAC last: where it is, MP3 is too
        return await self._put({MusicFile.MP3: encoded.mp3, MusicFile.FLAC: encoded.flac}, steps)

    async def _publish(self, request: MusicRequest, caption: Caption, accepted: AcceptedPiece, steps: Steps) -> _Files:
        """Publish what is small."""
        files = {MusicFile.CAPTION: _file(_json(caption, request))}
        if accepted.made.midi_key:
            files[MusicFile.MIDI] = await self._media.read(accepted.made.midi_key)
        return await self._put({**files, MusicFile.PLAN: _file(_json(accepted.plan, request))}, steps)


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


def _json(value: Any, request: MusicRequest) -> dict[str, Any]:
    """Return a dataclass as JSON, its sentences in the request's language."""
    content: dict[str, Any] = TypeAdapter(type(value)).dump_python(
        value, mode="json", context=request.locale or Locale.EN
    )
    return content


def _file(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=1).encode()
