"""`ContainerClassifier`, `BeverageDetector`: deployments of one class, each with its own engine and weights."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from ray import serve
from ray.util import metrics

from serve_app.deployments.replica.batching import Batcher
from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.process import replica_cores, replica_device
from serve_app.deployments.replica.worker_threads import WorkerThreads
from serve_app.errors import GpuMemoryError, ProcessingError, ServeAppError
from serve_app.models.images.options import ClassifierArgs, ClassifierOptions
from serve_app.models.images.tasks import ImageTask
from serve_app.models.options import ModelEnvironment
from serve_app.redaction import without_secrets
from serve_app.results import LabelScores
from serve_app.services import EngineSpeed, ImageClassification, ImageEmbedding, ReplicaModel

if TYPE_CHECKING:
    import numpy as np

    from serve_app.models.images.engines import Engine
    from serve_app.models.images.loading import LoadedClassifier
    from serve_app.models.images.speed import Timing

logger = logging.getLogger("ray.serve")

Answer = TypeVar("Answer")

_BATCHES: list[float] = [1, 2, 4, 8, 16, 32, 64, 128]
_USER_CONFIG_KEYS = {"model", "revision"}


class ClassifierReplica:
    """Classifies pictures for one task. Memory, speed and cold start: docs/models/images.md.

    Files are decoded and resized in threads, then batched. Weights are replaced while the replica serves (`reload`, or
    another `user_config`): the new ones are loaded, checked and warmed beside the old, which answer until then, and
    stay if the new ones can't be used. A picture of more than `max_pixels` is refused.
    """

    def __init__(
        self, task: ImageTask, options: ClassifierArgs, environment: ModelEnvironment, max_pixels: int
    ) -> None:
        self._task = task
        self._spec = self._given_spec = options.model or task.embedded
        self._options = ClassifierOptions(
            **asdict(options)
            | {"device": replica_device(options.device), "num_threads": options.num_threads or replica_cores()},
            cache_dir=environment.models_dir,
            hf_token=environment.hf_token,
        )
        self._max_pixels = max_pixels
        self._refused: str | None = None
        self._misconfigured: str | None = None
        self._reloading = asyncio.Lock()
        self._model: LoadedModel[LoadedClassifier] = LoadedModel(
            f"{task.name} classifier", lambda: self._load(keep_last=True), lambda loaded: loaded.facts.model_version
        )
        self._answered = metrics.Counter(
            "serve_app_images", "Pictures answered, by class or error code", tag_keys=("task", "outcome")
        )
        self._batch_sizes = metrics.Histogram(
            "serve_app_image_batch", "Pictures in one call of the network", boundaries=_BATCHES, tag_keys=("task",)
        )
        self._decoders = WorkerThreads(options.num_decoders, f"{self._task.name}-decoder")
        self._network = WorkerThreads(1, f"{self._task.name}-network")
        self._pixels: Batcher[np.ndarray, ImageClassification] = Batcher(
            lambda pixels: self._network.run(lambda should_stop: self._run(pixels)),
            max_items=options.batch_size,
            wait_s=options.batch_wait_s,
            isolate=(ProcessingError, GpuMemoryError),
        )
        self._embedder: tuple[LoadedClassifier, Engine] | None = None
        self._embedded: Batcher[np.ndarray, ImageEmbedding] = Batcher(
            lambda pixels: self._network.run(lambda should_stop: self._run_embedder(pixels)),
            max_items=options.batch_size,
            wait_s=options.batch_wait_s,
            isolate=(ProcessingError, GpuMemoryError),
        )

    @property
    def is_empty(self) -> bool:
        """Whether no weights are loaded."""
        return self._model.or_none is None

    def check_health(self) -> None:
        """Raise once the weights have been missing for a while."""
        self._model.check_health()

    async def reconfigure(self, user_config: Mapping[str, Any] | None) -> None:
        """Load the weights of `user_config`: `model` is a spec; another `revision` reads the same spec again.

        Never raises: Serve would stop the replica, which can go on with its old weights.
        """
        if user_config is None:
            return
        if unknown := sorted(map(str, set(user_config) - _USER_CONFIG_KEYS)):
            self._misconfigured = f"user_config has unknown keys: {', '.join(unknown)}"
            logger.error("%s: %s", self._model.name, self._misconfigured)
            return
        self._misconfigured = None
        self._spec = str(user_config.get("model") or self._given_spec)
        await self.reload()

    async def classify(self, image: bytes) -> ImageClassification:
        """Return the scores of one picture's file.

        Raises:
            ImageUnreadable: it can't be decoded as a picture.
            ImageTooLarge: it has too many pixels.
            ModelLoadingError: no weights could be loaded.
            GpuMemoryError: out of GPU memory, with this picture alone too.
            ProcessingError: the network failed.
        """
        try:
            found = await self._pixels.submit(await self._decoded(image))
        except ServeAppError as error:
            self._answered.inc(1, {"task": self._task.name, "outcome": error.code})
            raise
        self._answered.inc(1, {"task": self._task.name, "outcome": found.scores.label})
        return found

    async def classify_many(self, images: Sequence[bytes]) -> list[ImageClassification | ServeAppError]:
        """Return the scores, or the error, of each picture, in order."""

        return list(await asyncio.gather(*(_or_error(self.classify(image)) for image in images)))

    async def embed(self, image: bytes) -> ImageEmbedding:
        """Return the features of one picture's file; errors as of `classify`."""
        return await self._embedded.submit(await self._decoded(image))

    async def embed_many(self, images: Sequence[bytes]) -> list[ImageEmbedding | ServeAppError]:
        """Return the features, or the error, of each picture, in order."""
        return list(await asyncio.gather(*(_or_error(self.embed(image)) for image in images)))

    async def _decoded(self, image: bytes) -> np.ndarray:
        from serve_app.models.caged_pictures import read_caged

        self._model.get()
        return await self._decoders.run(
            lambda should_stop: read_caged(image, self._options.fit, self._max_pixels, should_stop)
        )

    async def reload(self) -> ReplicaModel:
        """Load the weights again if their file has changed; return what this replica then serves."""
        async with self._reloading:
            try:
                await asyncio.to_thread(self._load_if_changed)
            except Exception as error:  # the old weights serve on
                self._refused = error.detail if isinstance(error, ServeAppError) else f"{type(error).__name__}: {error}"
                logger.error(
                    "%s keeps its weights, as the new ones can't be loaded: %s",
                    self._model.name,
                    without_secrets(self._refused),
                )
            else:
                self._refused = None
        return await self.describe()

    async def describe(self) -> ReplicaModel:
        """Return what this replica serves."""
        loaded = self._model.or_none
        return self._model.describe(
            spec=self._spec,
            engine=f"{loaded.engine.name} {loaded.engine.precision}" if loaded else "",
            device=self._options.device,
            notes=(*loaded.facts.findings, *loaded.notes) if loaded else (),
            failure=self._misconfigured or self._refused,
            sha256=loaded.facts.sha256 if loaded else None,
            architecture=loaded.facts.architecture if loaded else None,
            max_difference=loaded.difference if loaded else None,
            cores=str(loaded.engine.layout) if loaded and loaded.engine.device == "cpu" else "",
            speeds=tuple(map(_speed, loaded.timings)) if loaded else (),
        )

    def _load(self, *, keep_last: bool) -> LoadedClassifier:
        from serve_app.models.images.loading import load_classifier

        loaded = load_classifier(
            self._spec,
            self._task,
            self._options,
            batch_sizes=warmed_sizes(self._options.batch_size),
            keep_last=keep_last,
        )
        for note in loaded.notes:
            logger.warning("%s: %s", loaded.facts.model_version, note)
        engine = loaded.engine
        logger.info("%s: %s, %s, %s", loaded.facts.model_version, engine.name, engine.precision, engine.layout)
        return loaded

    def _load_if_changed(self) -> None:
        from serve_app.models.images.loading import identity

        loaded = self._model.or_none
        found = identity(self._spec, self._task, self._options) if loaded else None
        if loaded is None or (loaded.facts.file_name, loaded.facts.sha256) != found:
            self._model.exchange(self._load(keep_last=False))

    def _run(self, pixels: list[np.ndarray]) -> list[ImageClassification]:
        import numpy as np

        self._batch_sizes.observe(len(pixels), {"task": self._task.name})
        loaded = self._model.get()  # once: scores and version belong together, also while weights are replaced
        return [_answer(row, loaded) for row in loaded.engine.probabilities(np.stack(pixels))]

    def _run_embedder(self, pixels: list[np.ndarray]) -> list[ImageEmbedding]:
        import numpy as np

        from serve_app.models.images.loading import embedding_engine, unit_length

        loaded = self._model.get()
        if self._embedder is None or self._embedder[0] is not loaded:
            self._embedder = loaded, embedding_engine(loaded)
        vectors = unit_length(self._embedder[1].features(np.stack(pixels)))
        return [ImageEmbedding(tuple(row.tolist()), loaded.facts.model_version) for row in vectors]


async def _or_error(answer: Awaitable[Answer]) -> Answer | ServeAppError:
    try:
        return await answer
    except ServeAppError as error:
        return error


def _speed(timing: Timing) -> EngineSpeed:
    ran = timing.difference is not None
    return EngineSpeed(
        f"{timing.engine} {timing.precision}",
        str(timing.layout),
        timing.lone_ms if ran else None,
        timing.batch_ms if ran else None,
        timing.difference,
        timing.failure,
    )


def warmed_sizes(batch_size: int) -> list[int]:
    """Return the batch sizes that a network is warmed with: powers of two, and the largest."""
    return [2**power for power in range(batch_size.bit_length()) if 2**power < batch_size] + [batch_size]


def _answer(row: np.ndarray, loaded: LoadedClassifier) -> ImageClassification:
    classes = loaded.facts.classes
    scores = {name: float(value) for name, value in zip(classes, row, strict=True)}
    return ImageClassification(LabelScores(classes[int(row.argmax())], scores), loaded.facts.model_version)


ContainerClassifier = serve.deployment(name="ContainerClassifier", max_ongoing_requests=16)(ClassifierReplica)
BeverageDetector = serve.deployment(name="BeverageDetector", max_ongoing_requests=16)(ClassifierReplica)
