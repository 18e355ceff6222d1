"""`ImageFlow`: classifies pictures while the caller waits; `services.ImageService` over the deployments.

Files travel to the replicas as they came. Pictures that arrive while calls are under way share the next call: under
load the cost of a hop is divided among many pictures, and a lone picture is sent at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

from serve_app.deployments.protocols import ClassifiesImages
from serve_app.deployments.replica.batching import Batcher
from serve_app.deployments.replica.loaded_model import GRACE_S
from serve_app.errors import ServeAppError
from serve_app.flows.handles import IMAGE_RETRY_AFTER_S, Calls, Placed, Seats, answer_each, with_fallback
from serve_app.flows.media_source import MediaSource
from serve_app.services import ImageClassification, ReplicaModel

if TYPE_CHECKING:
    from serve_app.deployments.image_classifier import ClassifierReplica

# Small pictures share a call; a phone's photograph fills one, as the small ones would wait for its decoding.
_BYTES_IN_CALL = 2 * 1024**2
# Of one request at once: enough to fill a batch of the network, few enough to leave memory to others.
_IMAGES_AT_ONCE = 8


class LocalClassifier:
    """A classifier of this process: a small network on a CPU, where a hop would cost more than the network does.

    It is loaded by the first request that needs it, beside the event loop, so that the ingress starts no later.

    Args:
        make: returns the deployment's class without Serve around it; blocks while its weights are loaded.
    """

    def __init__(self, make: Callable[[], ClassifierReplica]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._replica: ClassifierReplica | None = None
        self._made_at = 0.0

    async def classify(self, image: bytes) -> ImageClassification:
        """Return what one picture shows; errors as `ClassifierReplica.classify`."""
        return await (await self._ready()).classify(image)

    async def describe(self) -> ReplicaModel:
        """Return what this process serves; loads it if nothing has yet."""
        return await (await self._ready()).describe()

    async def reload(self) -> ReplicaModel:
        """Read the weights anew, if their file is another one than that which serves."""
        return await (await self._ready()).reload()

    async def _ready(self) -> ClassifierReplica:
        seen = self._replica
        if seen is not None and (not seen.is_empty or time.monotonic() - self._made_at < GRACE_S):
            return seen
        async with self._making:
            replica = self._replica
            if replica is None or replica is seen:  # nobody else has made it meanwhile
                replica = self._replica = await asyncio.to_thread(self._make)
                self._made_at = time.monotonic()
        return replica


class ImageFlow:
    """Classifies pictures.

    Args:
        classifiers: by task, the deployment, and after it the one that takes over when its GPU memory ran out.
        local: by task, classifiers of this process, which are called instead.
        media: fetches addresses.
        patience_s: how long to wait for a full queue or a lost replica.
        max_at_once: requests in one ingress replica; more are answered 503.
        max_calls: the most calls of one deployment at a time; pictures that arrive meanwhile share the next call.
        max_images_in_call: the most pictures in one call.
    """

    def __init__(
        self,
        classifiers: Mapping[str, Sequence[Placed[ClassifiesImages]]],
        media: MediaSource,
        patience_s: float,
        *,
        max_at_once: int,
        max_calls: int,
        max_images_in_call: int = 8,
        local: Mapping[str, LocalClassifier] | None = None,
    ) -> None:
        self._local = local or {}
        self._media = media
        self._call = Calls(patience_s)
        self._max_calls, self._max_images_in_call = max_calls, max_images_in_call
        self._seats = Seats(max_at_once, "all image requests that may be in work at once are", IMAGE_RETRY_AFTER_S)
        self._batchers = {task: [self._batcher(each) for each in placed] for task, placed in classifiers.items()}

    async def classify(self, task: str, images: Sequence[BinaryIO | str]) -> Sequence[ImageClassification | Exception]:
        """Return an answer for each picture, in order; what one of them failed with stands in its place."""
        async with self._seats:
            return await answer_each(images, lambda image: self._classify(task, image), _IMAGES_AT_ONCE)

    async def _classify(self, task: str, image: BinaryIO | str) -> ImageClassification:
        # a file is in memory, or in a temporary file of a few megabytes
        data = await self._media.fetch_image(image) if isinstance(image, str) else image.read()
        if task in self._local:
            return await self._local[task].classify(data)
        return await with_fallback(self._batchers[task], lambda batcher: batcher.submit(data), "classification")

    def _batcher(self, placed: Placed[ClassifiesImages]) -> Batcher[bytes, ImageClassification]:
        direct = placed.without_object_store()

        async def call(images: list[bytes]) -> Sequence[ImageClassification | ServeAppError]:
            is_small = sum(map(len, images)) <= _BYTES_IN_CALL
            return await self._call(direct if is_small else placed, ClassifiesImages.classify_many, images)

        return Batcher(
            call,
            max_items=self._max_images_in_call,
            wait_s=0.0,
            max_calls=self._max_calls,
            weight=len,
            max_weight=_BYTES_IN_CALL,
        )
