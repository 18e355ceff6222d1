"""Options of the graph's own workers: the sections `job_runner` and `ingress` of `args:`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from serve_app.models.options import Count, Options, PositiveSeconds, WaitSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions(Options):
    """The job queue's consumers; they scale between the two numbers of replicas on the depth of the job table.

    Attributes:
        min_replicas: the smallest number of replicas.
        max_replicas: the largest number of replicas.
        upscale_delay_s: how long the queue must be deep before a replica is added.
        downscale_delay_s: how long it must be short before one is taken away.
        jobs_per_replica: jobs that one replica works on at once.
        lease_s: how long a dead runner's jobs wait for another.
        poll_interval_s: how often an idle runner looks for a job.
        max_attempts: failed tries after which a job has failed.
        room_wait_s: how long after its first start a job may wait for room on the disk for its file; then it fails.
    """

    min_replicas: Annotated[int, Ge(0)] = 1
    max_replicas: Count = 3
    upscale_delay_s: WaitSeconds = 2.0
    downscale_delay_s: WaitSeconds = 60.0
    jobs_per_replica: Count = 1
    lease_s: PositiveSeconds = 15.0
    poll_interval_s: PositiveSeconds = 0.5
    max_attempts: Count = 3
    room_wait_s: PositiveSeconds = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressOptions(Options):
    """HTTP: work that callers wait for, in one ingress replica at once.

    Attributes:
        max_direct_analyses: synchronous analyses; more are answered 503.
        max_direct_transcriptions: uploads in transcription; more are answered 503.
        max_direct_pieces: pieces of one upload.
        max_direct_drums: requests in drum transcription; more are answered 503.
        max_direct_images: requests in classification; more are answered 503.
        max_image_calls: calls of one classifier's deployment; the pictures that wait meanwhile share the next ones.
    """

    max_direct_analyses: Count = 2
    max_direct_transcriptions: Count = 32
    max_direct_pieces: Count = 16
    max_direct_drums: Count = 16
    max_direct_images: Count = 128
    max_image_calls: Count = 4
