"""The old packages' import lines, from the distribution as pip installs it, in a process of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

PROJECT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip has installed the distribution."""
    folder = tmp_path_factory.mktemp("dropins")
    shutil.copytree(PROJECT / "dropins", folder / "source")  # setuptools builds in the source's folder
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--target", folder / "site", folder / "source"], check=True, timeout=240)
    return folder / "site"


def run(site: Path, code: str, folder: Path) -> str:
    """Run old code in a folder of its own; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(PROJECT)]), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_only_these_top_level_names_are_installed(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names - {"__pycache__"} == {"stt_engine.py", "inference"}
    [metadata] = installed.glob("serve_app_dropins-*.dist-info/METADATA")
    assert "Requires-Dist: serve_app" in metadata.read_text()


@pytest.mark.slow
def test_the_old_drum_code_writes_its_files(installed: Path, tmp_path: Path) -> None:
    rate = 44_100
    times = np.arange(rate // 4) / rate
    kick = np.sin(2 * np.pi * (60 * times - 6 * np.exp(-times / 0.02))) * np.exp(-times / 0.06)
    samples = np.concatenate([np.tile(np.concatenate([kick, np.zeros(rate // 4)]), 6)]) * 30_000
    with wave.open(str(tmp_path / "test.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    (tmp_path / "model").mkdir()
    shutil.copy(PROJECT / "serve_app/models/drums/drum_net/best_model.pt", tmp_path / "model")
    code = """
from inference.MiDi_maker import drum_wav_to_midi, InferenceConfig

config = InferenceConfig()
config.grid_division["kick"] = 16
config.grid_division["snare"] = 16
config.grid_division["hihat"] = 8
config.thresholds["kick"] = 0.5
config.thresholds["snare"] = 0.5
config.thresholds["hihat"] = 0.15
drum_wav_to_midi(
    wav_path="test.wav",
    model_path="model/best_model.pt",
    output_dir="outputs/",
    config=config,
    bpm_override=120,
    device="cpu",
)
"""
    run(installed, code, tmp_path)
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == ["test.mid", "test.txt"]
    assert (tmp_path / "outputs" / "test.mid").read_bytes().startswith(b"MThd")


def test_the_old_speech_code_catches_what_it_caught(installed: Path, tmp_path: Path) -> None:
    code = """
from stt_engine import WhisperSTT

try:
    WhisperSTT("/no/such/model", device="cpu")
except RuntimeError as error:
    print("caught:", error)
"""
    printed = run(installed, code, tmp_path)
    assert printed.startswith("caught: No backend can be loaded. faster-whisper was not used: ")


@pytest.mark.slow
def test_the_old_speech_code_transcribes_and_tells_its_backend(installed: Path, tmp_path: Path) -> None:
    code = f"""
from stt_engine import WhisperSTT

stt = WhisperSTT("embedded:whisper-micro", device="cpu", cache_dir={str(tmp_path / "models")!r})
print(stt.backend)
heard = stt.transcribe({str(PROJECT / "serve_app/demo_media/korean.ogg")!r}, language="ko", backend="openai-whisper")
print(stt.backend, heard["backend"], len(heard["text"]) > 0)
"""
    assert run(installed, code, tmp_path) == "faster-whisper\nopenai-whisper openai-whisper True\n"
