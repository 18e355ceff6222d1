"""The music page in Debian's Chromium: a form, a page that reloads itself, a player that seeks; no script of ours."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_app.commands.demo.local_graph import LocalGraph
from tests.integration.test_music import TIMEOUT_S, a_picture

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")

_SEEK = """async (at) => {
    const audio = document.querySelector("audio");
    audio.muted = true;
    audio.currentTime = at;
    await new Promise((resolve, reject) => {
        audio.onseeked = resolve;
        audio.onerror = () => reject(new Error(audio.error.message));
    });
    await audio.play();
    await new Promise((resolve) => setTimeout(resolve, 600));
    audio.pause();
    return [audio.duration, audio.currentTime];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--mute-audio"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "그림.jpg"
    path.write_bytes(a_picture(130))
    return path


@pytest.fixture(scope="module")
def state(graph: LocalGraph, browser: Any, picture: Path) -> dict[str, Any]:
    """Make a piece with the form alone, without scripts; return the page's address and the browser's cookies."""
    context = browser.new_context(java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    page.goto(f"{graph.base_url}/music/page")
    assert page.locator("html").get_attribute("lang") == "en"
    page.get_by_label("Picture", exact=False).first.set_input_files(picture)
    page.locator("#duration").fill("40")
    page.locator("#seed").fill("11")
    page.locator("form[enctype] button").click()
    page.wait_for_url("**/music/*/page**")
    page.locator("audio").wait_for(timeout=TIMEOUT_S * 1000)  # the page reloads itself until then
    found = {"url": page.url, "cookies": context.storage_state()}
    context.close()
    return found


def test_the_player_seeks_by_ranges(browser: Any, state: dict[str, Any]) -> None:
    context = browser.new_context(storage_state=state["cookies"])
    page = context.new_page()
    answers: list[tuple[int, str | None]] = []
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on(
        "response",
        lambda answer: (
            answers.append((answer.status, answer.request.headers.get("range"))) if "/audio" in answer.url else None
        ),
    )
    page.goto(state["url"])
    duration_s, at_s = page.evaluate(_SEEK, 31.0)
    assert duration_s == pytest.approx(40.0, abs=0.3)
    assert 31.2 < at_s < 33.0
    assert {status for status, _ in answers} == {206}
    assert problems == []
    context.close()


@pytest.mark.parametrize(("locale", "title"), [("ko", "내려받기"), ("en", "Downloads")])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_speaks_the_language(
    browser: Any, state: dict[str, Any], locale: str, title: str, width: int
) -> None:
    context = browser.new_context(storage_state=state["cookies"], viewport={"width": width, "height": 900})
    page = context.new_page()
    foreign: list[str] = []
    page.on("request", lambda request: None if "127.0.0.1" in request.url else foreign.append(request.url))
    page.goto(f"{state['url'].partition('?')[0]}?locale={locale}")
    assert page.locator("html").get_attribute("lang") == locale
    assert page.locator("h1").count() == 1
    assert title in page.locator("body").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img.picture").evaluate("image => image.naturalWidth") == 320
    assert foreign == []
    with page.expect_download() as download:
        page.locator("a[href*='format=flac']").click()
    assert Path(download.value.path()).read_bytes().startswith(b"fLaC")
    context.close()


def test_another_visitor_finds_nothing(browser: Any, state: dict[str, Any]) -> None:
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(state["url"])
    assert answer.status == 404
    assert page.locator("audio").count() == 0
    context.close()


def test_another_version_and_deleting_work_without_scripts(browser: Any, state: dict[str, Any]) -> None:
    context = browser.new_context(java_script_enabled=False, storage_state=state["cookies"])
    page = context.new_page()
    page.goto(state["url"])
    page.locator("form[action$='/versions'] button").click()
    page.wait_for_url(lambda url: url.partition("?")[0] != state["url"].partition("?")[0])
    page.locator("audio").wait_for(timeout=TIMEOUT_S * 1000)
    page.locator("form[action$='/delete'] button").click()
    page.wait_for_url("**/music/page**")
    assert page.locator("ul.pieces li").count() == 1
    context.close()
