"""`SpeakerDiarizer`: speaker diarization with our own pipeline or one from the hub."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pyannote.core import Annotation

from serve_app.errors import GpuMemoryError, InvalidRequest, ModelLoadingError, ProcessingError
from serve_app.models.devices import torch_device
from serve_app.models.diarization.hub_pipeline import load_hub_pipeline
from serve_app.models.diarization.local_pipeline import LocalPipeline
from serve_app.models.diarization.networks import Networks, embedded_networks
from serve_app.results import SAMPLE_RATE_HZ, Diarization, SpeakerTurn
from serve_app.sentences import Sentence

ProgressHook = Callable[[str, float], None]

_MIN_DURATION_S = 0.25  # a shorter file does not identify a voice
_SILENCE_PEAK = 1e-4  # -80 dBFS: below the noise of any microphone
# Share of the work at which each of pyannote's steps begins and ends, by time on one CPU core.
_STEP_SHARES = {
    "segmentation": (0.0, 0.45),
    "speaker_counting": (0.45, 0.45),
    "embeddings": (0.45, 0.97),
    "discrete_diarization": (0.97, 1.0),
}


class SpeakerDiarizer:
    """Diarizes recordings: with pyannote's SpeakerDiarization on given networks, or with a pipeline of the hub.

    One thread at a time: pyannote keeps state on the pipeline while it runs.
    """

    def __init__(
        self,
        *,
        networks: Networks | None = None,
        device: str = "cpu",
        num_threads: int | None = None,
        model_id: str | None = None,
        allow_code: bool = False,
        hf_token: str | None = None,
    ) -> None:
        """Load the models.

        Args:
            networks: of `networks.load_networks`; None: those that come with the project.
            device: as in `models.devices`.
            num_threads: of torch in this process; None leaves them as they are.
            model_id: pipeline of the hub, as ORG/NAME@COMMIT, or an absolute folder; then `networks` are not used.
            allow_code: whether the code in that pipeline's checkpoints may run; without it there is none.
            hf_token: for the hub.

        Raises:
            ModelLoadingError: a model is missing, broken or gated, or the device is not there.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        version = importlib.metadata.version("pyannote.audio")
        if model_id is None:
            networks = networks or embedded_networks()
            self._pipeline: Any = LocalPipeline(networks.segmentation, networks.embedding, networks.rule)
            self.model_version = f"pyannote-audio-{version} ({networks.version})"
        else:
            self._pipeline = load_hub_pipeline(model_id, hf_token, allow_code)
            self.model_version = f"pyannote-audio-{version} ({model_id})"
        try:
            self._pipeline.to(torch_device(device))
        except (RuntimeError, AssertionError) as error:
            raise ModelLoadingError(
                Sentence("Diarization can't run on device {device}: {reason}", device=repr(device), reason=str(error))
            ) from error

    def diarize(
        self,
        waveform: np.ndarray,
        *,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        on_progress: ProgressHook | None = None,
    ) -> Diarization:
        """Return who spoke when; no turns for silence and for less than a quarter of a second.

        Args:
            waveform: (samples,) float32, 16 kHz mono.
            num_speakers: how many there are, if known: the other two are then ignored. Where fewer voices are found,
                there is a note.
            min_speakers: at least this many.
            max_speakers: at most this many.
            on_progress: called several times a second with the step's name and the share of the work done, in [0, 1].
                An exception that it raises cancels the work and reaches the caller unchanged.

        Raises:
            InvalidRequest: the speaker counts contradict each other, or the waveform is malformed.
            GpuMemoryError: the device's memory ran out.
            ProcessingError: the pipeline failed otherwise.
        """
        _check_counts(num_speakers, min_speakers, max_speakers)
        if waveform.ndim != 1 or waveform.dtype.kind != "f":
            raise InvalidRequest(
                Sentence(
                    "A waveform is (samples,) of floats; got {shape} of {dtype}.",
                    shape=waveform.shape,
                    dtype=waveform.dtype,
                )
            )
        duration_s = waveform.size / SAMPLE_RATE_HZ
        if duration_s < _MIN_DURATION_S or float(np.abs(waveform).max()) < _SILENCE_PEAK:
            return Diarization((), self.model_version)
        if not np.isfinite(waveform.sum(dtype=np.float64)):
            raise InvalidRequest(Sentence("The waveform holds values that are not numbers."))
        tensor = torch.from_numpy(
            np.array(waveform, dtype=np.float32, copy=None if waveform.flags.writeable else True)
        )[None]
        counts: dict[str, int | None] = {"min_speakers": min_speakers, "max_speakers": max_speakers}
        if num_speakers is not None:
            counts = {"num_speakers": num_speakers}
        progress = _Progress(on_progress)
        file = {"waveform": tensor, "sample_rate": SAMPLE_RATE_HZ, "uri": "waveform"}
        try:
            output = self._pipeline(file, hook=progress, **counts)
        except Exception as error:
            if progress.interrupted is error:
                raise
            if isinstance(error, torch.OutOfMemoryError | MemoryError):
                raise GpuMemoryError(
                    Sentence(
                        "Diarization of {duration_s:.0f} s ran out of memory ({reason}). Run it on a CPU replica.",
                        duration_s=duration_s,
                        reason=str(error),
                    )
                ) from error
            raise ProcessingError(
                Sentence("Diarization failed ({kind}: {reason}).", kind=type(error).__name__, reason=str(error))
            ) from error
        # pipelines from before pyannote 4 return the annotation itself
        turns = turns_of(getattr(output, "speaker_diarization", output), duration_s)
        return Diarization(turns, self.model_version, _notes(turns, num_speakers, min_speakers, max_speakers))


class _Progress:
    """pyannote's hook: reports progress to the caller as one share, and keeps what the caller raises."""

    def __init__(self, on_progress: ProgressHook | None) -> None:
        self._on_progress = on_progress
        self._share = 0.0
        self.interrupted: BaseException | None = None

    def __call__(
        self, step: str, artifact: Any, file: Any = None, total: int | None = None, completed: int | None = None
    ) -> None:
        if self._on_progress is None:
            return
        first, last = _STEP_SHARES.get(step, (self._share, self._share))
        done = 1.0 if not total else min(1.0, (completed or 0) / total)
        self._share = float(max(self._share, first + (last - first) * done))
        try:
            self._on_progress(step, self._share)
        except BaseException as error:
            self.interrupted = error
            raise


def turns_of(annotation: Annotation, duration_s: float) -> tuple[SpeakerTurn, ...]:
    """Return an annotation's tracks as turns: clipped to the audio, in order, speakers numbered as they appear."""
    spans = []
    for segment, _, label in annotation.itertracks(yield_label=True):
        start_s, end_s = max(0.0, float(segment.start)), min(duration_s, float(segment.end))
        if start_s < end_s:
            spans.append((start_s, end_s, label))
    spans.sort(key=lambda span: (span[0], span[1], str(span[2])))
    names: dict[Any, str] = {}
    for _, _, label in spans:
        names.setdefault(label, f"SPEAKER_{len(names):02d}")
    return tuple(SpeakerTurn(start_s, end_s, names[label]) for start_s, end_s, label in spans)


def _check_counts(num_speakers: int | None, min_speakers: int | None, max_speakers: int | None) -> None:
    given = {"num_speakers": num_speakers, "min_speakers": min_speakers, "max_speakers": max_speakers}
    for name, value in given.items():
        if value is not None and value < 1:
            raise InvalidRequest(Sentence("{name} must be at least 1, got {value}.", name=name, value=value))
    low, high = min_speakers or 1, max_speakers or math.inf
    if low > high:
        raise InvalidRequest(
            Sentence(
                "min_speakers ({min_speakers}) is more than max_speakers ({max_speakers}).",
                min_speakers=min_speakers,
                max_speakers=max_speakers,
            )
        )
    if num_speakers is not None and not low <= num_speakers <= high:
        raise InvalidRequest(
            Sentence(
                "num_speakers ({num_speakers}) is not between min_speakers and max_speakers.", num_speakers=num_speakers
            )
        )


def _notes(
    turns: tuple[SpeakerTurn, ...], num_speakers: int | None, min_speakers: int | None, max_speakers: int | None
) -> tuple[str, ...]:
    found = len({turn.speaker_id for turn in turns})
    least = num_speakers or min_speakers
    if turns and least is not None and found < least:
        return (f"{least} speakers were asked for, but only {found} could be told apart.",)
    most = num_speakers or max_speakers
    if most is not None and found > most:
        return (f"{most} speakers were asked for, but {found} were found.",)
    return ()
