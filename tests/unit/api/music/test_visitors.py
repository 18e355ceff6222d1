"""Visitors: their cookie, what each can see, and whose requests may change something."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

import pytest
from fastapi.testclient import TestClient
from itsdangerous import TimestampSigner

from serve_app.api.app import create_app
from serve_app.api.http.options import ApiSettings
from serve_app.services import Services
from tests.unit.api.memory_services import RESULT, JobsOnTable, MusicOnTable, memory_services
from tests.unit.api.music.conftest import BROWSER, SCRIPT, picture, submit

COOKIE = "serve_app_visitor"
DAY_S = 86400
# every address of a job; POSTs that would change it come last
OF_JOB = [
    ("GET", "/jobs/{id}"),
    ("GET", "/jobs/{id}/events"),
    ("GET", "/jobs/{id}/deliveries"),
    ("GET", "/jobs/{id}/transcript.srt"),
    ("POST", "/jobs/{id}/deliveries/replay"),
    ("POST", "/jobs/{id}/cancel"),
    ("DELETE", "/jobs/{id}"),
]
OF_PIECE = [
    ("GET", "/music/{id}"),
    ("GET", "/music/{id}/page"),
    ("GET", "/music/{id}/picture"),
    ("HEAD", "/music/{id}/picture"),
    ("GET", "/music/{id}/audio"),
    ("HEAD", "/music/{id}/audio"),
    ("GET", "/music/{id}/download"),
    ("POST", "/music/{id}/versions"),
    ("POST", "/music/{id}/delete"),
    ("DELETE", "/music/{id}"),
]


def morsel(answer: Any) -> Any:
    """Return the visitor's cookie that an answer sets."""
    return SimpleCookie(answer.headers["set-cookie"])[COOKIE]


def with_cookie(client: TestClient, value: str) -> TestClient:
    client.cookies.set(COOKIE, value)
    return client


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let cookies be signed at a time that a test sets."""
    now = [time.time()]
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: int(now[0]))
    return now


class TestCookie:
    def test_attributes(self, client: TestClient) -> None:
        cookie = morsel(submit(client))
        assert re.fullmatch(r"[0-9a-f]{32}\.[\w-]+\.[\w-]{43}", cookie.value)
        assert (cookie["path"], cookie["samesite"], cookie["httponly"]) == ("/", "lax", True)
        assert (cookie["max-age"], cookie["secure"], cookie["domain"]) == (str(180 * DAY_S), "", "")

    def test_only_new_visitors_get_one(self, client: TestClient) -> None:
        assert "set-cookie" not in client.get("/music").headers
        assert "set-cookie" not in client.get("/music/page", headers=BROWSER).headers
        assert "set-cookie" in submit(client).headers
        for answer in (submit(client), client.get("/music"), client.get("/music/page"), client.get("/jobs")):
            assert "set-cookie" not in answer.headers

    @pytest.mark.parametrize(
        ("setting", "base_url", "forwarded", "secure"),
        [
            ("auto", "http://testserver", None, False),
            ("auto", "https://testserver", None, True),
            ("auto", "http://testserver", "https", True),
            ("auto", "http://testserver", "HTTPS, http", True),
            ("auto", "http://testserver", "http", False),
            ("always", "http://testserver", None, True),
            ("never", "https://testserver", "https", False),
        ],
    )
    def test_secure(self, services: Services, setting: Any, base_url: str, forwarded: str | None, secure: bool) -> None:
        client = TestClient(create_app(services, ApiSettings(cookie_secure=setting)), base_url=base_url)
        answer = submit(client, {"X-Forwarded-Proto": forwarded} if forwarded else None)
        assert bool(morsel(answer)["secure"]) is secure

    def test_is_renewed_after_a_month_and_ends_after_half_a_year(
        self, client: TestClient, new_client: Callable[[], TestClient], clock: list[float]
    ) -> None:
        born = clock[0]
        value = morsel(submit(client, SCRIPT, job_id="a")).value
        for age, is_own, is_renewed in (
            (29 * DAY_S, True, False),
            (31 * DAY_S, True, True),
            (179 * DAY_S, True, True),
            (181 * DAY_S, False, False),
        ):
            clock[0] = born + age
            answer = with_cookie(new_client(), value).get("/music")
            assert bool(answer.json()["pieces"]) is is_own, age
            assert ("set-cookie" in answer.headers) is is_renewed, age
            if is_renewed:
                renewed = morsel(answer).value
                assert renewed.partition(".")[0] == value.partition(".")[0]
                assert renewed != value
        clock[0] = born + 300 * DAY_S
        assert with_cookie(new_client(), renewed).get("/music").json()["pieces"]

    def test_an_answer_that_failed_sets_none(self, client: TestClient, new_client: Callable[[], TestClient]) -> None:
        submit(client, SCRIPT, job_id="a")
        stranger = new_client()
        for status, fields in ((409, {"job_id": "a"}), (422, {"duration": "long"})):
            answer = submit(stranger, SCRIPT, **fields)
            assert answer.status_code == status
            assert "set-cookie" not in answer.headers
        assert "set-cookie" in submit(stranger, SCRIPT).headers

    @pytest.mark.parametrize(("behind_s", "is_own"), [(1, True), (300, True), (301, False), (DAY_S, False)])
    def test_the_clock_of_another_replica_may_be_behind(
        self, client: TestClient, new_client: Callable[[], TestClient], clock: list[float], behind_s: int, is_own: bool
    ) -> None:
        value = morsel(submit(client, SCRIPT, job_id="a")).value
        clock[0] -= behind_s
        answer = with_cookie(new_client(), value).get("/music")
        assert bool(answer.json()["pieces"]) is is_own
        assert "set-cookie" not in answer.headers

    def test_forged_ones_are_nobodys(
        self, client: TestClient, new_client: Callable[[], TestClient], clock: list[float]
    ) -> None:
        value = morsel(submit(client, SCRIPT, job_id="a")).value
        visitor, _, rest = value.partition(".")
        stamp, _, signature = rest.partition(".")
        flipped = ("1" if visitor[0] != "1" else "2") + visitor[1:]
        other_salt = TimestampSigner(client.app.state.visitor_signer.secret_keys, salt="x").sign(visitor).decode()  # type: ignore[attr-defined]
        foreign = TimestampSigner("guess").sign(visitor).decode()
        for forged in (
            f"{flipped}.{rest}",
            f"{visitor}.{stamp}.{signature[:-2]}AA",
            f"{visitor}.AAAAAA.{signature}",
            visitor,
            f"{visitor}..",
            "x" * 4000,
            other_salt,
            foreign,
        ):
            answer = with_cookie(new_client(), forged).get("/music/a")
            assert answer.status_code == 404, forged
            assert with_cookie(new_client(), forged).get("/music").json()["pieces"] == [], forged
        # and its sender is a new visitor
        assert morsel(submit(with_cookie(new_client(), foreign))).value.partition(".")[0] != visitor

    def test_secrets_are_exchanged_one_after_the_other(self, services: Services) -> None:
        def client(*secrets: str) -> TestClient:
            return TestClient(create_app(services, ApiSettings(cookie_secrets=secrets)))

        def sees(value: str, *secrets: str) -> bool:
            return with_cookie(client(*secrets), value).get("/music/a").status_code == 200

        value = morsel(submit(client("old" * 11), SCRIPT, job_id="a")).value
        assert sees(value, "new" * 11, "old" * 11)
        assert not sees(value, "new" * 11)
        newer = with_cookie(client("new" * 11, "old" * 11), value).get("/music")
        assert "set-cookie" not in newer.headers
        signed = morsel(submit(client("new" * 11, "old" * 11), SCRIPT, job_id="b")).value
        assert with_cookie(client("new" * 11), signed).get("/music/b").status_code == 200

    def test_replicas_share_the_stores_secret(self, services: Services) -> None:
        first, second = (TestClient(create_app(services, ApiSettings())) for _ in range(2))
        value = morsel(submit(first, SCRIPT, job_id="a")).value
        assert with_cookie(second, value).get("/music/a").status_code == 200
        stranger = TestClient(create_app(memory_services(), ApiSettings()))
        assert with_cookie(stranger, value).get("/music").json()["pieces"] == []


def call(client: TestClient, method: str, path: str, job_id: str, headers: dict[str, str] | None = None) -> int:
    answer = client.request(method, path.format(id=job_id), headers=headers, follow_redirects=False)
    return int(answer.status_code)


class TestIsolation:
    @pytest.fixture
    def other(self, new_client: Callable[[], TestClient]) -> TestClient:
        """Return a visitor with a cookie and a piece of its own."""
        other = new_client()
        submit(other, SCRIPT, job_id="theirs")
        return other

    def test_a_browsers_piece_is_for_it_alone(
        self, client: TestClient, ready: str, other: TestClient, new_client: Callable[[], TestClient]
    ) -> None:
        for method, path in OF_JOB + OF_PIECE:
            for stranger in (other, new_client()):
                assert call(stranger, method, path, ready) == 404, (method, path)
                assert call(stranger, method, path, ready, SCRIPT) == 404, (method, path)
        for method, path in OF_JOB[:-1] + OF_PIECE[:-1]:
            assert call(client, method, path, ready, SCRIPT) != 404, (method, path)

    def test_404_is_the_same_as_for_an_id_that_nobody_has(self, ready: str, other: TestClient) -> None:
        for method, path in OF_JOB + OF_PIECE:
            if method == "HEAD":
                continue
            bodies = []
            for job_id in (ready, "nobody"):
                answer = other.request(method, path.format(id=job_id), headers={"x-request-id": "r"} | SCRIPT)
                bodies.append(answer.text.replace(job_id, "ID"))
            assert bodies[0] == bodies[1], (method, path)

    def test_a_scripts_piece_is_for_all_without_a_cookie(
        self, client: TestClient, music: MusicOnTable, other: TestClient, new_client: Callable[[], TestClient]
    ) -> None:
        submit(client, job_id="a")
        music.run("a")
        for method, path in [OF_JOB[0], *OF_PIECE[:8]]:
            assert call(new_client(), method, path, "a") in (200, 204), (method, path)
            assert call(client, method, path, "a") in (200, 204), (method, path)
            assert call(other, method, path, "a") == 404, (method, path)

    def test_a_script_that_keeps_its_cookie_is_known(
        self, client: TestClient, new_client: Callable[[], TestClient]
    ) -> None:
        submit(client, job_id="a")
        submit(client, job_id="b")
        assert new_client().get("/music/a").status_code == 200
        assert new_client().get("/music/b").status_code == 404

    @pytest.mark.parametrize("header", [{"Origin": "http://testserver"}, {"Sec-Fetch-Site": "same-origin"}])
    def test_either_header_makes_a_browser(
        self, client: TestClient, new_client: Callable[[], TestClient], header: dict[str, str]
    ) -> None:
        submit(client, header, job_id="a")
        assert new_client().get("/music/a").status_code == 404

    def test_lists(
        self, client: TestClient, ready: str, other: TestClient, new_client: Callable[[], TestClient]
    ) -> None:
        client.post("/api/upload-video/process-video", json={"job_id": "v", "video_url": "v"})

        def listed(visitor: TestClient) -> tuple[list[str], list[str]]:
            jobs, pieces = visitor.get("/jobs").json()["jobs"], visitor.get("/music").json()["pieces"]
            return [job["job_id"] for job in jobs], [piece["job_id"] for piece in pieces]

        assert listed(client) == (["v", ready], [ready])
        assert listed(other) == (["v", "theirs"], ["theirs"])
        assert listed(new_client()) == (["v"], [])

    def test_video_jobs_are_for_all(
        self, client: TestClient, jobs: JobsOnTable, other: TestClient, new_client: Callable[[], TestClient]
    ) -> None:
        client.post("/api/upload-video/process-video", json={"job_id": "v", "video_url": "v"}, headers=SCRIPT)
        jobs.run_complete("v", RESULT)
        for method, path in (OF_JOB[0], *OF_JOB[2:4]):
            for visitor in (client, other, new_client()):
                assert call(visitor, method, path, "v") == 200, (method, path)

    def test_an_id_that_another_has_is_taken(self, client: TestClient, ready: str, other: TestClient) -> None:
        answer = submit(other, SCRIPT, job_id=ready)
        assert answer.status_code == 409

    def test_many_visitors_at_once(self, new_client: Callable[[], TestClient], music: MusicOnTable) -> None:
        visitors = {f"piece-{number}": new_client() for number in range(20)}
        failures: list[BaseException] = []

        def visit(job_id: str, visitor: TestClient) -> None:
            try:
                assert submit(visitor, SCRIPT, job_id=job_id).status_code == 200
                assert [piece["job_id"] for piece in visitor.get("/music").json()["pieces"]] == [job_id]
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=visit, args=item) for item in visitors.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        for job_id, visitor in list(visitors.items())[:4]:
            seen = [other for other in visitors if visitor.get(f"/music/{other}").status_code != 404]
            assert seen == [job_id]


class TestOtherSites:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"},
            {"Origin": "https://evil.example"},
            {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-site"},
            {"Origin": "http://testserver", "Sec-Fetch-Site": "same-site"},
            {"Origin": "http://testserver:8080"},
            {"Origin": "http://testserver.evil.example"},
            {"Origin": "null"},
            {"Origin": "http://["},
            {"Origin": ""},
        ],
    )
    def test_may_change_nothing(self, client: TestClient, ready: str, headers: dict[str, str]) -> None:
        for method, path in OF_PIECE[-3:] + OF_JOB[-3:]:
            assert call(client, method, path, ready, headers) == 403, (method, path)
        answer = submit(client, headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
        assert [piece["job_id"] for piece in client.get("/music").json()["pieces"]] == [ready]

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Origin": "http://testserver"},
            {"Origin": "https://testserver"},  # TLS ends before this server
            {"Origin": "HTTP://TestServer"},
            {"Origin": "null", "Sec-Fetch-Site": "same-origin"},  # from a page with the policy `no-referrer`
            {"Sec-Fetch-Site": "none"},
        ],
    )
    def test_own_pages_and_scripts_may(self, client: TestClient, headers: dict[str, str]) -> None:
        assert submit(client, headers).status_code == 200

    def test_clients_that_are_no_browsers_may_change_jobs(self, client: TestClient, ready: str) -> None:
        statuses = [call(client, method, path, ready) for method, path in OF_JOB[-3:]]
        assert statuses == [202, 409, 204]  # it has completed, so that it can't be cancelled

    def test_the_refusal_is_documented(self, client: TestClient) -> None:
        paths = client.get("/openapi.json").json()["paths"]
        for method, path in OF_PIECE[-3:] + OF_JOB[-3:]:
            assert "403" in paths[path.format(id="{job_id}")][method.lower()]["responses"], path

    def test_origins_that_the_operator_names_may(self, client_with: Callable[..., TestClient]) -> None:
        headers = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
        assert submit(client_with(cors_origins=("https://app.example",)), headers).status_code == 200
        assert submit(client_with(cors_origins=("https://other.example",)), headers).status_code == 403
        assert submit(client_with(cors_origins=("*",)), headers).status_code == 200

    def test_refusal_comes_before_the_body_is_read(self, client: TestClient) -> None:
        answer = client.post("/generate-music", content=b"x", headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers

    def test_a_form_of_another_site_gets_a_page(self, client: TestClient) -> None:
        answer = submit(client, BROWSER | {"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403
        assert "Another site sent this request" in answer.text

    def test_reading_is_not_restricted(self, client: TestClient, ready: str) -> None:
        headers = {"Sec-Fetch-Site": "cross-site"}
        assert client.get(f"/music/{ready}/page", headers=headers).status_code == 200


def test_upload_is_not_kept_by_name(client: TestClient, jobs: JobsOnTable) -> None:
    files = {"file": ("../../etc/passwd", picture())}
    assert client.post("/generate-music", files=files, data={"job_id": "a"}).status_code == 200
    assert "passwd" not in repr(jobs.store.get("a"))
