"""Submitting pictures; the answers about pieces; downloads, versions and removal."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from serve_app.errors import JobNotFound
from serve_app.jobs.record import MusicRequest
from serve_app.jobs.store import Quota
from serve_app.media.artifacts import ArtifactStore
from serve_app.messages import Locale, MusicStage
from serve_app.services import MusicFile, Services
from tests.unit.api.conftest import in_korean
from tests.unit.api.memory_services import FILES, PIECE, JobsOnTable, MusicOnTable
from tests.unit.api.music.conftest import BROWSER, SCRIPT, picture, submit

URL = "https://example.org/sea.jpg"


def stored(jobs: JobsOnTable, job_id: str) -> MusicRequest:
    request = jobs.store.get(job_id).request
    assert isinstance(request, MusicRequest)
    return request


class TestSubmit:
    @in_korean
    def test_answer_is_that_of_video_jobs_and_the_page(self, client: TestClient) -> None:
        answer = submit(client, job_id="sea-1")
        assert answer.status_code == 200
        assert answer.text == (
            '{"job_id":"sea-1","status":"processing","message":"음악 생성이 시작되었습니다",'
            '"status_url":"/jobs/sea-1","estimated_time":300,"page_url":"/music/sea-1/page"}'
        )

    def test_every_field_is_stored(self, client: TestClient, jobs: JobsOnTable) -> None:
        answer = submit(
            client,
            job_id="sea-1",
            prompt="  calm\r\n\tpiano\x00 \u202eevil ",
            duration="12.5",
            seed=2**53 - 1,
            locale="en",
            fastapi_base_url="https://backend.example/",
        )
        assert answer.json()["message"] == "The music is being made"
        assert stored(jobs, "sea-1") == MusicRequest(
            job_id="sea-1",
            callback_base="https://backend.example",
            locale=Locale.EN,
            upload_sha256=hashlib.sha256(picture()).hexdigest(),
            prompt="calm piano evil",
            duration_s=12.5,
            seed=2**53 - 1,
        )

    @pytest.mark.parametrize("how", ["json", "data"])
    def test_by_address(self, client: TestClient, jobs: JobsOnTable, how: str) -> None:
        answer = client.post("/generate-music", **{how: {"image_url": URL, "duration": 5}})  # type: ignore[arg-type]
        job_id = answer.json()["job_id"]
        assert re.fullmatch("[0-9a-f]{32}", job_id)
        assert stored(jobs, job_id) == MusicRequest(job_id=job_id, image_url=URL, duration_s=5.0)

    def test_by_address_in_a_form_whose_file_was_left_empty(self, client: TestClient, jobs: JobsOnTable) -> None:
        parts = [
            f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'
            for name, more, value in (
                ("file", '; filename=""\r\nContent-Type: application/octet-stream', ""),
                ("image_url", "", URL),
                ("seed", "", ""),
                ("prompt", "", ""),
            )
        ]
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = client.post("/generate-music", content="".join(parts) + "--b--\r\n", headers=headers)
        assert stored(jobs, answer.json()["job_id"]).image_url == URL

    def test_address_on_a_private_network_is_left_to_the_job(self, client: TestClient) -> None:
        assert client.post("/generate-music", json={"image_url": "http://10.0.0.1/x"}).status_code == 200

    def test_the_same_request_again_is_the_same_job_and_another_a_conflict(self, client: TestClient) -> None:
        assert submit(client, SCRIPT, job_id="sea-1").status_code == 200
        assert submit(client, SCRIPT, job_id="sea-1").status_code == 200
        assert submit(client, SCRIPT, job_id="sea-1", seed=3).status_code == 409

    def test_a_script_whose_answer_was_lost_keeps_its_piece(self, client: TestClient) -> None:
        submit(client, job_id="sea-1")
        client.cookies.clear()
        repeated = submit(client, job_id="sea-1")
        # a cookie of another visitor would hide the piece from its own client
        assert "set-cookie" not in repeated.headers
        assert client.get("/music/sea-1").status_code == 200

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"duration": "4.9"}, "duration"),
            ({"duration": "120.1"}, "duration"),
            ({"duration": "nan"}, "duration"),
            ({"seed": "-1"}, "seed"),
            ({"seed": str(2**53)}, "seed"),
            ({"seed": "1.5"}, "seed"),
            ({"locale": "fr"}, "locale"),
            ({"prompt": "x" * 501}, "prompt"),
            ({"job_id": "../etc"}, "job_id"),
            ({"job_id": "page"}, "list of pieces"),
            ({"engine": "musicgen"}, "Unknown field. Allowed: file, "),
            ({"fastapi_base_url": "ftp://x"}, "fastapi_base_url"),
        ],
    )
    def test_malformed_field_is_named(self, client: TestClient, fields: dict[str, str], sentence: str) -> None:
        answer = submit(client, **fields)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")
        assert sentence in answer.json()["error"]["message"]

    def test_prompt_is_measured_once_it_is_clean(self, client: TestClient, jobs: JobsOnTable) -> None:
        answer = submit(client, prompt="피아노 " * 125 + " \n" * 300)
        assert len(stored(jobs, answer.json()["job_id"]).prompt) == 499

    def test_a_picture_is_needed_and_one_alone(self, client: TestClient) -> None:
        none = client.post("/generate-music", files={"prompt": (None, "calm")})
        assert none.status_code == 422
        assert "a picture is missing: send either file or image_url" in none.json()["error"]["message"]
        two = submit(client, image_url=URL)
        assert two.status_code == 422
        assert "two pictures were sent" in two.json()["error"]["message"]
        files = [("file", ("a.jpg", picture())), ("file", ("b.jpg", picture()))]
        assert client.post("/generate-music", files=files).status_code == 422
        assert client.post("/generate-music", json={"prompt": "calm"}).status_code == 422
        assert client.post("/generate-music", data={"prompt": "calm"}).status_code == 422

    def test_other_bodies_are_refused(self, client: TestClient) -> None:
        plain = client.post("/generate-music", content=picture(), headers={"Content-Type": "image/jpeg"})
        assert plain.status_code == 415
        assert client.post("/generate-music", json=[1]).status_code == 422
        twice = client.post(
            "/generate-music",
            content=f"image_url={URL}&image_url={URL}",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert twice.status_code == 422

    def test_what_is_no_picture_is_refused_and_leaves_nothing(
        self, client: TestClient, jobs: JobsOnTable, music: MusicOnTable
    ) -> None:
        answer = client.post("/generate-music", files={"file": ("x.jpg", b"not a picture at all")})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "IMAGE_UNREADABLE")
        assert jobs.jobs == {}
        assert music.artifacts.delete_prefix("jobs") == 0

    def test_large_picture(self, client_with: Callable[..., TestClient]) -> None:
        client = client_with(max_image_bytes=len(picture()))
        assert submit(client).status_code == 200
        smaller = client_with(max_image_bytes=len(picture()) - 1)
        assert submit(smaller).status_code == 413
        assert submit(client_with(max_image_bytes=10), prompt="x" * 70_000).status_code == 413

    def test_quota(self, services: Services, client: TestClient, jobs: JobsOnTable) -> None:
        client.app.state.services = _with_quota(services, jobs, active=1)  # type: ignore[attr-defined]
        assert submit(client, SCRIPT).status_code == 200
        answer = submit(client, SCRIPT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "QUOTA_EXCEEDED")
        assert int(answer.headers["retry-after"]) >= 1


def _with_quota(services: Services, jobs: JobsOnTable, active: int) -> Services:
    return replace(services, music=MusicOnTable(jobs, quota=Quota(active=active, per_hour=100)))


class TestBrowsersForm:
    def test_goes_to_the_page(self, client: TestClient) -> None:
        answer = submit(client, BROWSER, job_id="sea-1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/music/sea-1/page")
        assert answer.headers["cache-control"] == "no-store"
        page = client.get("/music/sea-1/page", headers=BROWSER)
        assert page.status_code == 200

    def test_failure_is_a_page(self, client: TestClient) -> None:
        answer = client.post("/generate-music", files={"file": ("x.jpg", b"no <picture>")}, headers=BROWSER)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert '<html lang="en">' in answer.text
        assert "Upload a picture file that can be read." in answer.text

    def test_failure_in_korean(self, client: TestClient) -> None:
        headers = BROWSER | {"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.8"}
        answer = client.post("/generate-music", files={"file": ("x.jpg", b"x")}, headers=headers)
        assert '<html lang="ko">' in answer.text
        assert "읽을 수 있는 사진 파일을 올려 주세요." in answer.text

    def test_failure_has_its_status_and_retry_after(
        self, services: Services, client: TestClient, jobs: JobsOnTable
    ) -> None:
        client.app.state.services = _with_quota(services, jobs, active=0)  # type: ignore[attr-defined]
        answer = submit(client, BROWSER)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1

    def test_addresses_follow_the_route_prefix(self, client: TestClient, music: MusicOnTable) -> None:
        prefixed = TestClient(client.app, root_path="/art")
        files = {"file": ("sea.jpg", picture())}
        answer = prefixed.post(
            "/art/generate-music", files=files, data={"job_id": "a"}, headers=BROWSER, follow_redirects=False
        )
        assert answer.headers["location"] == "/art/music/a/page"
        assert "; Path=/art;" in answer.headers["set-cookie"]
        music.run("a")
        page = prefixed.get("/art/music/a/page", headers=BROWSER).text
        for address in re.findall(r'(?:src|href|action)="([^"]+)"', page):
            assert address.startswith("/art/music/"), address
        assert prefixed.get("/art/music/a").json()["urls"]["audio"] == "/art/music/a/audio"
        assert 'action="/art/generate-music"' in prefixed.get("/art/music/page").text


class TestPiece:
    def test_in_work(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client, job_id="sea-1", locale="en")
        view = client.get("/music/sea-1").json()
        assert view == {
            "status": "processing",
            "job_id": "sea-1",
            "progress": 0,
            "message": "Queued",
            "created_at": "2024-01-15T10:30:00Z",
            "queue_position": 0,
            "kind": "music",
            "page_url": "/music/sea-1/page",
        }
        jobs.run_stage("sea-1", MusicStage.COMPOSING)
        view = client.get("/music/sea-1").json()
        assert (view["progress"], view["message"]) == (30, "Making the music...")
        assert "queue_position" not in view

    def test_ready(self, client: TestClient, ready: str) -> None:
        view = client.get(f"/music/{ready}").json()
        for name in ("caption", "plan", "engine_used", "license", "duration", "measurements", "stage_seconds", "notes"):
            assert view[name] == PIECE[name], name
        assert (view["seed"], view["fallback_reason"]) == (7, None)
        assert view["files"] == {str(file): len(content) for file, content in FILES.items()}
        assert view["urls"]["audio"] == "/music/sea-1/audio"
        assert view["urls"]["download"]["flac"] == "/music/sea-1/download?format=flac"
        assert "result" not in view
        assert "stale" not in str(view)

    def test_only_files_that_there_are_have_addresses(self, client: TestClient, music: MusicOnTable) -> None:
        submit(client, job_id="a")
        music.run("a", {file: content for file, content in FILES.items() if file is not MusicFile.MIDI})
        assert set(client.get("/music/a").json()["urls"]["download"]) == {"mp3", "flac", "picture", "caption", "plan"}
        missing = client.get("/music/a/download?format=mid")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "MUSIC_FILE_MISSING")

    def test_failed(self, client: TestClient, jobs: JobsOnTable) -> None:
        submit(client, job_id="a")
        jobs.run_fail("a", "PROCESSING_ERROR", "처리 중 오류가 발생했습니다: no engine")
        view = client.get("/music/a").json()
        assert (view["status"], view["error_code"]) == ("failed", "PROCESSING_ERROR")

    def test_unknown_and_video_jobs_are_no_pieces(self, client: TestClient) -> None:
        client.post("/api/upload-video/process-video", json={"job_id": "v", "video_url": "v"})
        for job_id in ("nobody", "v"):
            for path in ("", "/page", "/picture", "/audio", "/download"):
                assert client.get(f"/music/{job_id}{path}").status_code == 404, (job_id, path)
        assert client.get("/music/..%2Fx").status_code == 404

    def test_list(self, client: TestClient, new_client: Callable[[], TestClient]) -> None:
        for job_id in ("a", "b", "c"):
            submit(client, SCRIPT, job_id=job_id)
        first = client.get("/music?limit=2").json()
        assert [piece["job_id"] for piece in first["pieces"]] == ["c", "b"]
        rest = client.get(f"/music?limit=2&cursor={first['next_cursor']}").json()
        assert ([piece["job_id"] for piece in rest["pieces"]], rest["next_cursor"]) == (["a"], None)
        assert new_client().get("/music").json() == {"pieces": [], "next_cursor": None}
        assert client.get("/music?cursor=x").status_code == 422
        assert client.get("/music?limit=0").status_code == 422

    def test_as_a_job(self, client: TestClient, ready: str) -> None:
        view = client.get(f"/jobs/{ready}").json()
        assert view["kind"] == "music"
        assert view["result"]["caption"]["caption_en"] == "A calm sea in blue light"
        answer = client.get(f"/jobs/{ready}/transcript.srt")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "JOB_CONFLICT")
        assert "has no transcript" in answer.json()["error"]["message"]
        client.post("/api/upload-video/process-video", json={"job_id": "v", "video_url": "v"})
        assert "kind" not in client.get("/jobs/v").json()

    @pytest.mark.parametrize("stage", [None, MusicStage.COMPOSING])
    def test_music_is_not_there_before_it_is_ready(
        self, client: TestClient, jobs: JobsOnTable, stage: int | None
    ) -> None:
        submit(client, job_id="a")
        if stage is not None:
            jobs.run_stage("a", stage)
        for path in ("audio", "download", "download?format=plan"):
            assert client.get(f"/music/a/{path}").status_code == 409, path
        assert client.get("/music/a/picture").status_code == 404


class TestDownload:
    @pytest.mark.parametrize(
        ("form", "kind", "file", "name"),
        [
            ("mp3", "audio/mpeg", MusicFile.MP3, "A calm sea in blue light.mp3"),
            ("flac", "audio/flac", MusicFile.FLAC, "A calm sea in blue light.flac"),
            ("mid", "audio/midi", MusicFile.MIDI, "A calm sea in blue light.mid"),
            ("picture", "image/jpeg", MusicFile.PICTURE, "A calm sea in blue light.jpg"),
            ("caption", "application/json", MusicFile.CAPTION, "A calm sea in blue light.caption.json"),
            ("plan", "application/json", MusicFile.PLAN, "A calm sea in blue light.plan.json"),
        ],
    )
    def test_formats(self, client: TestClient, ready: str, form: str, kind: str, file: MusicFile, name: str) -> None:
        answer = client.get(f"/music/{ready}/download?format={form}&locale=en")
        assert answer.content == FILES[file]
        assert answer.headers["content-type"].partition(";")[0] == kind
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'

    @in_korean
    def test_korean_name(self, client: TestClient, ready: str) -> None:
        disposition = client.get(f"/music/{ready}/download").headers["content-disposition"]
        assert disposition.startswith('attachment; filename="__ _')
        assert "filename*=UTF-8''%ED%8C%8C%EB%9E%80%20" in disposition

    @pytest.mark.parametrize("caption", ['../../x\r\nSet-Cookie: a=b"; .exe', "<script>", "!!!", "x" * 900])
    def test_hostile_caption_names_no_path_and_no_header(
        self, client: TestClient, music: MusicOnTable, caption: str
    ) -> None:
        submit(client, SCRIPT, job_id="a")
        music.run("a", caption=PIECE["caption"] | {"caption_en": caption, "caption_ko": caption})
        answer = client.get("/music/a/download?format=mp3")
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers
        assert re.fullmatch(r'attachment; filename="[\w ]{1,70}\.mp3"', answer.headers["content-disposition"])

    def test_unknown_format(self, client: TestClient, ready: str) -> None:
        assert client.get(f"/music/{ready}/download?format=exe").status_code == 422


class TestVersions:
    def test_another_seed_of_the_same_request(self, client: TestClient, jobs: JobsOnTable, music: MusicOnTable) -> None:
        submit(client, SCRIPT, job_id="a", seed=7, prompt="calm", duration=12)
        music.run("a")
        answer = client.post("/music/a/versions", headers=SCRIPT)
        assert answer.status_code == 200
        again = stored(jobs, answer.json()["job_id"])
        assert again.job_id != "a"
        assert (again.prompt, again.duration_s, again.version_of) == ("calm", 12.0, "a")
        assert again.seed != 7
        assert [piece["job_id"] for piece in client.get("/music").json()["pieces"]] == [again.job_id, "a"]

    def test_from_a_page(self, client: TestClient, ready: str) -> None:
        answer = client.post(f"/music/{ready}/versions", headers=BROWSER, follow_redirects=False)
        assert answer.status_code == 303
        assert re.fullmatch(r"/music/[0-9a-f]{32}/page", answer.headers["location"])


class TestRemoval:
    @pytest.mark.parametrize("is_ready", [True, False])
    def test_piece_and_files_are_gone(
        self, client: TestClient, music: MusicOnTable, jobs: JobsOnTable, is_ready: bool
    ) -> None:
        submit(client, SCRIPT, job_id="a")
        if is_ready:
            music.run("a")
        assert client.delete("/music/a", headers=SCRIPT).status_code == 204
        assert client.get("/music/a").status_code == 404
        with pytest.raises(JobNotFound):
            jobs.store.get("a")
        assert music.artifacts.delete_prefix("published") + music.artifacts.delete_prefix("jobs") == 0
        assert client.delete("/music/a", headers=SCRIPT).status_code == 404

    def test_from_a_page(self, client: TestClient, ready: str) -> None:
        answer = client.post(f"/music/{ready}/delete", headers=BROWSER, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/music/page")
        assert client.get(f"/music/{ready}").status_code == 404

    def test_from_a_page_in_plain_accept(self, client: TestClient, ready: str) -> None:
        answer = client.post(f"/music/{ready}/delete", headers=SCRIPT, follow_redirects=False)
        assert answer.status_code == 303


def test_signed_link_is_used_where_the_store_gives_one(
    services: Services, jobs: JobsOnTable, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def sign(self: ArtifactStore, key: str, filename: str, expires_s: int = 600) -> str:
        asked.append((key, filename))
        return "https://bucket.example/signed?x=1"

    monkeypatch.setattr(ArtifactStore, "signed_url", sign)
    submit(client, SCRIPT, job_id="a")
    assert isinstance(services.music, MusicOnTable)
    services.music.run("a")
    answer = client.get("/music/a/download?format=flac&locale=en", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (302, "https://bucket.example/signed?x=1")
    assert answer.headers["cache-control"] == "no-store"
    assert asked == [("published/a/music.flac", "A calm sea in blue light.flac")]
    # a link that expires amid a piece would break the next range: players stay here
    assert client.get("/music/a/audio", follow_redirects=False).status_code == 200
