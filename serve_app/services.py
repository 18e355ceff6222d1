"""`Services`: Protocols of all that the API layer calls; the seam between HTTP and Ray.

The ingress implements them over the job store and deployment handles; tests of the API implement them in memory.
Every method may raise any error of `serve_app.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from typing import BinaryIO, Protocol

from serve_app.analysis.result import AnalysisResult
from serve_app.jobs.record import (
    AnalysisOptions,
    ApiKey,
    Delivery,
    Job,
    JobEvent,
    JobPage,
    JobRequest,
    JobStatus,
    MusicRequest,
    Scope,
    Visitor,
)
from serve_app.results import Drum, DrumTranscript, LabelScores, Segment, SpeechTask, Transcript


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A stored job, and the seconds until it should be done; None until speeds have been measured."""

    job: Job
    estimated_s: float | None


@dataclass(frozen=True)
class AnalysisRequest(AnalysisOptions):
    """One synchronous analysis: the same work as a video job, answered at once.

    Attributes:
        source: address of the file; or an upload, seekable, at its start, open until the call returns.
        backend: None: the first that is configured for video jobs, healthy and fit.
        prompt: text that the recording continues, or whose spelling it shares.
        align: whether to align words with the audio.
    """

    source: BinaryIO | str
    _: KW_ONLY
    backend: str | None = None
    prompt: str | None = None
    align: bool = True


class KeyService(Protocol):
    """API keys."""

    async def find(self, secret: str) -> ApiKey | None:
        """Return the key of a secret; None: there is none, or it was revoked. StorageUnavailable: nobody knows."""

    async def exist(self) -> bool:
        """Return whether there is any valid key; StorageUnavailable."""


class JobService(Protocol):
    """Durable jobs of every kind. `key` is the caller's; None: keys are off, and everybody may see and do all."""

    async def submit(self, request: JobRequest, *, key: ApiKey | None = None) -> SubmittedJob:
        """Store a job, or return the one that has this id and request.

        Raises:
            JobConflict, Overloaded, CallbackRefused.
            RateLimited: the key has as many jobs in work as it may.
        """

    async def get(self, job_id: str) -> Job:
        """Return one job, with its result if it has one; JobNotFound."""

    async def status(self, job_id: str) -> JobStatus:
        """Return a job's state; JobNotFound."""

    async def require_visible(
        self, job_id: str, visitor: str | None, key: ApiKey | None = None, scope: Scope = Scope.READ
    ) -> None:
        """Raise JobNotFound where this caller must not see the job (SUBMIT: not change it), or there is none.

        `visitor` is None without a cookie.
        """

    async def visitor_secret(self) -> str:
        """Return the secret that signs visitors' cookies: the same for every replica."""

    async def queue_position(self, job_id: str) -> int | None:
        """Return how many jobs will be taken before this one (0: next), None once it was taken."""

    async def estimate_s(self, job_id: str) -> float | None:
        """Return the seconds until a job should be done, with its wait for others; None until speeds were measured."""

    async def estimates_s(self, page: Sequence[Job]) -> dict[str, float]:
        """Return the seconds until each job that is in work should be done, by its id; unknown ones are left out."""

    async def page(
        self,
        status: JobStatus | None,
        limit: int,
        cursor: str | None,
        visitor: str | None = None,
        *,
        key: ApiKey | None = None,
    ) -> JobPage:
        """Return jobs, newest first, without their results, and without other keys' and other visitors' jobs."""

    async def cancel(self, job_id: str) -> Job:
        """Ask for a job's end; at once where it still waits. JobConflict once it has ended otherwise."""

    async def delete(self, job_id: str) -> None:
        """Remove an ended job with its artefacts; JobConflict while it is active."""

    def events(self, job_id: str, after_seq: int) -> AsyncIterator[JobEvent]:
        """Yield a job's events with `seq > after_seq`, as they come, until it has ended."""

    async def deliveries(self, job_id: str) -> list[Delivery]:
        """Return what was sent, or is to be sent, to the job's callback, in order, without the result."""

    async def replay(self, job_id: str) -> int:
        """Queue all of a job's deliveries again; return how many."""


class MusicFile(StrEnum):
    """A file of a finished piece, by its name in the artefact store."""

    PICTURE = "picture.jpg"
    CAPTION = "caption.json"
    PLAN = "plan.json"
    MP3 = "music.mp3"
    FLAC = "music.flac"
    MIDI = "music.mid"

    @property
    def media_type(self) -> str:
        """Its type in answers and in the store."""
        return _MEDIA_TYPES[self.rpartition(".")[2]]


_MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "mid": "audio/midi",
    "jpg": "image/jpeg",
    "json": "application/json",
}


class StoredFile(Protocol):
    """A file of the artefact store."""

    @property
    def num_bytes(self) -> int:
        """Return its length in bytes."""

    @property
    def etag(self) -> str:
        """Return a text that changes when the content changes."""

    def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to, but not including, `end`; StorageError."""

    async def signed_url(self, filename: str) -> str | None:
        """Return an address for a download under this name, valid for minutes; None where the store has none."""


class MusicService(Protocol):
    """Pieces of music from pictures: durable jobs, each a visitor's, and the caller's `key`'s as in `JobService`."""

    async def submit(
        self, request: MusicRequest, upload: BinaryIO | None, visitor: Visitor, key: ApiKey | None = None
    ) -> SubmittedJob:
        """Store a job, or return the one that has this id and request.

        Args:
            request: `upload_sha256` is filled in here.
            upload: the picture, seekable, at its start, open until the call returns; None: `image_url` names it.
            visitor, key: whose piece it will be.

        Raises:
            ImageUnreadable, ImageTooLarge: by the upload's header.
            QuotaExceeded: the visitor has too many pieces in work, or made too many within the hour.
            JobConflict, Overloaded, CallbackRefused, RateLimited: as `JobService.submit`.
        """

    async def another_version(self, job_id: str, visitor: Visitor, key: ApiKey | None = None) -> SubmittedJob:
        """Submit the piece's picture and options again, with another seed; errors as `submit`, and JobNotFound."""

    async def get(self, job_id: str, visitor: str | None, key: ApiKey | None = None) -> Job:
        """Return a piece's job, with its result if it has one; JobNotFound also where it is another caller's."""

    async def pieces(self, visitor: str, limit: int, cursor: str | None, key: ApiKey | None = None) -> JobPage:
        """Return the visitor's pieces, newest first, without their results."""

    async def delete(self, job_id: str, visitor: str | None, key: ApiKey | None = None) -> None:
        """Cancel a piece that is not ready, and remove it with its files; JobNotFound."""

    async def open(self, job_id: str, file: MusicFile, visitor: str | None, key: ApiKey | None = None) -> StoredFile:
        """Return a file of a finished piece; JobNotFound, JobConflict before its end, MusicFileMissing."""


class AnalysisService(Protocol):
    """Synchronous video analysis."""

    async def analyze(self, request: AnalysisRequest) -> AnalysisResult:
        """Return the result of the analysis; MediaError, ModelError, Overloaded."""


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """An uploaded recording to transcribe or translate.

    Attributes:
        file: seekable, at its start, open until the call returns.
        filename: for display only.
        language: "auto" or a two-letter code.
        backend: None: the first healthy one in the configured order.
        prompt: text that the recording continues, or whose spelling it shares.
        align: whether to align words with the audio, where that is deployed.
        enable_gpu: false: it must not use GPU replicas.
        max_workers: the most of its pieces processed at once; None: as many as the operator allows.
        notes: on the request, for the answer.
        audio_track: number of the audio track, from 0; None: the default one, or the first that is not silent.
    """

    file: BinaryIO
    filename: str
    language: str = "auto"
    backend: str | None = None
    prompt: str | None = None
    align: bool = True
    task: SpeechTask = SpeechTask.TRANSCRIBE
    enable_gpu: bool = True
    max_workers: int | None = None
    notes: tuple[str, ...] = ()
    audio_track: int | None = None


@dataclass(frozen=True, slots=True)
class Transcription:
    """A whole recording's words.

    Attributes:
        duration_s: of the decoded audio.
        stage_seconds: how long each stage took; `backend_start` where a replica had to be started for this request.
    """

    transcript: Transcript
    duration_s: float
    backend: str
    stage_seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SpeechBackend:
    """A speech backend that the operator configured.

    Attributes:
        name: as requests name it.
        model: the model that it loads first (Hugging Face id, path, `embedded:…`).
        healthy: whether it takes requests now; a backend that is scaled to zero does.
        created_at: POSIX seconds of the graph's start.
    """

    name: str
    model: str
    healthy: bool
    created_at: float


class SpeechService(Protocol):
    """Synchronous transcription of uploaded recordings."""

    async def transcribe(self, request: TranscriptionRequest) -> Transcription:
        """Return the words, or their translation.

        Raises:
            InvalidRequest: no such backend.
            Unavailable: it is not healthy, or too many requests are under way.
            TaskUnsupported: it can't translate, or none can.
            MediaError: the recording is unusable.
            ModelError: the model failed.
        """

    def stream(self, request: TranscriptionRequest) -> AsyncIterator[Segment | Transcription]:
        """Yield segments in order of time as soon as they are known, then the whole; errors as `transcribe`."""

    async def backends(self) -> Sequence[SpeechBackend]:
        """Return the configured backends, in order of preference."""


@dataclass(frozen=True, slots=True)
class DrumRecording:
    """An uploaded recording of drums: seekable, at its start, open until the call returns; its name for display."""

    file: BinaryIO
    filename: str


@dataclass(frozen=True, slots=True)
class DrumOptions:
    """Options of drum transcripts; the model has defaults for what is left out.

    Attributes:
        bpm: None: detected.
        grid_division: by drum: into how many parts the grid divides a whole note; 16: sixteenths.
        thresholds: by drum: the least activation that is a hit, between 0 and 1.
        with_picture: whether to draw activations and hits.
        audio_track: number of the audio track, from 0; None: the default one, or the first that is not silent.
    """

    bpm: float | None = None
    grid_division: Mapping[Drum, int] = field(default_factory=dict)
    thresholds: Mapping[Drum, float] = field(default_factory=dict)
    with_picture: bool = False
    audio_track: int | None = None


@dataclass(frozen=True, slots=True)
class DrumTranscription:
    """A recording's drums: hits, the same as a General MIDI file and as text, a PNG where one was asked for.

    `took_s` includes the wait for a replica.
    """

    transcript: DrumTranscript
    midi: bytes
    text_log: str
    picture: bytes | None
    took_s: float


class DrumService(Protocol):
    """Synchronous transcription of uploaded drums."""

    async def transcribe(
        self, recordings: Sequence[DrumRecording], options: DrumOptions
    ) -> Sequence[DrumTranscription | Exception]:
        """Return an answer for each recording, in order: its transcription, or the error that it failed with.

        Raises:
            Unavailable: too many requests are under way; nothing was begun.
        """


@dataclass(frozen=True, slots=True)
class ImageClassification:
    """The class of a picture; `model_version` is the weights' file name and the beginning of its SHA-256."""

    scores: LabelScores
    model_version: str


@dataclass(frozen=True, slots=True)
class ImageEmbedding:
    """A picture's features: the backbone's output, of length 1 (L2); `model_version` as of `ImageClassification`."""

    vector: tuple[float, ...]
    model_version: str


class ImageService(Protocol):
    """Classification and embedding of pictures."""

    async def classify(self, task: str, images: Sequence[BinaryIO | str]) -> Sequence[ImageClassification | Exception]:
        """Return an answer for each picture, in order: its classification, or the error that it failed with.

        Args:
            task: "container" or "beverage".
            images: files, seekable, at their start, open until the call returns; or addresses.

        Raises:
            Unavailable: too many requests are under way; nothing was begun.
        """

    async def embed(self, model: str, images: Sequence[BinaryIO | str]) -> Sequence[ImageEmbedding | Exception]:
        """Return an answer for each picture, in order: its features, or the error that it failed with.

        Args:
            model: the task whose backbone computes them; the others as of `classify`.

        Raises:
            Unavailable: as of `classify`.
        """


@dataclass(frozen=True, slots=True)
class EngineSpeed:
    """How fast an engine ran a model on a replica's machine; `api.weights.EngineSpeedView` describes each field."""

    engine: str
    cores: str
    lone_ms: float | None
    batch_ms: float | None
    max_difference: float | None
    failure: str


@dataclass(frozen=True, slots=True)
class ReplicaModel:
    """What one replica serves; `api.weights.ReplicaModelView` describes each field."""

    replica: str
    node: str
    pid: int
    spec: str
    model_version: str | None
    sha256: str | None
    architecture: str | None
    engine: str | None
    device: str
    warm: bool
    loaded_at: float | None  # POSIX seconds
    max_difference: float | None
    notes: tuple[str, ...]
    failure: str | None  # why it does not serve the weights that the configuration names now; None: it does
    cores: str = ""
    speeds: tuple[EngineSpeed, ...] = ()


@dataclass(frozen=True, slots=True)
class DeployedModel:
    """A model of the graph; `api.weights.DeployedModelView` describes each field."""

    name: str
    deployment: str
    state: str
    replicas: tuple[ReplicaModel, ...]
    reloads: bool = True


class ModelService(Protocol):
    """What is loaded where."""

    def names(self) -> Sequence[str]:
        """Return the short names of the models whose weights can be replaced."""

    async def models(self) -> Sequence[DeployedModel]:
        """Return the models of the graph; replicas that do not answer in time are left out, and none is started."""

    async def reload(self, name: str) -> Sequence[DeployedModel]:
        """Reload the weights of one of `names()` in every replica, and return what serves then.

        Raises:
            Unavailable: not every replica answered in time.
        """


NOT_INSTALLED = "NOT_INSTALLED"
"""State of a deployment that is left out because its libraries are not installed; what to install follows."""


class HealthService(Protocol):
    """State of the graph."""

    async def deployments(self) -> Mapping[str, str]:
        """Return every enabled deployment's state by name; "HEALTHY" takes requests, one that begins with
        `NOT_INSTALLED` was left out."""

    async def storage_faults(self) -> Mapping[str, str]:
        """Return what is wrong with the job table, the artefact store, the disk or the runners; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the API layer needs."""

    jobs: JobService
    music: MusicService
    analysis: AnalysisService
    speech: SpeechService
    drums: DrumService
    images: ImageService
    models: ModelService
    health: HealthService
    keys: KeyService
