"""Model files from https and from storages: what is fetched, kept, and refused."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import fsspec
import httpx
import pytest
from moto.server import ThreadedMotoServer
from tenacity import wait_none

from serve_app.errors import ModelLoadingError
from serve_app.models import url_download
from serve_app.models.url_download import fetch_https, fetch_storage

URL = "https://models.example/v1/drums.pth"
Handler = Callable[[httpx.Request], httpx.Response]


class Site:
    """What `URL` and others answer; by default the weights, with an ETag."""

    def __init__(self) -> None:
        self.body, self.etag = b"weights", '"1"'
        self.answer: Handler = self.weights
        self.requests: list[httpx.Request] = []
        self.bodies_read = 0

    def weights(self, request: httpx.Request) -> httpx.Response:
        site = self

        class Body(httpx.SyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                site.bodies_read += 1
                yield site.body

        headers = {"etag": self.etag, "content-length": str(len(self.body))}
        return httpx.Response(200, headers=headers, stream=Body())

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer(request)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    served = Site()
    client = functools.partial(httpx.Client, transport=httpx.MockTransport(served.handle))
    monkeypatch.setattr(url_download.httpx, "Client", client)
    monkeypatch.setattr(url_download, "_WAIT", wait_none())
    return served


def pin(body: bytes) -> str:
    return f"#sha256={hashlib.sha256(body).hexdigest()}"


def test_a_file_is_fetched_once_while_the_server_says_it_is_the_same(site: Site, tmp_path: Path) -> None:
    first = fetch_https(URL, tmp_path)
    assert first.name == "drums.pth"
    assert first.read_bytes() == b"weights"
    assert fetch_https(URL, tmp_path) == first
    assert site.bodies_read == 1
    assert len(site.requests) == 2  # asked again, the body left unread


def test_a_changed_file_is_fetched_anew_and_the_old_one_left_to_those_who_read_it(site: Site, tmp_path: Path) -> None:
    old = fetch_https(URL, tmp_path)
    site.body, site.etag = b"better weights", '"2"'
    new = fetch_https(URL, tmp_path)
    assert (old.read_bytes(), new.read_bytes()) == (b"weights", b"better weights")


def test_a_presigned_address_names_the_same_file_each_day(site: Site, tmp_path: Path) -> None:
    assert fetch_https(f"{URL}?signature=monday", tmp_path) == fetch_https(f"{URL}?signature=tuesday", tmp_path)
    assert site.bodies_read == 1


def test_a_damaged_copy_is_fetched_again(site: Site, tmp_path: Path) -> None:
    fetch_https(URL, tmp_path).write_bytes(b"w")
    assert fetch_https(URL, tmp_path).read_bytes() == b"weights"


def test_a_hash_is_held(site: Site, tmp_path: Path) -> None:
    assert fetch_https(URL + pin(b"weights"), tmp_path).read_bytes() == b"weights"
    assert site.requests[0].url == URL  # the fragment stays here


def test_a_file_of_another_hash_is_refused_and_not_kept(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match=r"drums\.pth is not the file that its #sha256= says"):
        fetch_https(URL + pin(b"other"), tmp_path)
    assert not list(tmp_path.rglob("drums.pth"))


def test_a_pinned_file_that_is_here_needs_no_network(site: Site, tmp_path: Path) -> None:
    fetch_https(URL + pin(b"weights"), tmp_path)
    site.requests.clear()
    assert fetch_https(URL + pin(b"weights"), tmp_path).read_bytes() == b"weights"
    assert site.requests == []


@pytest.mark.parametrize("fragment", ["sha256=abc", "md5=00", "main"])
def test_a_malformed_hash_is_refused(site: Site, tmp_path: Path, fragment: str) -> None:
    with pytest.raises(ModelLoadingError, match="must be sha256= and 64 hexadecimal digits"):
        fetch_https(f"{URL}#{fragment}", tmp_path)
    assert site.requests == []


def test_http_is_refused_without_a_hash(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match="could be changed on its way: write https://"):
        fetch_https(URL.replace("https", "http"), tmp_path)
    assert site.requests == []


def test_a_redirect_to_http_is_refused_without_a_hash(site: Site, tmp_path: Path) -> None:
    def redirect(request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "https":
            return httpx.Response(302, headers={"location": "http://mirror.example/drums.pth"})
        return site.weights(request)

    site.answer = redirect
    with pytest.raises(ModelLoadingError, match="leads to an http:// address"):
        fetch_https(URL, tmp_path)
    assert fetch_https(URL + pin(b"weights"), tmp_path).read_bytes() == b"weights"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_fault_is_tried_again(site: Site, tmp_path: Path, status: int) -> None:
    answers = [httpx.Response(status), httpx.Response(status)]
    site.answer = lambda request: answers.pop() if answers else site.weights(request)
    assert fetch_https(URL, tmp_path).read_bytes() == b"weights"
    assert len(site.requests) == 3


def test_a_transfer_that_breaks_off_is_tried_again_and_leaves_nothing(site: Site, tmp_path: Path) -> None:
    def break_off(request: httpx.Request) -> httpx.Response:
        answer = site.weights(request)
        answer.headers["content-length"] = "1000"
        return answer

    site.answer = break_off
    with pytest.raises(ModelLoadingError, match="7 of 1000 bytes came"):
        fetch_https(URL, tmp_path)
    assert len(site.requests) == 3
    assert not list(tmp_path.rglob("drums.pth"))


def test_a_refusal_is_told_at_once(site: Site, tmp_path: Path) -> None:
    site.answer = lambda request: httpx.Response(404)
    with pytest.raises(ModelLoadingError, match="answered 404 Not Found; check the address"):
        fetch_https(URL, tmp_path)
    assert len(site.requests) == 1


def test_an_empty_answer_is_refused(site: Site, tmp_path: Path) -> None:
    site.body = b""
    with pytest.raises(ModelLoadingError, match="is empty"):
        fetch_https(URL, tmp_path)


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route to host")


def test_without_the_server_what_was_fetched_before_serves(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = fetch_https(f"{URL}?signature=secret", tmp_path)
    site.answer = unreachable
    assert fetch_https(f"{URL}?signature=secret", tmp_path) == before
    assert "using what was fetched before" in caplog.text
    assert "secret" not in caplog.text


def test_without_the_server_another_file_than_the_pinned_does_not_serve(site: Site, tmp_path: Path) -> None:
    fetch_https(URL, tmp_path)
    site.answer = unreachable
    with pytest.raises(ModelLoadingError, match="ConnectError"):
        fetch_https(URL + pin(b"other"), tmp_path)


def test_errors_show_neither_user_nor_query(site: Site, tmp_path: Path) -> None:
    site.answer = unreachable
    with pytest.raises(ModelLoadingError, match=r"https://models\.example/v1/drums\.pth can't be fetched") as raised:
        fetch_https("https://user:secret@models.example/v1/drums.pth?signature=secret", tmp_path)
    assert "secret" not in raised.value.detail


@pytest.mark.parametrize(
    ("path", "name"),
    [("/..%2f..%2fetc%2fpasswd", "_.._etc_passwd"), ("/", "weights"), ("/.manifest.json", "manifest.json")],
)
def test_a_files_name_is_safe(site: Site, tmp_path: Path, path: str, name: str) -> None:
    file = fetch_https(f"https://models.example{path}", tmp_path)
    assert file.name == name
    assert file.parent.parent == tmp_path


def test_a_real_connection_that_breaks_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_download, "_WAIT", wait_none())
    cut_off = [True]

    class Reply(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"x" * (10 if cut_off and cut_off.pop() else 100_000))

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Reply)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/m.bin{pin(b'x' * 100_000)}"
        assert fetch_https(url, tmp_path).stat().st_size == 100_000
    finally:
        server.shutdown()
        server.server_close()
    assert cut_off == []


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    storage = fsspec.filesystem("memory")
    storage.pipe({"/models/whisper/config.json": b"{}", "/models/whisper/model.safetensors": b"weights"})
    storage.pipe("/models/whisper/logs/train.txt", b"what no model is loaded from")
    yield storage
    storage.rm("/models", recursive=True)


def test_a_folder_of_a_storage_is_copied(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    folder = fetch_storage("memory://models/whisper/", tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [".manifest.json", "config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert fetch_storage("memory://models/whisper", tmp_path) == folder


def test_a_file_of_a_storage_is_copied_once(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch_storage("memory://models/whisper/model.safetensors", tmp_path)
    assert (first.name, first.read_bytes()) == ("model.safetensors", b"weights")
    monkeypatch.setattr(type(memory), "get_file", None)  # would be called, were it copied again
    assert fetch_storage("memory://models/whisper/model.safetensors", tmp_path) == first


def test_a_changed_storage_is_copied_anew(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    old = fetch_storage("memory://models/whisper", tmp_path)
    memory.pipe("/models/whisper/model.safetensors", b"better weights")
    new = fetch_storage("memory://models/whisper", tmp_path)
    assert (new / "model.safetensors").read_bytes() == b"better weights"
    assert (old / "model.safetensors").read_bytes() == b"weights"


def test_what_is_not_in_a_storage_is_said(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match=r"memory://models/nothing can't be read \(FileNotFoundError\)"):
        fetch_storage("memory://models/nothing", tmp_path)


def test_an_empty_folder_of_a_storage_is_said(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    memory.makedirs("/models/empty")
    with pytest.raises(ModelLoadingError, match="models/empty holds no files"):
        fetch_storage("memory://models/empty", tmp_path)


def test_a_storage_that_breaks_serves_what_was_copied_before(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ConnectionError("key=secret")

    before = fetch_storage("memory://models/whisper", tmp_path)
    monkeypatch.setattr(type(memory), "info", fail)
    assert fetch_storage("memory://models/whisper", tmp_path) == before
    assert "using what was fetched before" in caplog.text
    with pytest.raises(ModelLoadingError, match=r"can't be read \(ConnectionError\)") as raised:
        fetch_storage("memory://models/other", tmp_path)
    assert "secret" not in caplog.text + raised.value.detail


def test_a_copy_that_comes_short_is_not_kept(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(memory), "get_file", lambda self, source, target: Path(target).write_bytes(b"w"))
    with pytest.raises(ModelLoadingError, match="can't be read"):
        fetch_storage("memory://models/whisper/model.safetensors", tmp_path)
    assert not list(tmp_path.rglob("model.safetensors"))


def test_a_scheme_without_its_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(url_download.fsspec.core, "url_to_fs", lacks)
    with pytest.raises(ModelLoadingError, match=r"s3://bucket/m\.pth needs a package .* serve_app\[s3\]"):
        fetch_storage("s3://bucket/m.pth", tmp_path)


def test_a_folder_on_s3_is_copied_and_a_change_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key-id",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        bucket = boto3.resource("s3").Bucket("models")
        bucket.create()
        bucket.put_object(Key="whisper/", Body=b"")  # how consoles make an empty folder
        bucket.put_object(Key="whisper/config.json", Body=b"{}")
        bucket.put_object(Key="whisper/model.safetensors", Body=b"weights")
        folder = fetch_storage("s3://models/whisper/", tmp_path)
        assert sorted(path.name for path in folder.iterdir()) == [".manifest.json", "config.json", "model.safetensors"]
        bucket.put_object(Key="whisper/model.safetensors", Body=b"changed")  # of the same size
        assert (fetch_storage("s3://models/whisper/", tmp_path) / "model.safetensors").read_bytes() == b"changed"
    finally:
        fsspec.filesystem("s3").clear_instance_cache()
        moto.stop()
