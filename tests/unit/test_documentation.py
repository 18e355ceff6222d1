"""The documents hold: their example runs, their links lead somewhere, and they name every setting."""

from __future__ import annotations

import base64
import re
import runpy
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs import webhook
from serve_app.settings import Settings

ROOT = Path(__file__).parents[2]
WIDTH = 120
FOLDERS = ("docs", "serve_app", "tests", "training")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
BODY = '{"job_id":"a","status":"processing","progress":10,"message":"비디오 다운로드 완료"}'.encode()
OTHER = "whsec_" + base64.b64encode(b"k" * 24).decode()


@pytest.fixture(scope="module")
def receiver() -> dict[str, Any]:
    """Return what the example of docs/callbacks.md defines."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "callbacks.md").read_text(encoding="utf-8"), re.S)
    names: dict[str, Any] = {"__name__": "receiver"}
    exec(compile(code, "docs/callbacks.md", "exec"), names)
    return names


def sent(secrets: str | None, timestamp_s: float) -> Message:
    """Return an attempt's headers as `http.server` hands them over."""
    values = webhook.headers(
        webhook.parse_secrets(secrets), webhook_id="msg_1", seq=1, timestamp_s=int(timestamp_s), body=BODY
    )
    message = Message()
    for name, value in values.items():
        message[name] = value
    return message


@pytest.mark.parametrize("secrets", ["{own}", "{other} {own}", "{own} {other}"])
def test_the_example_takes_what_we_sign(receiver: dict[str, Any], secrets: str) -> None:
    signed_with = secrets.format(own=receiver["SECRET"], other=OTHER)
    receiver["verify"](sent(signed_with, time.time()), BODY)


@pytest.mark.parametrize(
    ("secrets", "age_s", "body"),
    [
        (OTHER, 0, BODY),
        (None, 0, BODY),
        ("{own}", 3600, BODY),
        ("{own}", -3600, BODY),
        ("{own}", 0, BODY + b" "),
    ],
)
def test_the_example_refuses_the_rest(receiver: dict[str, Any], secrets: str | None, age_s: float, body: bytes) -> None:
    signed_with = secrets.format(own=receiver["SECRET"]) if secrets else None
    with pytest.raises(ValueError):
        receiver["verify"](sent(signed_with, time.time() - age_s), body)


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page, with their numbers, that are neither code nor a table."""
    fence = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        mark = re.match(r" *(```+|~~~+)", line)
        if fence:
            fence = "" if line.strip() == fence else fence
        elif mark:
            fence = mark.group(1)
        elif not line.startswith("|"):
            yield number, line


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = [line.lstrip("#") for _, line in prose(page) if line.startswith("#")]
    plain = [re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def links(page: Path) -> list[str]:
    """Return the targets of a page's links; a line break may stand in a link's text."""
    tables = "\n".join(line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|"))
    text = re.sub(r"`[^`]*`", "", "\n".join(line for _, line in prose(page)) + "\n" + tables)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_is_wrapped_at_one_width(page: Path) -> None:
    assert [f"{page.name}:{number}" for number, line in prose(page) if len(line) > WIDTH] == []


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_the_readme_is_short(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 135


def test_both_readmes_link_to_the_same_pages() -> None:
    english, korean = (links(ROOT / name) for name in ("README.md", "README.ko.md"))
    assert set(english) - {"README.ko.md"} == set(korean) - {"README.md"}


def test_every_page_is_listed() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link).resolve() for link in links(index)}
    assert {page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "decisions"} <= listed | {index}


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """Return what the script that writes the configuration reference defines."""
    return runpy.run_path(str(ROOT / "docs" / "generate_reference.py"))


def test_the_configuration_reference_is_fresh(reference: dict[str, Any]) -> None:
    assert reference["PAGE"].read_text(encoding="utf-8") == reference["render"](), "run `make reference`"


def test_the_configuration_reference_says_what_every_setting_means(reference: dict[str, Any]) -> None:
    assert reference["missing_sentences"]() == []


def test_the_configuration_reference_lists_every_variable_that_is_read(reference: dict[str, Any]) -> None:
    environment = AskedNames()
    Settings.from_environment(environment)
    read = environment.asked - {"HOME", "XDG_STATE_HOME"}
    assert len(read) > 10
    rows = re.findall(r"^\| `([A-Z_]+)` \|", reference["render"](), re.M)
    assert set(rows) == read | {"SERVE_APP_URL", "SERVE_APP_API_KEY"}


class AskedNames(dict[str, str]):
    """An empty environment that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:
        self.asked.add(name)
        return default


def test_the_page_of_findings_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "decisions" / "0018-hardening.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+[ab]?\. .*$", page, re.M)
    assert len(rows) == 29
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)`: ((?:`test_\w+`(?: \([\w ]+\))?(?:, )?)+)", row)
        assert named, row
        for file, tests in named:
            code = (ROOT / file if file.startswith("tests/") else ROOT / "tests" / "unit" / file).read_text("utf-8")
            assert [test for test in re.findall(r"`(\w+)`", tests) if f"def {test}(" not in code] == []
