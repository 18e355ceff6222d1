"""The pages: what they show in each state, in both languages; that hostile text stays text; and their policy."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app.api.music import texts
from serve_app.api.music.page import plan_sentence
from serve_app.messages import Locale, MusicStage
from tests.unit.api.conftest import in_korean
from tests.unit.api.memory_services import PIECE, JobsOnTable, MusicOnTable
from tests.unit.api.music.conftest import BROWSER, SCRIPT, submit

VOID = {"meta", "link", "img", "input", "br"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}</title></style>&amp;"


class Page(HTMLParser):
    """A page's elements; fails where one is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def one(self, tag: str) -> dict[str, str | None]:
        [attributes] = self.all(tag)
        return attributes


def page_of(client: TestClient, path: str, status: int = 200) -> Page:
    answer = client.get(path, headers=BROWSER)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.text)


def check_accessible(page: Page, lang: str) -> None:
    """Check what every page must have, by WCAG."""
    assert page.one("html")["lang"] == lang
    assert len(page.all("h1")) == 1
    assert all("alt" in image for image in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = {label["for"] for label in page.all("label")}
    for field in page.all("input") + page.all("textarea"):
        assert field.get("type") == "hidden" or field["id"] in labelled
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name) is None or attributes[name] in ids
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert page.all("script") == []


@pytest.mark.parametrize(
    ("locale", "caption", "plan", "button"),
    [
        (
            "en",
            "A calm sea in blue light",
            "D Dorian, 84 beats per minute, 4/4 time, 30 seconds.",
            "Make another version",
        ),
        ("ko", "파란 빛이 도는 잔잔한 바다", "D 도리안, 분당 84박, 4/4박자, 30초.", "다른 버전 만들기"),
    ],
)
def test_ready(client: TestClient, ready: str, locale: str, caption: str, plan: str, button: str) -> None:
    page = page_of(client, f"/music/{ready}/page?locale={locale}")
    check_accessible(page, locale)
    image = page.one("img")
    assert (image["src"], image["alt"]) == ("/music/sea-1/picture", caption)
    player = page.one("audio")
    assert (player["src"], player["preload"]) == ("/music/sea-1/audio", "metadata")
    assert "controls" in player
    for shown in (
        caption,
        plan,
        button,
        PIECE["license"],
        "composer (composer:1)",
        "features (features:1)",
        "-14.0 LUFS",
    ):
        assert shown in page.text, shown
    assert {form["action"]: form["method"] for form in page.all("form")} == {
        "/music/sea-1/versions": "post",
        "/music/sea-1/delete": "post",
    }
    links = [link["href"] for link in page.all("a")]
    for form in ("mp3", "flac", "mid", "picture", "caption", "plan"):
        assert f"/music/sea-1/download?format={form}&locale={locale}" in links
    assert not [meta for meta in page.all("meta") if meta.get("http-equiv")]


def test_every_address_of_the_page_answers(client: TestClient, ready: str) -> None:
    for path in (f"/music/{ready}/page", "/music/page"):
        page = page_of(client, path)
        addresses = [link["href"] for link in page.all("a")]
        addresses += [item["src"] for item in page.all("img") + page.all("audio")]
        assert len(addresses) > 3
        for address in addresses:
            assert client.get(str(address)).status_code == 200, address


def test_fall_back_is_stated(client: TestClient, music: MusicOnTable) -> None:
    submit(client, SCRIPT, job_id="a")
    caption = PIECE["caption"] | {"fallback_reason": "the endpoint refused"}
    music.run("a", caption=caption, fallback_reason="musicgen: out of GPU memory")
    text = page_of(client, "/music/a/page").text
    assert "Why another engine or seed was given up musicgen: out of GPU memory" in text
    assert "Why another captioner was given up the endpoint refused" in text


def test_progress(client: TestClient, jobs: JobsOnTable) -> None:
    submit(client, SCRIPT, job_id="before")
    submit(client, SCRIPT, job_id="a", locale="ko")
    waiting = page_of(client, "/music/a/page?locale=en")
    check_accessible(waiting, "en")
    assert "Queued" in waiting.text
    assert "Jobs before yours: 1" in waiting.text
    assert {"http-equiv": "refresh", "content": "2"} in waiting.all("meta")
    assert waiting.all("img") == []
    jobs.run_stage("a", MusicStage.COMPOSING)
    page = page_of(client, "/music/a/page")
    check_accessible(page, "ko")
    assert page.one("progress")["value"] == "30"
    assert "음악을 만드는 중..." in page.text
    assert page.one("img")["src"] == "/music/a/picture"
    assert "Making the music..." in page_of(client, "/music/a/page?locale=en").text


def test_failed_and_cancelled(client: TestClient, jobs: JobsOnTable) -> None:
    submit(client, SCRIPT, job_id="a")
    jobs.run_fail("a", "DOWNLOAD_ERROR", f"The picture could not be downloaded: {HOSTILE}")
    page = page_of(client, "/music/a/page")
    check_accessible(page, "en")
    assert HOSTILE in page.text
    assert not [meta for meta in page.all("meta") if meta.get("http-equiv")]
    submit(client, SCRIPT, job_id="b")
    client.post("/jobs/b/cancel", headers=SCRIPT)
    assert "The job was cancelled" in page_of(client, "/music/b/page").text


@pytest.mark.parametrize(
    ("code", "stored", "korean", "english"),
    [
        (
            "DOWNLOAD_ERROR",
            "이미지를 다운로드할 수 없습니다: 404 Not Found",
            "이미지를 다운로드할 수 없습니다: 404 Not Found",
            "The picture could not be downloaded: 404 Not Found",
        ),
        (
            "PROCESSING_ERROR",
            "처리 중 오류가 발생했습니다: 저장된 파일을 읽을 수 없습니다(OSError)",
            "처리 중 오류가 발생했습니다: 저장된 파일을 읽을 수 없습니다(OSError)",
            "An error occurred during processing: 저장된 파일을 읽을 수 없습니다(OSError)",
        ),
        ("GPU_MEMORY_ERROR", "Out of GPU memory", "GPU 메모리가 부족합니다", "Out of GPU memory"),
        ("PROCESSING_ERROR", "worded in another way", "worded in another way", "worded in another way"),
        ("A_NEW_CODE", "something", "something", "something"),
    ],
)
def test_a_failure_is_told_in_the_pages_language(
    client: TestClient, jobs: JobsOnTable, code: str, stored: str, korean: str, english: str
) -> None:
    submit(client, SCRIPT, job_id="a")
    jobs.run_fail("a", code, stored)
    for locale, told in (("ko", korean), ("en", english)):
        html = client.get(f"/music/a/page?locale={locale}", headers=BROWSER).text
        assert f'<p role="alert">{told}</p>' in html


def test_hostile_text_stays_text(client: TestClient, music: MusicOnTable) -> None:
    submit(client, SCRIPT, job_id="a", prompt=HOSTILE)
    caption = PIECE["caption"] | {"caption_en": HOSTILE, "caption_ko": HOSTILE, "model_version": HOSTILE}
    plan = PIECE["plan"] | {"mode": HOSTILE, "key": HOSTILE, "instruments": [HOSTILE], "metre": HOSTILE}
    music.run("a", caption=caption, plan=plan, license=HOSTILE, engine_used=HOSTILE, notes=[HOSTILE])
    for path in ("/music/a/page", "/music/a/page?locale=ko", "/music/page"):
        page = page_of(client, path)
        assert page.all("script") == []
        assert [image["src"] for image in page.all("img")] == ["/music/a/picture"]
        assert "49" not in page.text
        assert "<script>" in page.text
    assert page_of(client, "/music/a/page").one("img")["alt"] == HOSTILE


def test_list(client: TestClient, music: MusicOnTable, jobs: JobsOnTable) -> None:
    empty = page_of(client, "/music/page")
    check_accessible(empty, "en")
    assert "You have made no piece yet." in empty.text
    submit(client, SCRIPT, job_id="a", prompt="rain on a roof")
    submit(client, SCRIPT, job_id="b")
    music.run("a")
    page = page_of(client, "/music/page")
    check_accessible(page, "en")
    links = [link["href"] for link in page.all("a")]
    assert links.index("/music/b/page?locale=en") < links.index("/music/a/page?locale=en")
    assert "rain on a roof" in page.text
    assert "· ready" in page.text
    assert [image["src"] for image in page.all("img")] == ["/music/a/picture"]
    form = page.one("form")
    assert (form["action"], form["enctype"]) == ("/generate-music", "multipart/form-data")
    names = {field["name"] for field in page.all("input") + page.all("textarea")}
    assert names == {"locale", "file", "prompt", "duration", "seed"}


def test_long_list_has_several_pages(client: TestClient) -> None:
    for number in range(21):
        client.post(
            "/generate-music", json={"image_url": "https://example.org/a", "job_id": f"p{number}"}, headers=SCRIPT
        )
        if number == 19:
            assert "Older pieces" not in page_of(client, "/music/page").text
    first = page_of(client, "/music/page")
    assert "Older pieces" in first.text
    [older] = [link["href"] for link in first.all("a") if "cursor" in str(link["href"])]
    second = page_of(client, str(older))
    assert [link["href"] for link in second.all("a") if "/p" in str(link["href"])][-1:] == ["/music/p0/page?locale=en"]


@pytest.mark.parametrize(
    ("query", "field", "header", "lang"),
    [
        ("?locale=ko", "en", "en", "ko"),
        ("", "en", "ko", "en"),
        ("", "", "en-US,ko;q=0.5", "en"),
        ("", "", "fr", "ko"),
    ],
)
@in_korean
def test_language_is_the_addresss_then_the_pieces_then_the_browsers(
    client: TestClient, query: str, field: str, header: str, lang: str
) -> None:
    submit(client, SCRIPT, job_id="a", locale=field)
    answer = client.get(f"/music/a/page{query}", headers=BROWSER | {"Accept-Language": header})
    assert Page(answer.text).one("html")["lang"] == lang


def test_policy(client: TestClient, ready: str) -> None:
    for path in (f"/music/{ready}/page", "/music/page", "/music/nobody/page"):
        answer = client.get(path, headers=BROWSER)
        policy = dict(rule.strip().partition(" ")[::2] for rule in answer.headers["content-security-policy"].split(";"))
        [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy == {
            "default-src": "'none'",
            "img-src": "'self'",
            "media-src": "'self'",
            "style-src": f"'sha256-{digest}'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"


def test_unknown_piece(client: TestClient) -> None:
    page = page_of(client, "/music/nobody/page", 404)
    check_accessible(page, "en")
    assert "This piece does not exist, or another browser made it." in page.text
    assert client.get("/music/nobody/page").json()["error"]["code"] == "JOB_NOT_FOUND"
    assert page_of(client, "/music/page?locale=fr", 422).one("html")["lang"] == "en"


def relative_luminance(color: str) -> float:
    """Return WCAG's relative luminance of #rrggbb."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_is_aa_in_light_and_dark(client: TestClient) -> None:
    html = client.get("/music/page", headers=BROWSER).text
    schemes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", html, re.S)
    ]
    assert len(schemes) == 2
    for colors in schemes:
        for text, back in (
            ("text", "back"),
            ("hint", "back"),
            ("accent", "back"),
            ("on-accent", "accent"),
            ("on-danger", "danger"),
        ):
            light, dark = sorted((relative_luminance(colors[text]), relative_luminance(colors[back])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, back)


def test_sentence_keeps_names_that_are_unknown_here() -> None:
    plan: dict[str, Any] = PIECE["plan"] | {"mode": "locrian", "instruments": ["kazoo", "drums"]}
    assert plan_sentence(plan, Locale.KO).startswith("D locrian, 분당 84박")
    assert "악기: kazoo, 드럼." in plan_sentence(plan, Locale.KO)
    assert "Form: intro – A – A' (18 bars)." in plan_sentence(plan, Locale.EN)


def test_texts_are_complete() -> None:
    korean, english = texts.texts(Locale.KO), texts.texts(Locale.EN)
    assert korean.keys() == english.keys()
    for name in korean.keys() - {"other_language"}:
        assert re.search("[가-힣]|JSON", korean[name]), name
        assert not re.search("[가-힣]", english[name]), name
