"""An image classifier inside the ingress: small networks on a CPU, where a hop would cost more than the network does.

The same class as the deployment's, without Serve around it. It is loaded by the first request that needs it, beside the
ingress's event loop, so that the ingress starts no later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from serve_app.deployments.image_classifier import ClassifierReplica
from serve_app.services import ImageClassification, ReplicaModel

# Serve replaces a replica whose model could not be loaded after half a minute; here the next request tries again.
_TRY_AGAIN_S = 30.0


class LocalClassifier:
    """A classifier of this process.

    Args:
        make: returns one; blocks while its weights are loaded.
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
        replica = self._replica
        if replica is not None and (not replica.is_empty or time.monotonic() - self._made_at < _TRY_AGAIN_S):
            return replica
        async with self._making:
            if self._replica is replica:  # nobody else has made it meanwhile
                self._replica = await asyncio.to_thread(self._make)
                self._made_at = time.monotonic()
        return self._replica  # type: ignore[return-value]
