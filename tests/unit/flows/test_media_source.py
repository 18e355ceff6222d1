"""Pictures by address, over a real socket, and uploads: limits, refusals, and what is left behind."""

from __future__ import annotations

import asyncio
import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import AddressRefused, CallbackRefused, DownloadError, MediaTooLarge, StorageUnavailable
from serve_app.flows.media_source import MediaSource
from serve_app.jobs.store import KnownJob
from serve_app.media.artifacts import ArtifactStore, claim_place, job_key, published_key, upload_key
from serve_app.settings import Settings
from tests.unit.media.scripted_server import ScriptedServer, answer

PICTURE = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 16  # 4100 bytes


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    thread = threading.Thread(target=scripted.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield scripted
    scripted.http.shutdown()
    scripted.http.server_close()
    thread.join(10)


def source(folder: Path, **changed: Any) -> MediaSource:
    given: dict[str, Any] = {"allowed_hosts": ("127.0.0.1",), "max_image_bytes": len(PICTURE)}
    settings = Settings(
        state_dir=folder / "state",
        models_dir=folder / "models",
        database_url=f"sqlite:///{folder / 'jobs.sqlite3'}",  # type: ignore[arg-type]
        artifacts_url=str(folder / "artifacts"),
        **(given | changed),
    )
    return MediaSource(settings)


def fetch_image(folder: Path, url: str, **changed: Any) -> bytes:
    """Return a picture, and see that nothing of it lies about afterwards, however it ended."""
    try:
        return asyncio.run(source(folder, **changed).fetch_image(url))
    finally:
        assert list((folder / "state" / "incoming").iterdir()) == []
        assert not list((folder / "artifacts").glob("*"))


def test_picture_arrives_whole(server: ScriptedServer, tmp_path: Path) -> None:
    url = server.on("/cup.jpg", answer(200, PICTURE, Content_Type="image/jpeg"))
    assert fetch_image(tmp_path, f"{url}?X-Amz-Signature=a%2Fb") == PICTURE
    assert server.requests[0][0] == "/cup.jpg?X-Amz-Signature=a%2Fb"


def test_empty_picture_is_left_to_the_model(server: ScriptedServer, tmp_path: Path) -> None:
    assert fetch_image(tmp_path, server.on("/cup.jpg", answer(200, b""))) == b""


def test_pictures_have_a_limit_of_their_own(server: ScriptedServer, tmp_path: Path) -> None:
    declared = server.on("/declared", answer(200, PICTURE + b"x"))
    chunked = server.on("/chunked", undeclared(PICTURE + b"x"))
    for url in (declared, chunked):
        with pytest.raises(MediaTooLarge, match="larger than the limit"):
            fetch_image(tmp_path, url, max_download_bytes=1 << 30)
        assert fetch_image(tmp_path, url, max_image_bytes=len(PICTURE) + 1, max_download_bytes=1024) == PICTURE + b"x"


def undeclared(body: bytes) -> Any:
    """Reply with a body whose length only its end tells."""

    def reply(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return reply


@pytest.mark.parametrize("allowed", [(), ("10.0.0.0/8",)])
def test_private_address_is_refused(server: ScriptedServer, tmp_path: Path, allowed: tuple[str, ...]) -> None:
    url = server.on("/cup.jpg", answer(200, PICTURE))
    for address in (url, url.replace("127.0.0.1", "localhost"), url.replace("http", "ftp", 1)):
        with pytest.raises(AddressRefused):
            fetch_image(tmp_path, address, allowed_hosts=allowed)
    assert server.requests == []


def test_redirect_to_a_private_address_is_refused(server: ScriptedServer, tmp_path: Path) -> None:
    server.on("/inside", answer(200, PICTURE))
    elsewhere = f"http://127.0.0.2:{server.http.server_port}/inside"
    url = server.on("/cup.jpg", answer(302, Location=elsewhere))
    with pytest.raises(AddressRefused):
        fetch_image(tmp_path, url)
    assert [path for path, _ in server.requests] == ["/cup.jpg"]


def test_what_is_no_picture_at_all(server: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="404 Not Found"):
        fetch_image(tmp_path, f"{server.url}/gone.jpg")
    page = server.on("/page", answer(200, b"<!doctype html><title>Sign in</title>", Content_Type="text/html"))
    with pytest.raises(DownloadError, match="web page"):
        fetch_image(tmp_path, page)


def test_local_file(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    root.mkdir()
    (root / "cup.jpg").write_bytes(PICTURE)
    (root / "large.jpg").write_bytes(PICTURE * 2)
    (tmp_path / "secret.jpg").write_bytes(PICTURE)
    with pytest.raises(AddressRefused, match="SERVE_APP_MEDIA_ROOT"):
        fetch_image(tmp_path, str(root / "cup.jpg"))
    for address in (str(root / "cup.jpg"), "cup.jpg", f"file://{root / 'cup.jpg'}"):
        assert fetch_image(tmp_path, address, media_root=root) == PICTURE
    with pytest.raises(AddressRefused):
        fetch_image(tmp_path, "../secret.jpg", media_root=root)
    with pytest.raises(MediaTooLarge):
        fetch_image(tmp_path, "large.jpg", media_root=root)


def test_several_at_once_do_not_meet(server: ScriptedServer, tmp_path: Path) -> None:
    urls = [server.on(f"/{n}/cup.jpg", answer(200, b"%d" % n * 100)) for n in range(8)]

    async def run() -> list[bytes]:
        media = source(tmp_path)
        return await asyncio.gather(*map(media.fetch_image, urls))

    assert asyncio.run(run()) == [b"%d" % n * 100 for n in range(8)]


def test_a_caller_that_leaves_leaves_nothing(server: ScriptedServer, tmp_path: Path) -> None:
    asked, go = threading.Event(), threading.Event()

    def reply(handler: Any) -> None:
        asked.set()
        go.wait(20)
        answer(200, PICTURE)(handler)

    url = server.on("/slow.jpg", reply)

    async def run() -> None:
        call = asyncio.create_task(source(tmp_path).fetch_image(url))
        assert await asyncio.to_thread(asked.wait, 20)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    try:
        asyncio.run(run())
    finally:
        go.set()
    assert list((tmp_path / "state" / "incoming").iterdir()) == []


class TestUploads:
    @pytest.mark.parametrize("num_bytes", [0, 5, 2 << 20])
    def test_small_one_is_handed_over_as_its_bytes(self, tmp_path: Path, num_bytes: int) -> None:
        async def run() -> None:
            file = io.BytesIO(b"x" * num_bytes)
            file.read(3)  # whoever looked at it first left it there
            async with source(tmp_path).handed_over(file) as media:
                assert media == b"x" * num_bytes
            assert files_in(tmp_path) == []

        asyncio.run(run())

    @pytest.mark.parametrize("failure", [None, RuntimeError("the model failed")])
    def test_large_one_lies_in_the_store_meanwhile(self, tmp_path: Path, failure: Exception | None) -> None:
        content = b"RIFF" + bytes(2 << 20)

        async def run() -> None:
            async with source(tmp_path).handed_over(io.BytesIO(content)) as media:
                assert isinstance(media, str)
                assert files_in(tmp_path) == [Path(media)]
                assert Path(media).read_bytes() == content
                if failure is not None:
                    raise failure

        if failure is None:
            asyncio.run(run())
        else:
            with pytest.raises(type(failure)):
                asyncio.run(run())
        assert files_in(tmp_path) == []

    def test_nothing_is_left_of_one_that_can_not_be_read(self, tmp_path: Path) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell() > 1 << 20:
                    raise OSError("the disk is gone")
                return super().read(size)

        async def run() -> None:
            async with source(tmp_path).handed_over(Broken(bytes(3 << 20))):
                raise AssertionError("it was handed over")

        with pytest.raises(StorageUnavailable, match="The disk that takes downloads fails: OSError"):
            asyncio.run(run())
        assert files_in(tmp_path) == []

    @pytest.mark.parametrize("failure", [None, RuntimeError("failed")])
    def test_a_folder_is_removed_however_its_block_ends(self, tmp_path: Path, failure: Exception | None) -> None:
        async def run() -> None:
            media = source(tmp_path)
            async with media.folder() as folder:
                assert isinstance(await media.hand_over(io.BytesIO(bytes(3 << 20)), folder), str)
                assert media.has(f"{folder}/media")
                if failure is not None:
                    raise failure

        with nullcontext() if failure is None else pytest.raises(RuntimeError, match="failed"):
            asyncio.run(run())
        assert files_in(tmp_path) == []

    def test_kept_in_the_folder_of_an_analysis_until_that_is_discarded(self, tmp_path: Path) -> None:
        media = source(tmp_path)
        kept = asyncio.run(media.hand_over(io.BytesIO(bytes(3 << 20)), "jobs/direct-1"))
        assert isinstance(kept, str)
        assert media.has("jobs/direct-1/media")
        media.discard("jobs/direct-1")
        assert files_in(tmp_path) == []


class TestJobs:
    def test_a_file_by_address_is_kept_until_it_is_discarded(self, server: ScriptedServer, tmp_path: Path) -> None:
        url = server.on("/talk.wav", answer(200, b"RIFF" * 100, Content_Type="audio/wav"))
        media = source(tmp_path)
        assert not media.has("jobs/a/media")
        fetched = asyncio.run(media.fetch(url, "jobs/a"))
        assert (fetched.num_bytes, fetched.filename) == (400, "talk.wav")
        assert files_in(tmp_path) == [Path(fetched.url)]
        assert Path(fetched.url).read_bytes() == b"RIFF" * 100
        assert media.has("jobs/a/media")
        media.discard("jobs/a")
        assert files_in(tmp_path) == []

    def test_what_dead_processes_left_is_swept(self, tmp_path: Path) -> None:
        media = source(tmp_path)
        no_jobs: list[KnownJob] = []
        media.sweep(3600.0, lambda: no_jobs)  # before anything was fetched there is no folder
        asyncio.run(media.hand_over(io.BytesIO(bytes(3 << 20)), "jobs/direct-dead"))
        left = tmp_path / "state" / "incoming" / "dead"
        left.mkdir(parents=True)
        media.sweep(3600.0, lambda: no_jobs)
        assert left.exists()
        assert media.has("jobs/direct-dead/media")
        long_ago = time.time() - 7200
        for path in (left, *(tmp_path / "artifacts").rglob("*")):
            os.utime(path, (long_ago, long_ago))
        media.sweep(3600.0, lambda: no_jobs)
        assert not left.exists()
        assert not media.has("jobs/direct-dead/media")

    def test_the_sweep_knows_which_jobs_there_are(self, tmp_path: Path) -> None:
        """Jobs 1 and 2 are of a version without fences; so is what lies under their ids."""
        media = source(tmp_path)
        known = [KnownJob(1, "waits", False), KnownJob(2, "Ended", True), KnownJob(3, "new", False)]
        places = [claim_place(number, number << 20) for number in (1, 2, 3, 4)]
        keys = [job_key(job_id, "media") for job_id in ("waits", "Ended", "removed")]
        keys += [published_key(job_id, "music.mp3") for job_id in ("waits", "Ended", "removed")]
        keys += [upload_key(job_id, "upload") for job_id in ("waits", "removed", "new")]
        keys += [f"{top}/{place}/file" for top in ("jobs", "published") for place in places]

        async def put() -> None:
            for key in keys:
                await media.put(key, b"x")

        asyncio.run(put())
        media.sweep(3600.0, lambda: known)
        # an upload may come before its job; what has a number belongs to a job, or to nobody
        young = {job_key("Ended", "media"), job_key("removed", "media"), upload_key("removed", "upload")}
        gone = {published_key("removed", "music.mp3")}
        gone |= {f"jobs/{place}/file" for place in (places[1], places[3])} | {f"published/{places[3]}/file"}
        assert {key for key in keys if not media.has(key)} == gone
        long_ago = time.time() - 7200
        for path in (tmp_path / "artifacts").rglob("*"):
            os.utime(path, (long_ago, long_ago))
        media.sweep(3600.0, lambda: known)
        assert {key for key in keys if not media.has(key)} == gone | young

    def test_what_a_write_stores_after_its_caller_left_is_removed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As an upload of gigabytes to an object store, which no thread can give up."""
        media = source(tmp_path)
        write, writing, may_go_on, written = ArtifactStore.put_bytes, *(threading.Event() for _ in range(3))

        def slow(*args: object) -> str:
            writing.set()
            assert may_go_on.wait(10)
            location = write(*args)  # type: ignore[arg-type]
            assert Path(location).exists()
            written.set()
            return location

        monkeypatch.setattr(ArtifactStore, "put_bytes", slow)

        async def cancel() -> None:
            putting = asyncio.create_task(media.put("jobs/number=1/1/raw.flac", b"x"))
            await asyncio.to_thread(writing.wait)
            putting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await putting
            media.discard("jobs/number=1")  # the job's end
            may_go_on.set()
            await asyncio.to_thread(written.wait, 10)
            async with asyncio.timeout(10):
                while files_in(tmp_path):
                    await asyncio.sleep(0.01)

        asyncio.run(cancel())

    def test_callbacks_go_where_downloads_may(self, server: ScriptedServer, tmp_path: Path) -> None:
        server.on("/hook", answer(200, b"thanks"))

        async def run(**changed: Any) -> int:
            media = source(tmp_path, **changed)
            await media.check_callback_base(server.url)
            async with media.callback_client() as client:
                return (await client.get(f"{server.url}/hook")).status_code

        assert asyncio.run(run()) == 200
        assert server.requests[0][1]["user-agent"] == "serve_app"
        with pytest.raises(CallbackRefused):
            asyncio.run(run(allowed_hosts=()))


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
