"""Pictures classified while the caller waits: `services.ImageService` over the deployments' handles.

Files travel to the replicas as they came; what waits while the calls under way have not returned shares the next call,
so that under load the cost of a hop is divided among many pictures, and a lone one is sent at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from serve_app.deployments.replica.batching import Batcher
from serve_app.errors import GpuMemoryError, ServeAppError, Unavailable
from serve_app.flows.calls import Calls
from serve_app.flows.local_classifier import LocalClassifier
from serve_app.flows.media_source import MediaSource
from serve_app.flows.speech_to_text import PlacedDeployment
from serve_app.services import ImageClassification

_RETRY_AFTER_S = 2.0
# Small pictures share a call; a phone's photograph fills one, as the small ones would wait for its decoding.
_BYTES_IN_CALL = 2 * 1024**2
# Of one request at once: enough to fill a batch of the network, few enough to leave memory to others.
_IMAGES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Bounds of one ingress replica.

    Attributes:
        max_requests: in work at once; more are answered 503.
        max_calls: of one deployment under way at once; the pictures that wait meanwhile share the next ones.
        max_images_in_call: at most so many.
    """

    max_requests: int = 128
    max_calls: int = 4
    max_images_in_call: int = 8


class DirectImages:
    """Classifies pictures.

    Args:
        classifiers: by task, the deployment, and after it the one that takes over when its GPU memory ran out.
        local: by task, classifiers of this process, which are called instead.
        media: fetches addresses.
        patience_s: how long to wait for a full queue or a lost replica.
        limits: of work at once.
    """

    def __init__(
        self,
        classifiers: Mapping[str, Sequence[PlacedDeployment]],
        media: MediaSource,
        patience_s: float,
        limits: ImageLimits,
        local: Mapping[str, LocalClassifier] | None = None,
    ) -> None:
        self._local = local or {}
        self._media = media
        self._call = Calls(patience_s)
        self._free = asyncio.Semaphore(limits.max_requests)
        self._batchers = {
            task: [self._batcher(each, limits) for each in placed] for task, placed in classifiers.items()
        }

    async def classify(self, task: str, images: Sequence[BinaryIO | str]) -> Sequence[ImageClassification | Exception]:
        """Return an answer for each picture, in order; what one of them failed with stands in its place."""
        if self._free.locked():
            raise Unavailable("all image requests that may be in work at once are", _RETRY_AFTER_S)
        if len(images) == 1:  # as nearly all are: without tasks
            async with self._free:
                return [await self._answer(task, images[0])]
        few = asyncio.Semaphore(_IMAGES_AT_ONCE)

        async def answer(image: BinaryIO | str) -> ImageClassification | Exception:
            async with few:
                return await self._answer(task, image)

        # a group, not gather: when the caller leaves it waits for all, which still read the caller's files
        async with self._free, asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(image)) for image in images]
        return [task.result() for task in tasks]

    async def _answer(self, task: str, image: BinaryIO | str) -> ImageClassification | Exception:
        try:
            if isinstance(image, str):
                data = await self._media.fetch_image(image)
            else:
                data = image.read()  # in memory, or in a temporary file of a few megabytes
            if task in self._local:
                return await self._local[task].classify(data)
            return await self._classified(task, data)
        except Exception as error:
            return error

    async def _classified(self, task: str, data: bytes) -> ImageClassification:
        *others, last = self._batchers[task]
        for batcher in others:
            try:
                return await batcher.submit(data)
            except GpuMemoryError:
                continue
        return await last.submit(data)

    def _batcher(self, placed: PlacedDeployment, limits: ImageLimits) -> Batcher[bytes, ImageClassification]:
        # straight from process to process by gRPC, which takes 4 MiB, and not through the object store
        direct = placed.handle.options(_by_reference=False)

        async def call(images: list[bytes]) -> list[ImageClassification | ServeAppError]:
            is_small = sum(map(len, images)) <= _BYTES_IN_CALL
            return await self._call(direct if is_small else placed.handle, "classify_many", images)

        return Batcher(
            call,
            max_items=limits.max_images_in_call,
            wait_s=0.0,
            max_calls=limits.max_calls,
            weight=len,
            max_weight=_BYTES_IN_CALL,
        )
