"""`check_config`: a strict check of a Serve config file; Serve itself accepts misspelt keys silently."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from serve_app.errors import InvalidRequest


def check_config(config: Any) -> None:
    """Raise InvalidRequest with each unknown key, and the known key that is spelt alike."""
    from pydantic import ValidationError
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
    from ray.serve.schema import (
        DeploymentSchema,
        HTTPOptionsSchema,
        LoggingConfig,
        RayActorOptionsSchema,
        ServeApplicationSchema,
        ServeDeploySchema,
    )

    from serve_app.graph_args import GraphArgs

    if not isinstance(config, Mapping):
        raise InvalidRequest("a Serve config file is a mapping with `applications:`")
    problems: list[str] = []

    def check(where: str, found: Any, known: Iterable[str]) -> None:
        if not isinstance(found, Mapping):
            return
        names = sorted(known)
        for key in found:
            if key not in names:
                near = difflib.get_close_matches(str(key), names, n=1)
                problems.append(f"{where}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))

    check("the file", config, ServeDeploySchema.model_fields)
    check("http_options", config.get("http_options"), HTTPOptionsSchema.model_fields)
    check("logging_config", config.get("logging_config"), LoggingConfig.model_fields)
    for application in config.get("applications") or []:
        name = f"application {application.get('name', '')!r}"
        check(name, application, ServeApplicationSchema.model_fields)
        for deployment in application.get("deployments") or []:
            where = f"{name}, deployment {deployment.get('name', '')!r}"
            check(where, deployment, DeploymentSchema.model_fields)
            check(
                f"{where}, ray_actor_options", deployment.get("ray_actor_options"), RayActorOptionsSchema.model_fields
            )
            scaling = deployment.get("autoscaling_config")
            check(f"{where}, autoscaling_config", scaling, AutoscalingConfig.model_fields)
            if isinstance(scaling, Mapping):
                check(f"{where}, policy", scaling.get("policy"), AutoscalingPolicy.model_fields)
        if str(application.get("import_path", "")).startswith("serve_app."):
            try:
                GraphArgs.model_validate(application.get("args") or {})
            except ValidationError as error:
                for found in error.errors():
                    is_unknown = found["type"] in ("unexpected_keyword_argument", "extra_forbidden")
                    where = ".".join(map(str, found["loc"]))
                    told = "unknown key" if is_unknown else found["msg"].removeprefix("Value error, ")
                    problems.append(f"{name}, args.{where}: {told}")
    if problems:
        raise InvalidRequest("the config file is wrong: " + "; ".join(problems))
    try:
        ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        raise InvalidRequest(f"the config file is wrong: {error}") from None
