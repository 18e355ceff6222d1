"""The config that the load tests serve."""

from __future__ import annotations

from pathlib import Path

import yaml

from loadtests.whisper_graph import Layout, write_config
from serve_app.launch.config_check import check_config


def test_config_is_valid_and_holds_the_layout(tmp_path: Path) -> None:
    path = write_config(tmp_path / "c.yaml", "/models/tiny", Layout(replicas=4, threads=1, batch_size=4))
    config = yaml.safe_load(path.read_text())
    check_config(config)
    [application] = config["applications"]
    assert application["args"]["whisper"]["models"] == ["/models/tiny"]
    assert application["args"]["whisper"]["faster_whisper"] == {"num_threads": 1, "batch_size": 4}
    [deployment] = [each for each in application["deployments"] if each["name"] == "FasterWhisper"]
    assert deployment["autoscaling_config"] == {"min_replicas": 4, "max_replicas": 4}
    assert "num_replicas" not in deployment
