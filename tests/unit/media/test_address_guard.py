"""What the guarded client connects to, over real sockets and a patched resolver."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from serve_app.errors import AddressRefused, CallbackRefused, DownloadError
from serve_app.media.address_guard import AddressPolicy, check_callback_base, guarded_client
from serve_app.media.fetch import FetchSources, fetch
from tests.unit.media.scripted_server import ScriptedServer, answer

TIMEOUT = httpx.Timeout(5.0)


def request(url: str, policy: AddressPolicy, **options: object) -> httpx.Response:
    async def once() -> httpx.Response:
        async with guarded_client(policy, timeout=TIMEOUT, **options) as client:  # type: ignore[arg-type]
            return await client.get(url)

    return asyncio.run(once())


class Answers:
    """A resolver that gives each of its answers once, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.calls: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.calls.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_allowed_name_is_resolved_once_and_keeps_its_host_header(server: ScriptedServer) -> None:
    port = server.http.server_port
    server.on("/v", answer(200, b"hello"))
    answers = Answers(["127.0.0.1"])
    response = request(f"http://media.internal:{port}/v", AddressPolicy(("media.internal",)), resolve=answers)
    assert response.content == b"hello"
    assert answers.calls == ["media.internal"]
    assert server.requests[0][1]["host"] == f"media.internal:{port}"


def test_private_answer_is_never_connected(server: ScriptedServer) -> None:
    url = f"http://rebind.example:{server.http.server_port}/v"
    for answers in (["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"]):
        with pytest.raises(AddressRefused, match=r"rebind\.example"):
            request(url, AddressPolicy(), resolve=Answers(answers))
    assert server.requests == []


@pytest.mark.parametrize("answer_of_dns", ["0.0.0.0", "::ffff:0.0.0.0", "::ffff:0:0"])
def test_allowed_name_does_not_reach_loopback_by_the_unspecified_address(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer_of_dns: str
) -> None:
    """The kernel connects all of these to loopback."""
    port = server.http.server_port
    family = socket.AF_INET6 if ":" in answer_of_dns else socket.AF_INET
    with socket.socket(family) as reaching:
        reaching.connect((answer_of_dns, port))
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(family, socket.SOCK_STREAM, 6, "", (answer_of_dns, 0))]
    )
    server.on("/v", answer(200, b"secret"))
    sources = FetchSources(policy=AddressPolicy(("media.internal",)))
    with pytest.raises(AddressRefused, match=r"media\.internal is not public"):
        asyncio.run(fetch(f"http://media.internal:{port}/v", tmp_path / "file", sources=sources))
    assert server.requests == []


def test_rebinding_does_not_reach_the_second_answer(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is public when first asked and loopback ever after: no connection to loopback may follow."""
    asked: list[str] = []
    connected: list[object] = []
    real = socket.getaddrinfo

    def rebinding(host: object, port: object, *args: object, **kwargs: object) -> object:
        name = host.decode() if isinstance(host, bytes) else host
        if name != "rebind.example":
            return real(host, port, *args, **kwargs)  # type: ignore[arg-type]
        asked.append(name)
        address = "192.0.2.1" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    async def refuse_connection(loop: object, sock: socket.socket, address: tuple[str, int]) -> None:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", refuse_connection)
    # 192.0.2.0/24 stands for a public network here: it is one that no machine answers from
    policy = AddressPolicy(("192.0.2.0/24",))

    async def no_wait(_: float) -> None:
        return None

    url = f"http://rebind.example:{server.http.server_port}/v"
    with pytest.raises(AddressRefused):  # the second try asks DNS again, and its answer is checked again
        asyncio.run(fetch(url, tmp_path / "file", sources=FetchSources(policy=policy), sleep=no_wait))
    assert connected == ["192.0.2.1"]
    assert len(asked) == 2
    assert server.requests == []


def test_dead_address_does_not_delay_the_live_one(server: ScriptedServer) -> None:
    server.on("/v", answer(200, b"hello"))
    # nothing listens on 127.0.0.2 at this port: the server is bound to 127.0.0.1 only
    answers = Answers(["127.0.0.2", "127.0.0.1"])
    url = f"http://two.internal:{server.http.server_port}/v"
    assert request(url, AddressPolicy(("two.internal",)), resolve=answers).content == b"hello"


def test_no_live_address_is_a_connect_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://dead.internal:{unused.getsockname()[1]}/"
        with pytest.raises(httpx.ConnectError, match="no address of the host"):
            request(url, AddressPolicy(("dead.internal",)), resolve=Answers(["127.0.0.1", "127.0.0.2"]))


def test_few_of_a_thousand_addresses_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def refuse_connection(loop: object, sock: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", refuse_connection)
    addresses = [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(1000)]
    with pytest.raises(httpx.ConnectError, match="no address of the host"):
        request("http://many.internal/", AddressPolicy(("many.internal",)), resolve=Answers(addresses))
    assert tried == addresses[:8]
    with pytest.raises(AddressRefused):  # all are checked
        request("http://many.internal/", AddressPolicy(("many.internal",)), resolve=Answers([*addresses, "0.0.0.0"]))


def test_unknown_name_is_a_connect_error() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(httpx.ConnectError, match="could not be resolved"):
        request("http://nowhere.example/", AddressPolicy(), resolve=unknown)


def test_redirects_are_not_followed(server: ScriptedServer) -> None:
    url = server.on("/v", answer(302, Location="http://127.0.0.1:1/"))
    assert request(url, AddressPolicy(("127.0.0.1",))).status_code == 302


def test_proxies_of_the_environment_are_ignored(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    url = server.on("/v", answer(200, b"direct"))
    assert request(url, AddressPolicy(("127.0.0.1",))).content == b"direct"


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Serve https on loopback with a certificate for media.internal; yield the port and the certificate."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "media.internal")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("media.internal")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "certificate.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/down":
                answer(302, Location="http://media.internal/plain")(self)
            else:
                answer(200, b"over tls")(self)

        def log_message(self, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, folder / "key.pem")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    yield http.server_port, pem
    http.shutdown()
    http.server_close()


def test_tls_is_verified_against_the_name_not_the_address(tls_server: tuple[int, Path]) -> None:
    port, pem = tls_server
    trusting = ssl.create_default_context(cafile=str(pem))
    policy = AddressPolicy(("media.internal", "other.internal"))
    answers = Answers(["127.0.0.1"])
    good = request(f"https://media.internal:{port}/", policy, verify=trusting, resolve=answers)
    assert good.content == b"over tls"
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        request(f"https://other.internal:{port}/", policy, verify=trusting, resolve=answers)


@pytest.fixture
def loopback_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every name resolve to loopback."""

    def answer_loopback(host: object, port: object, *args: object, **kwargs: object) -> object:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer_loopback)


@pytest.mark.usefixtures("loopback_dns")
def test_fetch_says_that_a_certificate_is_bad_and_refuses_a_downgrade(
    tls_server: tuple[int, Path], tmp_path: Path
) -> None:
    port, pem = tls_server
    policy = AddressPolicy(("media.internal",))
    with pytest.raises(DownloadError, match="certificate is not valid"):
        asyncio.run(fetch(f"https://media.internal:{port}/v", tmp_path / "file", sources=FetchSources(policy=policy)))
    sources = FetchSources(policy=policy, tls=ssl.create_default_context(cafile=str(pem)))
    with pytest.raises(AddressRefused, match="from https to http"):
        asyncio.run(fetch(f"https://media.internal:{port}/down", tmp_path / "file", sources=sources))
    assert asyncio.run(fetch(f"https://media.internal:{port}/v", tmp_path / "file", sources=sources)).num_bytes == 8


def check_callback(url: str, answers: Answers, allowed: tuple[str, ...] = ()) -> None:
    asyncio.run(check_callback_base(url, AddressPolicy(allowed), resolve=answers))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://backend.example",
        "https://user:pw@backend.example",
        "https://backend.example/?a=b",
        "https://backend.example/?",
        "https://backend.example/#part",
        "http://127.0.0.1:8000",
        "http://[::1]",
        "http://2130706433",
        "not a url",
        "",
    ],
)
def test_bad_callback_base_is_refused_without_asking_dns(url: str) -> None:
    answers = Answers(["8.8.8.8"])
    with pytest.raises(CallbackRefused):
        check_callback(url, answers)
    assert answers.calls in ([], ["backend.example"])


def test_callback_base_is_refused_where_its_name_is_private() -> None:
    with pytest.raises(CallbackRefused, match=r"backend\.example is not public"):
        check_callback("https://backend.example/base", Answers(["10.0.0.1"]))
    check_callback("https://backend.example/base", Answers(["8.8.8.8"]))
    check_callback("http://backend.internal:8000", Answers(["10.0.0.1"]), allowed=("backend.internal",))
    check_callback("http://10.0.0.1:8000", Answers(["10.0.0.1"]), allowed=("10.0.0.0/8",))


def test_callback_base_that_cannot_be_resolved_now_is_accepted() -> None:
    asked: list[str] = []

    async def unknown(host: str, port: int) -> list[str]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    asyncio.run(check_callback_base("https://backend.example", AddressPolicy(), resolve=unknown))
    assert asked == ["backend.example"]
