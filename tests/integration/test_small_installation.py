"""`pip install 'serve_app[drums]'` into an empty environment, and `serve-app run` in an empty folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve_app.launch.ports import free_ports
from tests.integration.played_drums import play

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with a wheel of this checkout and the extra drums alone, in the locked versions."""
    folder = tmp_path_factory.mktemp("drums-only")
    if not UV.exists():
        pytest.skip("uv is not installed: run make setup")
    subprocess.run([UV, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True, timeout=300)
    [wheel] = folder.glob("*.whl")
    lock = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[\w,-]+\])?(==\S+)", lock, re.MULTILINE)
    (folder / "constraints.txt").write_text("".join(f"{name}{version}\n" for name, version in pins))
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True, timeout=120)
    ran = subprocess.run(
        [
            *(UV, "pip", "install", "--quiet", "--python", folder / "venv/bin/python"),
            *("--constraint", folder / "constraints.txt", f"serve_app[drums] @ {wheel.as_uri()}"),
        ],
        capture_output=True,
        text=True,
        timeout=900,
    )
    if ran.returncode and re.search("error sending request|dns error|connect", ran.stderr, re.IGNORECASE):
        pytest.skip(f"no package registry can be reached: {ran.stderr.strip()[-300:]}")
    assert ran.returncode == 0, ran.stderr
    return folder / "venv"


@pytest.fixture(scope="module")
def served(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Start `serve-app run` without a config; yield its address, and the file of what it printed."""
    folder = tmp_path_factory.mktemp("r")  # Ray's sockets need short paths, so its folder lies in /tmp
    [port] = free_ports(1)
    state = {"SERVE_APP_STATE_DIR": str(folder / "state"), "SERVE_APP_LOCALE": "en"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "RAY_", "VIRTUAL"))}
    (folder / "empty").mkdir()
    printed = folder / "printed"
    with printed.open("wb") as file:
        process = subprocess.Popen(
            [environment / "bin/serve-app", "run", "--port", str(port)],
            cwd=folder / "empty",
            env=kept | state,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 400
        while not _is_ready(url):
            assert process.poll() is None, printed.read_text(errors="replace")
            assert time.monotonic() < deadline, printed.read_text(errors="replace")
            time.sleep(1)
        yield url, printed
        assert list((folder / "empty").iterdir()) == []
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def test_what_is_installed_serves(served: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = served
    play(tmp_path / "loop.wav", 16, 1, "pcm_s16le")
    answer = httpx.post(
        f"{url}/transcribe-drums", files={"file": ("loop.wav", (tmp_path / "loop.wav").read_bytes())}, timeout=180
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["hits"]


def test_what_is_not_says_what_to_install(served: tuple[str, Path]) -> None:
    url, printed = served
    for path, extra in {
        "/classify-reusable": "images",
        "/verify-beverage": "images",
        "/transcribe": "speech",
        "/v1/audio/transcriptions": "speech",
        "/generate-music": "music",
    }.items():
        fields = {"model": "whisper-1"} if path.startswith("/v1/") else None
        answer = httpx.post(f"{url}{path}", files={"file": ("a", b"anything")}, data=fields, timeout=60)
        assert (answer.status_code, f"pip install 'serve_app[{extra}]'" in answer.text) == (503, True), answer.text
    job = {"job_id": "a", "video_url": "https://example.org/a.mp4"}
    answer = httpx.post(f"{url}/api/upload-video/process-video", json=job, timeout=60)
    assert (answer.status_code, "pip install 'serve_app[video]'" in answer.text) == (503, True), answer.text
    states = httpx.get(f"{url}/health/ready", timeout=60).json()["deployments"]
    assert states["DrumTranscriber"] == "HEALTHY"
    assert states["FasterWhisper"].startswith("NOT_INSTALLED: FasterWhisper needs serve_app[speech]")
    models = {each["deployment"]: each["state"] for each in httpx.get(f"{url}/models", timeout=60).json()["models"]}
    assert models["ContainerClassifier"].startswith("NOT_INSTALLED: ContainerClassifier needs serve_app[images]")
    assert "left out, for want of serve_app[images]: ContainerClassifier, BeverageDetector" in printed.read_text()
