from __future__ import annotations

import pytest
from ray.serve.schema import DeploymentStatus, DeploymentStatusOverview, ReplicaState

from serve_app.flows.health import HEALTHY, USABLE, deployment_state


@pytest.mark.parametrize(
    ("status", "running", "state", "is_usable"),
    [
        (DeploymentStatus.HEALTHY, 1, "HEALTHY", True),
        (DeploymentStatus.HEALTHY, 0, "HEALTHY", True),  # scaled to zero
        (DeploymentStatus.UPSCALING, 0, "HEALTHY", True),  # from zero, for a request that waits
        (DeploymentStatus.UPSCALING, 1, "HEALTHY", True),
        (DeploymentStatus.DOWNSCALING, 1, "HEALTHY", True),
        (DeploymentStatus.UPDATING, 1, "HEALTHY", True),  # an old replica still answers
        (DeploymentStatus.UPDATING, 0, "UPDATING", True),  # the graph is starting: not ready, but worth waiting for
        (DeploymentStatus.UNHEALTHY, 1, "UNHEALTHY", False),
        (DeploymentStatus.DEPLOY_FAILED, 0, "DEPLOY_FAILED", False),
    ],
)
def test_states(status: DeploymentStatus, running: int, state: str, is_usable: bool) -> None:
    overview = DeploymentStatusOverview(
        status=status, status_trigger="UNSPECIFIED", replica_states={ReplicaState.RUNNING: running}, message=""
    )
    assert deployment_state(overview) == state
    assert (state in USABLE) == is_usable
    assert deployment_state(None) not in (*USABLE, HEALTHY)
