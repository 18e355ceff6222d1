"""The second way in: Ray handles from another Python program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.commands.demo.local_graph import LocalGraph
from tests.integration.played_drums import play
from tests.integration.recordings import Clip
from tests.integration.test_music import a_picture

PROGRAM = """
import json, sys
from pathlib import Path
import ray
from ray import serve
from serve_app.errors import AudioExtractionError, LanguageUnsupported, StorageError
from serve_app.models.music.plan import make_plan
from serve_app.models.speech.pieces import cut_at_silences

ray.init(address=sys.argv[1], namespace="serve", log_to_driver=False)
analyzer, recognizer, diarizer = (
    serve.get_deployment_handle(name, "serve_app") for name in ("AudioAnalyzer", "SpeechRecognizer", "Diarizer")
)
audio = analyzer.decode.remote(sys.argv[2])  # goes on to the others by reference, without coming here
activity = analyzer.detect_speech.remote(audio).result()
pieces = cut_at_silences(activity.regions, activity.duration_s, max_piece_s=30.0)
heard = [recognizer.transcribe.remote(audio, piece, "en") for piece in pieces]
turns = diarizer.diarize.remote(audio, 2)
drums = serve.get_deployment_handle("DrumTranscriber", "serve_app").transcribe.remote(sys.argv[3])
captioner, generator = (serve.get_deployment_handle(name, "serve_app") for name in ("Captioner", "MusicGenerator"))
picture = captioner.prepare.remote(Path(sys.argv[4]).read_bytes()).result()
caption = captioner.caption.remote(picture.jpeg, picture.features).result()
plan = make_plan(caption, picture.features, picture.sha256, duration_s=5.0, seed=7)
*shares, music = generator.options(stream=True).render.remote("composer", plan)
mastered = generator.master.remote(music.audio, plan).result()
errors = []
for call, expected in (
    (lambda: recognizer.check_language.remote("ja").result(), LanguageUnsupported),
    (lambda: analyzer.decode.remote("/nowhere.mp4").result(), StorageError),
    (lambda: analyzer.decode.remote("/dev/null").result(), AudioExtractionError),
):
    try:
        call()
    except expected as error:
        errors.append(type(error.cause).__name__)
print(json.dumps({
    "duration_s": activity.duration_s,
    "text": " ".join(segment.text for response in heard for segment in response.result().segments),
    "speakers": sorted({turn.speaker_id for turn in turns.result().turns}),
    "errors": errors,
    "music": [
        caption.captioner,
        shares == sorted(shares),
        list(mastered.faults),
        music.midi[:4].decode(),
        generator.encode.remote(mastered.audio).result().flac[:4].decode(),
    ],
    "drums": [str(hit.drum) for hit in drums.result().transcript.hits],
}))
"""


@pytest.fixture(scope="module", autouse=True)
def stranger(graph: LocalGraph, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A program with a wrong token: Ray takes 20 s to refuse it, in which other tests run."""
    token = tmp_path_factory.mktemp("stranger") / "token"
    token.write_text("0" * 64)
    address = (graph.ray_dir / "address").read_text()
    program = f"import ray; ray.init(address={address!r}, log_to_driver=False); print('joined')"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_another_program_uses_the_deployments_by_name(graph: LocalGraph, clip: Clip, tmp_path: Path) -> None:
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(a_picture())
    played = play(tmp_path / "rock.wav", 8, 1, "pcm_s16le")
    address = (graph.ray_dir / "address").read_text()
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(graph.ray_dir / "auth_token"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, address, str(clip.path), str(played.path), str(picture)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["music"] == ["features", True, [], "MThd", "fLaC"]
    assert told["duration_s"] == pytest.approx(12.0, abs=0.05)
    assert len(told["text"].split()) >= 15
    assert told["speakers"] == ["SPEAKER_00", "SPEAKER_01"]
    for drum, strokes_s in played.strokes_s.items():
        assert abs(told["drums"].count(drum) - len(strokes_s)) <= 1
    assert told["errors"] == ["LanguageUnsupported", "StorageError", "AudioExtractionError"]


def test_without_the_token_no_program_joins(stranger: subprocess.Popen[str]) -> None:
    output, _ = stranger.communicate(timeout=120)
    assert stranger.returncode != 0
    assert "joined" not in output
