"""`launch`: starts Ray and the graph on this machine from a config file, for `make run`.

`serve run CONFIG` alone works too. This adds what no config file can hold, because Ray reads it from the environment
before any code of ours runs: Serve's fast path (HAProxy), niceness, separate folders and ports for each cluster on a
machine, and a token without which no other program can join. Variables that are set already are left alone.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import runpy
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve_app.errors import InvalidRequest
from serve_app.extras import left_out, missing
from serve_app.launch.config_check import check_config
from serve_app.launch.ports import are_free, free_port_block, free_ports
from serve_app.launch.private_folders import OWN_FILES, close_to_others, cluster_folder, private_folder, write_private
from serve_app.settings import Settings

_GRAPH = "serve_app.graph:build"
_RAY_SITE = Path(__file__).parent / "ray_site"
_REPLICA_PORTS = 64
_ANY_HOST = ("0.0.0.0", "::", "")  # noqa: S104 (compared with, not bound to)
_RAYS_FOLDER = "r"  # Ray opens its folder to everybody, so it lies inside of ours
_MAX_RAY_DIR_CHARS = 42  # Ray adds 62 to its folder for its longest socket, and a socket's path may have 107
_OBJECT_STORE_BYTES = 2 * 1024**3  # two 4-hour files as 16 kHz float32; pages count only once they are used


def ray_environment(ray_dir: Path, socket_dir: Path) -> dict[str, str]:
    """Return the variables that Ray reads when it starts.

    `socket_dir` is for HAProxy's socket: Serve adds 68 characters, and HAProxy takes 97 in all.
    """
    haproxy = ray_dir / "haproxy"
    metrics_port, stats_port, fallback_port, grpc_fallback_port = free_ports(4)
    first_replica_port = free_port_block(_REPLICA_PORTS)
    return {
        # Ray starts workers at nice 15: beside any other process Serve would starve
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # on a busy machine a proxy needs longer than 5 s to answer its first check, and three misses end the start
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
        # Ray's processes wait 30 s for each other, and end themselves; `ray_start` waits as long for all of them
        "RAY_gcs_server_port_wait_time_s": "120",
        "RAY_agent_register_timeout_ms": "120000",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(ray_dir / "auth_token"),
        # measured: 2 to 7 times the requests per second of the Python proxy (docs/performance.md)
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(socket_dir / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        # HAProxy reaches the ingress replicas, and the Python proxy behind them, here. All listen with SO_REUSEPORT:
        # with Serve's fixed defaults, two clusters on one machine would answer each other's requests
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_port),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(grpc_fallback_port),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first_replica_port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first_replica_port + _REPLICA_PORTS),
        # glibc keeps an arena per thread, and Ray has dozens of threads: two are enough and save resident memory
        "MALLOC_ARENA_MAX": "2",
        "PYANNOTE_METRICS_ENABLED": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def load_config(path: Path, *, port: int | None = None) -> dict[str, Any]:
    """Return a Serve config, with the HTTP port replaced where one is given; InvalidRequest where it is no mapping."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise InvalidRequest(f"{path} is no Serve config file: it must be a mapping with `applications:`")
    if port is not None:
        config["http_options"] = {**(config.get("http_options") or {}), "port": port}
    return config


def without_missing(config: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a checked config without the deployments that the graph leaves out, and a line on each lacking extra.

    Serve refuses a config with numbers for a deployment that is not in the graph.
    """
    applications, gone = [], []
    for application in config["applications"]:
        deployments = application.get("deployments") or []
        if application["import_path"] == _GRAPH:
            gone += [each["name"] for each in deployments if missing(each["name"])]
            application = {**application, "deployments": [each for each in deployments if each["name"] not in gone]}
        applications.append(application)
    return {**config, "applications": applications} if gone else config, left_out(gone)


def launch(
    config_path: Path,
    *,
    port: int | None = None,
    ray_dir: Path | None = None,
    dashboard: bool = False,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    environment: MutableMapping[str, str] = os.environ,
) -> None:
    """Start Ray and the graph, and stay until interrupted.

    Args:
        config_path: a Serve config file, as for `serve run`.
        port: HTTP port instead of the config's.
        ray_dir: folder of this cluster's token, address, configuration and, in `r`, Ray's session; None: one with a
            random name, which `run/PORT` in the state folder links to.
        dashboard: also start Ray's dashboard, which `serve status` and `serve deploy` need (about 400 MB).
        num_cpus, num_gpus: logical resources instead of the machine's.
        environment: changed in place before the import of Ray.

    Raises:
        InvalidRequest: the port is taken, the configuration is wrong, or a folder is not this user's alone.
        Unavailable: Ray can't be started.
    """
    config = load_config(config_path, port=port)
    http = config.get("http_options") or {}
    host, port = http.get("host", "127.0.0.1"), http.get("port", 8000)
    os.umask(OWN_FILES)
    if not are_free(port, 1):
        raise InvalidRequest(f"port {port} is in use on this machine: take another one (make run PORT=…, or --port …)")
    settings = Settings.from_environment(environment)
    checked = settings.check_folders == "on"
    if ray_dir is not None:
        _check_length(ray_dir.absolute())
        ray_dir = private_folder(ray_dir, "The cluster's folder (--ray-dir)", checked=checked)
    state = private_folder(settings.state_dir, "The state folder", checked=checked)
    close_to_others(state)
    ray_dir = ray_dir or cluster_folder(state, port, checked=checked)
    _check_length(ray_dir)
    (ray_dir / "haproxy").mkdir(exist_ok=True)
    socket_dir = Path(tempfile.mkdtemp(prefix="ha-", dir="/tmp"))  # the name is random, the folder private
    atexit.register(shutil.rmtree, socket_dir, ignore_errors=True)
    for name, value in ray_environment(ray_dir, socket_dir).items():
        environment.setdefault(name, value)
    token_path = Path(environment["RAY_AUTH_TOKEN_PATH"])
    if environment["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" not in environment and not token_path.exists():
        write_private(token_path, secrets.token_hex(32))
    # do not join another program's cluster by accident
    environment.pop("RAY_ADDRESS", None)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_RAY_SITE), environment.get("PYTHONPATH")]))
    runpy.run_path(str(_RAY_SITE / "sitecustomize.py"))  # for this process, which has started already
    check_config(config)  # imports Ray: only now, as it reads the environment at import
    config, lacking = without_missing(config)
    for line in lacking:
        sys.stderr.write(f"serve-app: {line}\n")

    import ray
    from ray.serve.scripts import cli as serve_cli

    from serve_app.launch.ray_start import start_ray

    start_ray(
        address="local",
        namespace="serve",
        include_dashboard=dashboard,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=str(ray_dir / _RAYS_FOLDER),
        configure_logging=True,
        log_to_driver=True,
    )
    write_private(ray_dir / "address", ray.get_runtime_context().gcs_address)
    sys.stdout.write(f"serve-app: the cluster's address, token and logs are in {ray_dir}\n")
    written = ray_dir / f"config-{hashlib.sha256(str(config_path).encode()).hexdigest()[:8]}.yaml"
    written.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    sys.stdout.flush()
    # SIGTERM is how containers and init systems stop a program; SIGINT arrives ignored where a shell said `&`.
    # Ray sets handlers of its own, so these come after ray.init.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    url = f"http://{'127.0.0.1' if host in _ANY_HOST else host}:{port}"
    threading.Thread(target=_print_when_ready, args=(url,), daemon=True).start()
    serve_cli.main(["run", str(written)], standalone_mode=False)


def _check_length(ray_dir: Path) -> None:
    if len(str(ray_dir)) > _MAX_RAY_DIR_CHARS:
        raise InvalidRequest(
            f"{ray_dir} is too long for the sockets in it: take --ray-dir of {_MAX_RAY_DIR_CHARS} characters or less"
        )


def _print_when_ready(url: str) -> None:
    """Print one line once every deployment is up."""
    started = time.monotonic()
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health/ready", timeout=5.0, trust_env=False).status_code == 200:
                break
        time.sleep(0.5)
    sys.stdout.write(f"\nserve-app is ready ({time.monotonic() - started:.0f} s after Ray): {url}/docs\n\n")
    sys.stdout.flush()
