"""A graph that classifies images, and keeps nothing else that costs CPU or memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from loadtests.images.load import ROOT

DEPLOYMENTS = {"container": "ContainerClassifier", "beverage": "BeverageDetector"}
ROUTES = {"container": "/classify-reusable", "beverage": "/verify-beverage"}
_ALWAYS = ("Ingress", "JobRunner")


def write_config(path: Path, task: str, weights: str, **options: Any) -> Path:
    """Write configs/local.yaml with those weights; what the task does not need stays at zero replicas.

    Args:
        path: of the file to write.
        task: name.
        weights: spec.
        **options: more of the task's arguments, e.g. `num_threads`; `replicas` of its deployment.
    """
    return write_models_config(path, {task: {"model": weights, **options}})


def write_models_config(path: Path, tasks: Mapping[str, Mapping[str, Any]], root: Path = ROOT) -> Path:
    """Write configs/local.yaml with `args.images` as in `tasks`; only those have replicas, one or `replicas`.

    Args:
        path: of the file to write.
        tasks: the arguments of each, by name.
        root: checkout whose configs/local.yaml it is.
    """
    config = yaml.safe_load((root / "configs" / "local.yaml").read_text(encoding="utf-8"))
    [application] = config["applications"]
    images = application["args"].setdefault("images", {})
    # a classifier inside the ingress needs no replica of its own
    replicas = {
        DEPLOYMENTS[task]: each.get("replicas", 0 if (images.get(task, {}) | each).get("in_ingress") else 1)
        for task, each in tasks.items()
    }
    for task, each in tasks.items():
        images[task] = {
            **images.get(task, {}),
            **{name: value for name, value in each.items() if name != "replicas"},
        }
    for deployment in application["deployments"]:
        if deployment["name"] in _ALWAYS:
            continue
        # not num_replicas: the deployment's own autoscaling, which ends at one replica, would win
        num = replicas.get(deployment["name"], 0)
        deployment.pop("num_replicas", None)
        deployment["autoscaling_config"] = {
            "min_replicas": num,
            "initial_replicas": num,
            "max_replicas": max(num, 1),
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path
