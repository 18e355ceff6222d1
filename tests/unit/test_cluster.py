"""The KubeRay manifest says what the config file says."""

from __future__ import annotations

from pathlib import Path

import yaml

from serve_app.launch.config_check import check_config

ROOT = Path(__file__).parents[2]


def test_the_manifest_carries_the_cluster_config() -> None:
    manifest = yaml.safe_load((ROOT / "cluster" / "rayservice.yaml").read_text())
    config = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    assert config == yaml.safe_load((ROOT / "configs" / "cluster.yaml").read_text())
    check_config(config)


def test_pods_outlive_the_runners_grace() -> None:
    manifest = yaml.safe_load((ROOT / "cluster" / "rayservice.yaml").read_text())
    config = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    [runner] = [d for d in config["applications"][0]["deployments"] if d["name"] == "JobRunner"]
    cluster = manifest["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] > runner["graceful_shutdown_timeout_s"]


def test_ray_is_the_locked_version() -> None:
    manifest = yaml.safe_load((ROOT / "cluster" / "rayservice.yaml").read_text())
    assert f"ray=={manifest['spec']['rayClusterConfig']['rayVersion']}" in (ROOT / "requirements.lock").read_text()
