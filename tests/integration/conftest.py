"""One real graph on a real Serve, shared by the whole session; real receivers and file servers on the loopback."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.client import Client
from serve_app.commands.demo.local_graph import LocalGraph
from serve_app.commands.demo.receiver import CallbackReceiver, FileServer
from serve_app.commands.demo.videos import DemoVideo, demo_videos
from serve_app.models.weights import EMBEDDED
from tests.integration.recordings import Clip, read_audio, write_audio

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 180.0
JOB_TIMEOUT_S = 240.0
# An address that no other test project's server listens on, and that the address guard refuses by default.
ALLOWED = {"SERVE_APP_ALLOWED_HOSTS": "127.0.0.1", "SERVE_APP_LOCALE": "ko"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def make_config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a maker of Serve config files: `configs/local.yaml` with other arguments, and short leases."""

    def make(base: str = "local.yaml", **args: dict[str, Any]) -> Path:
        config = yaml.safe_load((ROOT / "configs" / base).read_text())
        [application] = config["applications"]
        merged = {"job_runner": {"lease_s": 3.0, "poll_interval_s": 0.1}}
        for name, values in args.items():
            merged[name] = {**merged.get(name, {}), **values}
        for name, values in merged.items():
            application["args"][name] = {**application["args"].get(name, {}), **values}
        path = tmp_path_factory.mktemp("config") / base
        path.write_text(yaml.safe_dump(config))
        return path

    return make


@pytest.fixture(scope="session")
def start_graph() -> Iterator[Callable[..., LocalGraph]]:
    """Return a starter of graphs that are ready when it returns, and stopped at the end of the session."""
    started: list[tuple[LocalGraph, Path]] = []

    def start(config: Path, environment: dict[str, str] | None = None, options: tuple[str, ...] = ()) -> LocalGraph:
        folder = Path(tempfile.mkdtemp(prefix="sa-"))  # Ray's socket paths may have 107 bytes: pytest's are too long
        graph = LocalGraph(config, folder, {**ALLOWED, **(environment or {})}, options)
        started.append((graph, folder))
        graph.start()
        graph.wait_until_ready(READY_TIMEOUT_S)
        return graph

    yield start
    for graph, folder in started:
        graph.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def media_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder from which the shared graph may read local paths."""
    return tmp_path_factory.mktemp("media-root")


@pytest.fixture(scope="session")
def image_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A link to the embedded weights of the shared graph's container classifier; tests let it lead elsewhere."""
    link = tmp_path_factory.mktemp("weights") / "current"
    link.symlink_to(EMBEDDED["container-net"])
    return link


@pytest.fixture(scope="session")
def page_origin() -> Iterator[str]:
    """A site whose pages may call the shared graph."""
    with FileServer(ROOT / "tests" / "integration" / "other_clients") as server:
        yield server.base_url


@pytest.fixture(scope="session")
def graph(
    start_graph: Callable[..., LocalGraph],
    make_config: Callable[..., Path],
    media_root: Path,
    image_weights: Path,
    page_origin: str,
) -> LocalGraph:
    """The shared graph: embedded models, CPU only, no backend started before it is asked."""
    # one classifier in replicas of its own, one inside the ingress
    container = {"model": str(image_weights), "in_ingress": False}
    whisper = {"models": ["embedded:whisper-micro"], "compute_type": None}
    config = make_config(whisper=whisper, images={"container": container, "beverage": {"in_ingress": True}})
    content = yaml.safe_load(config.read_text())
    for deployment in content["applications"][0]["deployments"]:
        if deployment["name"] == "FasterWhisper":
            deployment["autoscaling_config"]["min_replicas"] = 0
    config.write_text(yaml.safe_dump(content))
    environment = {"SERVE_APP_MEDIA_ROOT": str(media_root), "SERVE_APP_CORS_ORIGINS": page_origin}
    return start_graph(config, environment)


@pytest.fixture
def client(graph: LocalGraph) -> Iterator[Client]:
    with Client(graph.base_url, timeout_s=120.0) as client:
        yield client


@pytest.fixture(scope="session")
def receiver() -> Iterator[CallbackReceiver]:
    with CallbackReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which its files are served."""
    folder = tmp_path_factory.mktemp("served")
    with FileServer(folder) as server:
        yield folder, server.base_url


@pytest.fixture(scope="session")
def videos(served: tuple[Path, str]) -> dict[str, DemoVideo]:
    """The demonstration's videos, in the served folder, by file name without its ending."""
    return {video.path.stem: video for video in demo_videos(served[0])}


def cut_dialogue(served: tuple[Path, str], videos: dict[str, DemoVideo], media_root: Path, seconds: int) -> Clip:
    samples = read_audio(videos["dialogue"].path)[: seconds * 16_000]
    path = write_audio(served[0] / f"clip-{seconds}.wav", samples[None], 16_000, "pcm_s16le")
    return Clip(Path(shutil.copy(path, media_root)), f"{served[1]}/{path.name}")


@pytest.fixture(scope="session")
def clip(served: tuple[Path, str], videos: dict[str, DemoVideo], media_root: Path) -> Clip:
    """The dialogue's first 12 s, with both speakers."""
    return cut_dialogue(served, videos, media_root, 12)


@pytest.fixture(scope="session")
def short_clip(served: tuple[Path, str], videos: dict[str, DemoVideo], media_root: Path) -> Clip:
    """The dialogue's first 4 s: for tests of what is around a job."""
    return cut_dialogue(served, videos, media_root, 4)


@pytest.fixture
def job_id() -> str:
    return str(uuid.uuid4())
