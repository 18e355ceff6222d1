"""A replica without a model: told to every caller, then to Serve.

A constructor that fails is repeated by Serve in silence, and callers only see that nothing is up. So a model that can't
be loaded does not fail it: every call is told why, and after half a minute the health check fails, so that Serve shows
the deployment as unhealthy and starts another replica, which tries again.
"""

from __future__ import annotations

import time

from serve_app.errors import ModelLoadingError

_TELL_S = 30.0


class LoadFailure:
    """Why a replica could not load its model; nothing as long as `error` is None."""

    def __init__(self) -> None:
        self.error: ModelLoadingError | None = None
        self._started_at = time.monotonic()

    @property
    def uptime_s(self) -> float:
        """Seconds since the replica's constructor began."""
        return time.monotonic() - self._started_at

    def check_health(self) -> None:
        """Raise once the failure has been told for a while."""
        if self.error is not None and self.uptime_s > _TELL_S:
            raise RuntimeError(self.error.detail)

    def raised(self) -> ModelLoadingError:
        """Return what a call is told that finds no model."""
        return self.error or ModelLoadingError("no model is loaded")
