"""The deployment without Ray: engines, progress, cancel, failures of one engine, and what composing loads."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_app.deployments.music_generator import MusicGenerator
from serve_app.errors import ModelLoadingError, ProcessingError
from serve_app.models.music.encoding import from_audio
from serve_app.models.music.options import AceStepOptions, EngineName, MusicGenOptions, MusicOptions, VertexOptions
from serve_app.models.options import ModelEnvironment
from serve_app.results import MusicPlan, RenderedMusic
from tests.unit.api.live import serving
from tests.unit.models.music.servers import AceStepServer
from tests.unit.models.music.sounds import made_plan, planned
from tests.unit.models.music.tiny_musicgen import save_musicgen

PROJECT = Path(__file__).parents[3]
PLAN = made_plan(8.0)


def make(tmp_path: Path, *engines: str, key: str = "secret", **options: Any) -> Any:
    environment = ModelEnvironment(models_dir=tmp_path, music_api_key=key)
    chosen = tuple(EngineName(engine) for engine in engines)
    return MusicGenerator.func_or_class(MusicOptions(engines=chosen, **options), environment)


async def rendered(
    replica: Any, engine: str, plan: MusicPlan = PLAN, task: str | None = None
) -> tuple[list[float], RenderedMusic]:
    parts = [part async for part in replica.render(engine, plan, task)]
    assert all(isinstance(part, float) for part in parts[:-1])
    return parts[:-1], parts[-1]


@pytest.fixture
def acestep_server() -> AceStepServer:
    made = AceStepServer()
    made.runs(0.1, 0.5)
    return made


@pytest.fixture
def address(acestep_server: AceStepServer) -> Iterator[str]:
    with serving(acestep_server.app) as url:
        yield url


def test_a_piece_of_the_composer_becomes_files_without_a_fault(tmp_path: Path) -> None:
    replica = make(tmp_path, "composer")

    async def work() -> None:
        assert await replica.start("composer", PLAN) is None
        started = time.monotonic()
        shares, piece = await rendered(replica, "composer")
        assert shares == sorted(shares)
        assert len(shares) <= 1 + 4 * (time.monotonic() - started)
        assert (piece.engine, piece.midi[:4]) == ("composer", b"MThd")
        mastered = await replica.master(piece.audio, PLAN)
        assert mastered.faults == ()
        assert mastered.duration_s == pytest.approx(8.0, abs=0.01)
        assert mastered.measurements["loudness_lufs"] == pytest.approx(-14.0, abs=0.5)
        files = await replica.encode(mastered.audio)
        assert files.flac == mastered.audio
        audio, rate = from_audio(files.mp3)
        assert len(audio) / rate == pytest.approx(8.0, abs=0.05)
        again = (await rendered(replica, "composer"))[1]
        assert (again.audio, again.midi) == (piece.audio, piece.midi)

    asyncio.run(work())


def test_what_the_replica_says_of_itself(tmp_path: Path) -> None:
    found = asyncio.run(make(tmp_path, "composer").describe())
    assert (found.spec, found.model_version, found.device) == ("composer", "composer", "cpu")
    assert (found.warm, found.failure) == (True, None)
    tiny = save_musicgen(tmp_path / "tiny")
    replica = make(tmp_path, "musicgen", "composer", musicgen=MusicGenOptions(model_id=str(tiny)))
    found = asyncio.run(replica.describe())
    assert (found.spec, found.model_version) == ("musicgen > composer", "transformers:tiny:float32 > composer")


def test_musicgen_reports_progress_and_obeys_a_caller_who_leaves(tmp_path: Path) -> None:
    tiny = save_musicgen(tmp_path / "tiny")
    replica = make(tmp_path, "musicgen", musicgen=MusicGenOptions(model_id=str(tiny)))

    async def work() -> None:
        expected = (await rendered(replica, "musicgen", planned(duration_s=1.0)))[1]
        long = replica.render("musicgen", planned(duration_s=30.0))
        first = await anext(long)
        assert 0.0 < first < 0.5
        second = await anext(long)
        assert first < second <= 1.0
        await long.aclose()
        started = time.monotonic()  # the model makes one piece at a time: it is free soon
        piece = (await rendered(replica, "musicgen", planned(duration_s=1.0)))[1]
        assert piece.audio == expected.audio
        assert time.monotonic() - started < 3.0

    asyncio.run(work())


def test_a_cancelled_task_ends_the_work(tmp_path: Path) -> None:
    tiny = save_musicgen(tmp_path / "tiny")
    replica = make(tmp_path, "musicgen", musicgen=MusicGenOptions(model_id=str(tiny)))

    async def work() -> None:
        begun = asyncio.Event()

        async def consume() -> None:
            async for _ in replica.render("musicgen", planned(duration_s=30.0)):
                begun.set()

        call = asyncio.create_task(consume())
        await asyncio.wait_for(begun.wait(), 20)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        started = time.monotonic()
        await rendered(replica, "musicgen", planned(duration_s=1.0))
        assert time.monotonic() - started < 3.0

    asyncio.run(work())


def test_the_composer_plays_beside_musicgen(tmp_path: Path) -> None:
    tiny = save_musicgen(tmp_path / "tiny")
    replica = make(tmp_path, "musicgen", "composer", musicgen=MusicGenOptions(model_id=str(tiny)))

    async def work() -> None:
        slow = replica.render("musicgen", planned(duration_s=30.0))
        await anext(slow)
        assert (await rendered(replica, "composer"))[1].engine == "composer"
        await slow.aclose()

    asyncio.run(work())


def test_an_engine_that_can_not_be_made_ready_leaves_the_others(tmp_path: Path) -> None:
    missing = MusicGenOptions(model_id=str(tmp_path / "nothing"))
    server = AceStepOptions(base_url="http://127.0.0.1:9")
    replica = make(tmp_path, "musicgen", "acestep", "composer", musicgen=missing, acestep=server, key="no key")
    assert asyncio.run(rendered(replica, "composer"))[1].engine == "composer"
    with pytest.raises(ModelLoadingError, match="There is no file or folder"):
        asyncio.run(rendered(replica, "musicgen"))
    for call in (rendered(replica, "acestep"), replica.start("acestep", PLAN)):
        with pytest.raises(ModelLoadingError, match="SERVE_APP_MUSIC_API_KEY"):
            asyncio.run(call)
    found = asyncio.run(replica.describe())
    assert found.warm
    assert "There is no file or folder" in found.failure
    replica._model._started_at -= 31
    replica.check_health()  # it still serves


def test_a_replica_without_any_engine_is_unhealthy(tmp_path: Path) -> None:
    replica = make(tmp_path, "musicgen", musicgen=MusicGenOptions(model_id=str(tmp_path / "nothing")))
    with pytest.raises(ModelLoadingError, match="There is no file or folder"):
        asyncio.run(rendered(replica, "musicgen"))
    replica._model._started_at -= 31
    with pytest.raises(RuntimeError, match="There is no file or folder"):
        replica.check_health()


@pytest.mark.parametrize("engine", ["vertex", "musicgen", "no-engine", ""])
def test_engines_that_are_not_configured(tmp_path: Path, engine: str) -> None:
    replica = make(tmp_path, "composer", vertex=VertexOptions(project="p"))
    with pytest.raises(ModelLoadingError, match="is not configured; there is composer"):
        asyncio.run(rendered(replica, engine))


def test_a_remote_task_is_started_and_then_rendered(
    tmp_path: Path, acestep_server: AceStepServer, address: str
) -> None:
    acestep_server.key = "secret"
    replica = make(tmp_path, "acestep", "composer", acestep=AceStepOptions(base_url=address, poll_s=0.3))

    async def work() -> None:
        task = await replica.start("acestep", PLAN)
        assert task == "task-1"
        shares, piece = await rendered(replica, "acestep", task=task)
        assert shares == [0.1, 0.5]
        assert piece.engine == "acestep"
        assert (await replica.master(piece.audio, PLAN)).faults == ()

    asyncio.run(work())
    assert len(acestep_server.released) == 1


def test_bytes_that_are_no_music_are_an_error_of_ours(tmp_path: Path) -> None:
    replica = make(tmp_path, "composer")
    for call in (replica.master(b"<html>", PLAN), replica.encode(b"")):
        with pytest.raises(ProcessingError):
            asyncio.run(call)


def test_a_soundfont_that_is_missing(tmp_path: Path) -> None:
    replica = make(tmp_path, "composer", soundfont=str(tmp_path / "none.sf2"))
    with pytest.raises(ModelLoadingError):
        asyncio.run(rendered(replica, "composer"))


_COMPOSING = """
import asyncio, json, sys
from pathlib import Path
from serve_app.deployments.music_generator import MusicGenerator
from serve_app.models.music.options import MusicOptions
from serve_app.models.options import ModelEnvironment
from tests.unit.models.music.sounds import made_plan
PLAN = made_plan(6.0)
async def work():
    replica = MusicGenerator.func_or_class(MusicOptions(), ModelEnvironment(models_dir=Path(".")))
    parts = [part async for part in replica.render("composer", PLAN)]
    mastered = await replica.master(parts[-1].audio, PLAN)
    await replica.encode(mastered.audio)
before = set(sys.modules)
asyncio.run(work())
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


def test_composing_loads_no_library_of_networks() -> None:
    ran = subprocess.run([sys.executable, "-c", _COMPOSING], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    loaded = set(json.loads(ran.stdout.splitlines()[-1]))
    assert "pyloudnorm" in loaded
    assert loaded & {"torch", "transformers", "librosa", "numba", "google", "httpx"} == set()
