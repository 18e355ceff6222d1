"""`QueueDepthPolicy`: autoscaling of JobRunner by the depth of the job table.

Serve pickles this module by value into its controller, which calls the policy about once a second in its event loop.
The table is read in a thread, one read at a time; a call returns the number of the last read.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Any

from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from sqlalchemy.engine import make_url

from serve_app.workers.options import RunnerOptions

if TYPE_CHECKING:
    from serve_app.jobs.store import JobStore

logger = logging.getLogger("ray.serve")


class QueueDepthPolicy:
    """Asks for one replica per `jobs_per_replica` jobs that wait or run; Serve limits it to the configured range.

    Args:
        database_url: of the job store; None: from the controller's environment. Serve shows the policy's arguments in
            its status, so it must hold no password.
        jobs_per_replica: jobs in work at once in one replica.
        poll_interval_s: how often the table is read.
    """

    def __init__(self, database_url: str | None, jobs_per_replica: int = 1, poll_interval_s: float = 1.0) -> None:
        self._database_url = database_url
        self._jobs_per_replica = jobs_per_replica
        self._poll_interval_s = poll_interval_s
        self._store: JobStore | None = None
        self._reading: asyncio.Task[None] | None = None
        self._read_at = -math.inf
        self._num_jobs: int | None = None
        self._is_failing = False

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """Return the wanted number of replicas; until the first read, the present number."""
        now = time.monotonic()
        if (self._reading is None or self._reading.done()) and now - self._read_at >= self._poll_interval_s:
            self._read_at = now
            # a task for each read: a loop would keep this policy alive after a redeploy
            self._reading = asyncio.get_running_loop().create_task(self._read())
        if self._num_jobs is None:
            return context.target_num_replicas, {}
        return math.ceil(self._num_jobs / self._jobs_per_replica), {"num_jobs": self._num_jobs}

    async def _read(self) -> None:
        try:
            self._num_jobs = await asyncio.to_thread(self._count)
            self._is_failing = False
        except Exception as error:
            if not self._is_failing:  # log once, not once a second
                logger.warning("the job table can't be read, JobRunner is not scaled: %s", type(error).__name__)
            self._is_failing = True

    def _count(self) -> int:
        if self._store is None:
            from serve_app.jobs.store import JobStore
            from serve_app.settings import Settings

            url = self._database_url or Settings.from_environment().database_url.get_secret_value()
            store = JobStore(url)
            store.create_schema()  # the controller reads before the first runner has started
            self._store = store
        depth = self._store.queue_depth()
        return depth.queued + depth.running


def by_queue_depth(options: RunnerOptions, database_url: str) -> AutoscalingConfig:
    """Return the autoscaling of the runners."""
    shown = None if make_url(database_url).password else database_url
    return AutoscalingConfig(
        min_replicas=options.min_replicas,
        max_replicas=options.max_replicas,
        initial_replicas=max(options.min_replicas, 1),
        upscale_delay_s=options.upscale_delay_s,
        downscale_delay_s=options.downscale_delay_s,
        policy=AutoscalingPolicy(  # type: ignore[no-untyped-call]  # Ray leaves its constructor untyped
            policy_function=QueueDepthPolicy,
            policy_kwargs={"database_url": shown, "jobs_per_replica": options.jobs_per_replica},
        ),
    )
