"""`Captioner`: deployment that cleans and measures pictures, and captions them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import monotonic

from ray import serve

from serve_app.deployments.replica.batching import Batcher
from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.process import replica_device
from serve_app.deployments.replica.worker_threads import WorkerThreads
from serve_app.errors import GpuMemoryError, ModelError, ModelLoadingError, ProcessingError, shown_reason
from serve_app.extras import require
from serve_app.models.captions.options import CaptionerName, CaptionerOptions
from serve_app.models.options import ModelEnvironment
from serve_app.results import Caption, PictureFeatures, PreparedPicture
from serve_app.sentences import Sentence, joined
from serve_app.services import ReplicaModel

logger = logging.getLogger("ray.serve")

_NUM_DECODERS = 2
_PAUSE_S = 60.0  # of an endpoint that failed

Captions = Callable[[bytes, PictureFeatures], Awaitable[Caption]]


@dataclass(frozen=True, slots=True)
class _LoadedCaptioner:
    """A captioner of the configuration: `captions`, or why it could not be loaded."""

    name: CaptionerName
    model_version: str
    captions: Captions | None
    failure: ModelError | None = None


@serve.deployment(name="Captioner", max_ongoing_requests=16)
class Captioner:
    """Prepares and captions pictures. Memory and cold start: docs/models/captions.md.

    Files are decoded in threads. Pictures that wait for the local model share its next call. A captioner that can't be
    loaded is passed over where a later one is; without any, every call raises the reason. So that a burst of pictures
    does not wait for a dead endpoint, it is passed over for a minute where another captioner follows it.
    """

    def __init__(self, options: CaptionerOptions, environment: ModelEnvironment, max_pixels: int) -> None:
        self._options = options
        self._environment = environment
        self._max_pixels = max_pixels
        self._device = replica_device(options.device)
        self._chat_failure, self._chat_again_at = "", 0.0
        self._decoders = WorkerThreads(_NUM_DECODERS, "picture-decoder")
        self._network = WorkerThreads(1, "caption-network")
        self._model = LoadedModel(
            "Captioner",
            self._load,
            lambda loaded: ", ".join(each.model_version for each in loaded if each.captions is not None),
        )

    def check_health(self) -> None:
        """Raise once there has been no captioner for a while."""
        self._model.check_health()

    async def prepare(self, image: bytes) -> PreparedPicture:
        """Return a caller's picture, cleaned and measured; ImageUnreadable, ImageTooLarge."""
        from serve_app.models.caged_pictures import prepare_caged

        return await self._decoders.run(
            lambda should_stop: prepare_caged(image, max_pixels=self._max_pixels, should_stop=should_stop)
        )

    async def caption(self, jpeg: bytes, features: PictureFeatures) -> Caption:
        """Return what a prepared picture shows, by the first captioner of the configuration that answers.

        Raises:
            ModelError: the last one's, where none of them answers.
        """
        failures: list[tuple[str, ModelError]] = []
        for captioner in self._model.get():
            if captioner.captions is None:
                failures.append((captioner.name, captioner.failure or ModelLoadingError()))
                continue
            try:
                caption = await captioner.captions(jpeg, features)
            except ModelError as error:
                logger.warning("Captioner: %s gave no caption: %s", captioner.name, error.detail)
                failures.append((captioner.name, error))
            else:
                reasons = [
                    Sentence("{engine} failed: {why}", engine=name, why=shown_reason(error)) for name, error in failures
                ]
                return replace(caption, fallback_reason=joined("; ", reasons) or None)
        raise failures[-1][1]

    async def describe(self) -> ReplicaModel:
        """Return what this replica serves; the notes name the captioners that could not be loaded."""
        loaded = self._model.or_none or ()
        return self._model.describe(
            spec=" > ".join(self._options.captioners),
            engine=", ".join(each.name for each in loaded if each.captions is not None),
            device=self._device,
            notes=tuple(joined(": ", (each.name, each.failure.detail)) for each in loaded if each.failure is not None),
        )

    def _load(self) -> tuple[_LoadedCaptioner, ...]:
        # here, not in the first call, which would wait for it
        from serve_app.models import caged_pictures  # noqa: F401

        loaded = tuple(self._load_or_note(name) for name in self._options.captioners)
        if all(each.failure is not None for each in loaded):
            failures = [joined(": ", (each.name, each.failure.detail)) for each in loaded if each.failure]
            raise ModelLoadingError(joined("; ", failures))
        return loaded

    def _load_or_note(self, name: CaptionerName) -> _LoadedCaptioner:
        load = {"features": self._features, "chat": self._chat, "transformers": self._local}[name]
        try:
            return load()
        except ModelError as error:
            logger.error("Captioner: %s can't be loaded: %s", name, error.detail)
            return _LoadedCaptioner(name, "", None, error)

    def _features(self) -> _LoadedCaptioner:
        from serve_app.models.captions.embedded import MODEL_VERSION, describe_picture

        async def captions(jpeg: bytes, features: PictureFeatures) -> Caption:
            return await self._decoders.run(lambda should_stop: describe_picture(jpeg, features))

        return _LoadedCaptioner("features", MODEL_VERSION, captions)

    def _chat(self) -> _LoadedCaptioner:
        from serve_app.models.captions.chat import ChatCaptioner
        from serve_app.models.captions.chat_failures import EndpointFailure
        from serve_app.models.remote_http import PassingFailure

        chat = ChatCaptioner(self._options.chat, self._environment.caption_api_key)

        async def captions(jpeg: bytes, features: PictureFeatures) -> Caption:
            if monotonic() < self._chat_again_at:
                raise self._chat_paused()
            try:
                return await chat.caption(jpeg, features)
            except (EndpointFailure, PassingFailure) as error:
                self._chat_failure, self._chat_again_at = error.detail, monotonic() + _PAUSE_S
                raise self._chat_paused() from error

        is_last = self._options.captioners[-1] == "chat"
        return _LoadedCaptioner("chat", chat.model_version, chat.caption if is_last else captions)

    def _chat_paused(self) -> ProcessingError:
        rest_s = self._chat_again_at - monotonic()
        return ProcessingError(
            Sentence("{failure}; it is asked again in {rest_s:.0f} s", failure=self._chat_failure, rest_s=rest_s)
        )

    def _local(self) -> _LoadedCaptioner:
        if self._options.model_id is None:
            raise ModelLoadingError(
                Sentence("The captioner transformers needs captions.model_id: an id of the hub or a folder")
            )
        require("LocalCaptioner")
        from serve_app.models.captions.local import LocalCaptioner

        revision = f"@{self._options.revision}" if self._options.revision else ""
        local = LocalCaptioner(
            self._options.model_id + revision,
            device=self._device,
            num_threads=self._options.num_threads,
            max_new_tokens=self._options.max_new_tokens,
            cache_dir=self._environment.models_dir,
            hf_token=self._environment.hf_token,
        )
        batches: Batcher[tuple[bytes, PictureFeatures], Caption] = Batcher(
            lambda pictures: self._network.run(lambda should_stop: local.captions(pictures)),
            max_items=self._options.batch_size,
            wait_s=self._options.batch_wait_s,
            isolate=(ProcessingError, GpuMemoryError),
        )
        return _LoadedCaptioner(
            "transformers", local.model_version, lambda jpeg, features: batches.submit((jpeg, features))
        )
