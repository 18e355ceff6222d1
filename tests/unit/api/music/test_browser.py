"""The pages in a real browser engine, Debian's chromium: a form without scripts, the player that seeks, the policy."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.media.artifacts import ArtifactStore
from serve_app.messages import MusicStage
from serve_app.services import MusicFile, Services
from tests.unit.api.live import serving
from tests.unit.api.memory_services import FILES, JobsOnTable, MusicOnTable
from tests.unit.api.music.conftest import picture

CHROMIUM = shutil.which("chromium")
RATE = 44_100
SECONDS = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


def sine_mp3() -> bytes:
    """Return two minutes of a sine as MP3 with a constant bit rate."""
    wave = (0.2 * np.sin(2 * np.pi * 440 * np.arange(RATE * SECONDS) / RATE)).astype(np.float32)
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=RATE)
        stream.bit_rate = 160_000
        stream.layout = "stereo"
        for start in range(0, len(wave), 1152 * 64):
            block = np.stack([wave[start : start + 1152 * 64]] * 2)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture
def site(services: Services, jobs: JobsOnTable, tmp_path: Path) -> Iterator[tuple[str, MusicOnTable]]:
    """Serve pages over a folder; yield the address and the service of pieces."""
    music = MusicOnTable(jobs, ArtifactStore(str(tmp_path / "artifacts")))
    with serving(create_app(replace(services, music=music), ApiSettings())) as url:
        yield url, music


@pytest.fixture
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        yield browser
        browser.close()


def test_from_a_picture_to_its_removal(
    site: tuple[str, MusicOnTable], chromium: Any, jobs: JobsOnTable, tmp_path: Path
) -> None:
    url, music = site
    (tmp_path / "sea.jpg").write_bytes(picture())
    files = FILES | {MusicFile.PICTURE: picture(), MusicFile.MP3: sine_mp3()}
    complaints: list[str] = []

    def complain(message: Any) -> None:
        if not message.location["url"].endswith("/favicon.ico"):  # there is none
            complaints.append(message.text)

    # a form, on a telephone, without scripts
    plain = chromium.new_context(java_script_enabled=False, locale="en", viewport={"width": 390, "height": 844})
    page = plain.new_page()
    page.on("console", complain)
    page.goto(f"{url}/music/page")
    page.set_input_files("#file", tmp_path / "sea.jpg")
    page.fill("#prompt", "a calm piano")
    page.click("text=Make music")
    job_id = page.url.removeprefix(f"{url}/music/").removesuffix("/page")
    assert jobs.store.get(job_id).private
    music.artifacts.put_bytes(f"published/{job_id}/{MusicFile.PICTURE}", picture())
    jobs.run_stage(job_id, MusicStage.COMPOSING)
    page.wait_for_selector("text=Making the music...")  # the page reloads by itself
    music.run(job_id, files)
    page.wait_for_selector("audio")
    with page.expect_download() as download:
        page.click("text=FLAC")
    assert download.value.suggested_filename == "A calm sea in blue light.flac"

    # the player of the same visitor seeks far ahead and back, by ranges
    scripted = chromium.new_context(locale="en", storage_state=plain.storage_state())
    player = scripted.new_page()
    player.on("console", complain)
    ranges: list[tuple[int, str]] = []
    player.on(
        "response",
        lambda answer: (
            ranges.append((answer.status, answer.request.headers.get("range", "")))
            if answer.url.endswith("/audio")
            else None
        ),
    )
    player.goto(page.url)
    seeked = """async (second) => {
        const audio = document.querySelector("audio");
        audio.muted = true;
        await audio.play();
        audio.currentTime = second;
        await new Promise((done) => audio.addEventListener("seeked", done, {once: true}));
        await new Promise((done) => audio.addEventListener("timeupdate", done, {once: true}));
        return [audio.currentTime, audio.duration, audio.error && audio.error.message];
    }"""
    for second in (100, 10):
        position, duration, error = player.evaluate(seeked, second)
        assert error is None
        assert duration == pytest.approx(SECONDS, abs=0.1)
        assert second <= position < second + 5
    assert {status for status, _ in ranges} == {206}
    assert any(not asked.startswith("bytes=0-") for _, asked in ranges)

    for width in (390, 1280):
        player.set_viewport_size({"width": width, "height": 844})
        assert player.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []  # the policy forbids nothing that the page needs

    stranger = chromium.new_context().new_page()
    assert stranger.goto(f"{url}/music/{job_id}/page").status == 404
    page.click("button.danger")
    assert page.url == f"{url}/music/page"
    assert page.goto(f"{url}/music/{job_id}/page").status == 404
