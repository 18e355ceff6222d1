"""`DrumTranscriber`: deployment that transcribes kick, snare and hi-hat, with their tempo, as General MIDI."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ray import serve

from serve_app.deployments.replica.batching import Batcher
from serve_app.deployments.replica.loaded_model import LoadedModel
from serve_app.deployments.replica.process import replica_device
from serve_app.deployments.replica.worker_threads import ShouldStop, WorkerThreads
from serve_app.errors import GpuMemoryError, ProcessingError, StorageError, storage_fault
from serve_app.models.drums.options import DrumModelOptions
from serve_app.models.options import ModelEnvironment
from serve_app.sentences import Sentence
from serve_app.services import DrumOptions, DrumTranscription, ReplicaModel

if TYPE_CHECKING:
    from serve_app.models.drums.activations import DrumActivations, Piece, PieceOutput
    from serve_app.models.drums.audio_file import Recording
    from serve_app.models.drums.checkpoint import LoadedDrums
    from serve_app.models.drums.config import InferenceConfig

# Of one recording, cut and waiting: the network never idles, and a long recording does not fill the queue.
_PIECES_AHEAD = 2
_DEFAULTS = DrumOptions()


@serve.deployment(name="DrumTranscriber", max_ongoing_requests=16)
class DrumTranscriber:
    """Transcribes recordings of drums.

    Batching: pieces of half a minute, of all requests, go through the network together, in the order in which they
    came; of one recording at most two wait. Memory: a recording takes up to 42 MB of samples (one of more than four
    minutes is read twice instead), 4 MB of pieces, and 9 MB an hour of activations. Memory of a replica, cold start:
    docs/operate/running.md, docs/performance.md.
    """

    def __init__(self, options: DrumModelOptions, environment: ModelEnvironment) -> None:
        import torch

        from serve_app.models.drums.checkpoint import load_drums

        self._options = options
        self._device = replica_device(options.device)
        torch.set_num_threads(options.num_threads)
        self._model: LoadedModel[LoadedDrums] = LoadedModel(
            "DrumTranscriber",
            lambda: load_drums(
                options.model,
                cache_dir=environment.models_dir,
                device=self._device,
                hf_token=environment.hf_token,
            ),
            lambda loaded: loaded.model_version,
        )
        self._readers = WorkerThreads(options.num_readers, "drum-reader")
        self._network = WorkerThreads(1, "drum-network")
        self._pieces: Batcher[Any, PieceOutput] = Batcher(
            lambda pieces: self._network.run(lambda should_stop: self._run(pieces)),
            max_items=options.batch_size,
            wait_s=options.batch_wait_s,
            isolate=(ProcessingError, GpuMemoryError),
        )

    def check_health(self) -> None:
        """Raise once the model has been missing for a while."""
        self._model.check_health()

    async def describe(self) -> ReplicaModel:
        """Return what this replica serves."""
        return self._model.describe(spec=self._options.model, engine="pytorch", device=self._device)

    async def model_version(self) -> str:
        """Return the weights' name and hash; ModelLoadingError where no model is loaded."""
        return self._model.get().model_version

    async def transcribe(
        self, source: str | bytes, options: DrumOptions = _DEFAULTS, filename: str = "drums"
    ) -> DrumTranscription:
        """Return the strokes of a recording.

        Args:
            source: path, fsspec URL, or a file's bytes.
            options: of the caller.
            filename: of the recording, for the log.

        Raises:
            InvalidRequest: an option is wrong.
            AudioExtractionError: the file has no sound that can be decoded.
            StorageError: the file can't be read.
            ModelLoadingError: no model could be loaded.
            GpuMemoryError: out of GPU memory, with one piece alone too.
            ProcessingError: the model failed.
        """
        from serve_app.models.drums.config import checked_bpm

        loaded = self._model.get()
        config, bpm = _config(options), checked_bpm(options.bpm)
        started = time.monotonic()
        has_left = threading.Event()
        try:
            recording = await self._readers.run(lambda should_stop: _read(source, options.audio_track, has_left.is_set))
            activations = await self._activations(recording, loaded, has_left)
        except asyncio.CancelledError:
            has_left.set()
            raise
        except OSError as error:
            raise storage_fault(error) or StorageError(
                Sentence("the stored file can't be read ({kind})", kind=type(error).__name__)
            ) from error

        def finished(should_stop: ShouldStop) -> DrumTranscription:
            from serve_app.models.drums.transcription import finish, render

            drums = finish(recording, activations, config, loaded, bpm)
            files = render(drums, filename, config, loaded, with_picture=options.with_picture)
            return DrumTranscription(drums.transcript, *files, time.monotonic() - started)

        return await self._readers.run(finished)

    async def _activations(
        self, recording: Recording, loaded: LoadedDrums, has_left: threading.Event
    ) -> DrumActivations:
        """Run the network over the pieces of a recording, and join its outputs."""
        stitcher = loaded.stitcher()
        pieces = _Pieces(loaded.pieces(recording), has_left)
        ahead: deque[tuple[Piece, asyncio.Task[PieceOutput]]] = deque()
        try:
            while (piece := await self._readers.run(lambda should_stop: pieces.next())) is not None:
                if len(ahead) == _PIECES_AHEAD:
                    earlier, task = ahead.popleft()
                    stitcher.add(earlier, await task)
                ahead.append((piece, asyncio.create_task(self._pieces.submit(piece.bands))))
            while ahead:
                earlier, task = ahead.popleft()
                stitcher.add(earlier, await task)
        finally:
            for _, task in ahead:
                task.cancel()
            await asyncio.gather(*(task for _, task in ahead), return_exceptions=True)
            await asyncio.shield(asyncio.to_thread(pieces.close))
        return await self._readers.run(lambda should_stop: stitcher.finish(loaded.num_frames(recording)))

    def _run(self, pieces: list[Any]) -> list[PieceOutput]:
        import torch

        from serve_app.models.drums.activations import run_network
        from serve_app.models.gpu_memory import gpu_errors

        is_half = self._options.half and self._device.startswith("cuda")
        precision = torch.autocast("cuda", torch.float16) if is_half else nullcontext()
        with gpu_errors(Sentence("transcribing a batch of drums ({num})", num=len(pieces))), precision:
            return run_network(self._model.get().network, pieces)


class _Pieces:
    """The pieces of a recording, one at a time, for any thread; closing ends a decoder that is awaited."""

    def __init__(self, pieces: Iterator[Piece], has_left: threading.Event) -> None:
        self._pieces = pieces
        self._has_left = has_left
        self._lock = threading.Lock()

    def next(self) -> Piece | None:
        """Return the next piece; None at the end."""
        with self._lock:
            return next(self._pieces, None)

    def close(self) -> None:
        """Release the file; there is no next piece."""
        self._has_left.set()
        with self._lock:
            self._pieces = iter(())


def _read(source: str | bytes, audio_track: int | None, should_stop: ShouldStop) -> Recording:
    from serve_app.media.caged_audio import CagedAudioStream
    from serve_app.media.downmix import equal_weights
    from serve_app.models.drums.audio_file import MAX_DURATION_S, measured
    from serve_app.models.drums.bands import SAMPLE_RATE_HZ

    stream = CagedAudioStream(
        source,
        sample_rate_hz=SAMPLE_RATE_HZ,
        max_duration_s=MAX_DURATION_S,
        weigh=equal_weights,
        audio_track=audio_track,
        should_stop=should_stop,
    )
    return measured(stream)


def _config(options: DrumOptions) -> InferenceConfig:
    from serve_app.models.drums.config import InferenceConfig

    config = InferenceConfig()
    config.grid_division.update({str(drum): division for drum, division in options.grid_division.items()})
    config.thresholds.update({str(drum): threshold for drum, threshold in options.thresholds.items()})
    config.check()
    return config
