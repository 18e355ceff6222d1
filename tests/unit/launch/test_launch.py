from __future__ import annotations

import socket
from pathlib import Path

import pytest

from serve_app.errors import InvalidRequest
from serve_app.launch.launch import launch, load_config, ray_environment

CONFIG = Path(__file__).parents[3] / "configs" / "local.yaml"


def test_the_port_of_a_config_can_be_replaced() -> None:
    assert load_config(CONFIG)["http_options"]["port"] == 8000
    assert load_config(CONFIG, port=9000)["http_options"] == {"host": "127.0.0.1", "port": 9000}


def test_a_file_that_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(InvalidRequest, match=r"list\.yaml"):
        load_config(tmp_path / "list.yaml")


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidRequest, match=f"port {port} is in use"):
            launch(CONFIG, port=port, ray_dir=tmp_path, environment={})


def test_a_folder_too_long_for_sockets_is_said_before_anything_starts() -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        launch(CONFIG, port=8000, ray_dir=Path("/tmp") / ("x" * 60), environment={})


def test_two_clusters_share_no_port_and_no_folder(tmp_path: Path) -> None:
    first, second = (ray_environment(tmp_path / name, tmp_path / f"ha-{name}") for name in ("a", "b"))
    same = {
        "RAY_SERVE_ENABLE_HA_PROXY",
        "RAY_SERVE_HAPROXY_NBTHREAD",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S",
    }
    told_apart = [name for name in first if name.startswith("RAY_SERVE_") and name not in same]
    assert len(told_apart) >= 10
    assert all(first[name] != second[name] for name in told_apart)
