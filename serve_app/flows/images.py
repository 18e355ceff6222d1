"""`ImageFlow`: classifies and embeds pictures while the caller waits (`services.ImageService`).

Files go to the replicas unchanged. Pictures that arrive while calls are under way share the next call: under load many
pictures share the cost of a call, and a lone picture is sent at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from serve_app.deployments.protocols import ClassifiesImages
from serve_app.deployments.replica.batching import Batcher
from serve_app.deployments.replica.loaded_model import GRACE_S
from serve_app.errors import ServeAppError
from serve_app.flows.handles import IMAGE_RETRY_AFTER_S, Calls, Placed, Seats, answer_each, with_fallback
from serve_app.flows.media_source import MediaSource
from serve_app.sentences import Sentence
from serve_app.services import ImageClassification, ImageEmbedding, ReplicaModel

if TYPE_CHECKING:
    from serve_app.deployments.image_classifier import ClassifierReplica

Answer = TypeVar("Answer")

# A phone's photograph fills a call: small pictures would wait for its decoding.
_BYTES_IN_CALL = 2 * 1024**2
_IMAGES_AT_ONCE = 8  # of one request: enough to fill a batch of the network


class LocalClassifier:
    """A classifier in this process: for a small network on a CPU, a call of a replica costs more than the network.

    The first request loads it, beside the event loop, so that the ingress starts no later. `make` returns the
    deployment's class without Serve; it blocks while the weights are loaded.
    """

    def __init__(self, make: Callable[[], ClassifierReplica]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._replica: ClassifierReplica | None = None
        self._made_at = 0.0

    async def classify(self, image: bytes) -> ImageClassification:
        """Return the scores of one picture; errors as `ClassifierReplica.classify`."""
        return await (await self._ready()).classify(image)

    async def embed(self, image: bytes) -> ImageEmbedding:
        """Return the features of one picture; errors as `ClassifierReplica.embed`."""
        return await (await self._ready()).embed(image)

    async def describe(self) -> ReplicaModel:
        """Return the model of this process; loads it first where it is not loaded yet."""
        return await (await self._ready()).describe()

    async def reload(self) -> ReplicaModel:
        """Load the weights again if their file has changed."""
        return await (await self._ready()).reload()

    async def _ready(self) -> ClassifierReplica:
        seen = self._replica
        if seen is not None and (not seen.is_empty or time.monotonic() - self._made_at < GRACE_S):
            return seen
        async with self._making:
            replica = self._replica
            if replica is None or replica is seen:  # no other request has made it meanwhile
                replica = self._replica = await asyncio.to_thread(self._make)
                self._made_at = time.monotonic()
        return replica


class ImageFlow:
    """Classifies pictures.

    Args:
        classifiers: by task, deployments in order of preference; the next one is called when GPU memory ran out.
        media: fetches addresses.
        patience_s: how long a full queue or a lost replica is waited for.
        max_at_once: requests in one ingress replica; more are answered 503.
        max_calls: the most calls of one deployment at a time; pictures that arrive meanwhile share the next call.
        max_images_in_call: the most pictures in one call.
        local: by task, classifiers in this process, which are called instead.
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
        self._seats = Seats(max_at_once, Sentence("image requests"), IMAGE_RETRY_AFTER_S)
        self._classifying = {
            task: [self._batcher(each, ClassifiesImages.classify_many) for each in placed]
            for task, placed in classifiers.items()
        }
        self._embedding = {
            task: [self._batcher(each, ClassifiesImages.embed_many) for each in placed]
            for task, placed in classifiers.items()
        }

    async def classify(self, task: str, images: Sequence[BinaryIO | str]) -> Sequence[ImageClassification | Exception]:
        """Return the scores, or the error, of each picture, in order."""
        async with self._seats:
            return await answer_each(images, lambda image: self._classify(task, image), _IMAGES_AT_ONCE)

    async def embed(self, model: str, images: Sequence[BinaryIO | str]) -> Sequence[ImageEmbedding | Exception]:
        """Return the features, or the error, of each picture, in order."""
        async with self._seats:
            return await answer_each(images, lambda image: self._embed(model, image), _IMAGES_AT_ONCE)

    async def _classify(self, task: str, image: BinaryIO | str) -> ImageClassification:
        data = await self._read(image)
        if task in self._local:
            return await self._local[task].classify(data)
        return await with_fallback(self._classifying[task], lambda batcher: batcher.submit(data), "classification")

    async def _embed(self, model: str, image: BinaryIO | str) -> ImageEmbedding:
        data = await self._read(image)
        if model in self._local:
            return await self._local[model].embed(data)
        return await with_fallback(self._embedding[model], lambda batcher: batcher.submit(data), "embedding")

    async def _read(self, image: BinaryIO | str) -> bytes:
        # a file is in memory, or in a temporary file of a few megabytes
        return await self._media.fetch_image(image) if isinstance(image, str) else image.read()

    def _batcher(
        self,
        placed: Placed[ClassifiesImages],
        method: Callable[[ClassifiesImages, Sequence[bytes]], Awaitable[Sequence[Answer | ServeAppError]]],
    ) -> Batcher[bytes, Answer]:
        direct = placed.without_object_store()

        async def call(images: list[bytes]) -> Sequence[Answer | ServeAppError]:
            is_small = sum(map(len, images)) <= _BYTES_IN_CALL
            return await self._call(direct if is_small else placed, method, images)

        return Batcher(
            call,
            max_items=self._max_images_in_call,
            wait_s=0.0,
            max_calls=self._max_calls,
            weight=len,
            max_weight=_BYTES_IN_CALL,
        )
