"""A storage emulator on loopback, and a service account, with a server that gives it tokens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcp_storage_emulator.server import create_server

SIGNER = "signer@project.iam.gserviceaccount.com"


@contextmanager
def gcs_server(bucket: str) -> Iterator[str]:
    """Serve an empty bucket from memory; yield the server's address."""
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=bucket)
    server.start()
    host, port = server._api._httpd.server_address
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        server._api.__class__.__bases__[0].join(server._api)  # the class's own join returns before the thread's end


class _Tokens(BaseHTTPRequestHandler):
    """Gives a token to everybody: the emulator asks for none."""

    def do_POST(self) -> None:
        body = json.dumps({"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def service_account(folder: Path) -> Iterator[tuple[Path, rsa.RSAPublicKey]]:
    """Serve tokens; yield the key file of a service account, and its public key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    tokens = HTTPServer(("127.0.0.1", 0), _Tokens)
    thread = threading.Thread(target=tokens.serve_forever, args=(0.02,))
    thread.start()
    file = folder / "service_account.json"
    about = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": SIGNER,
        "token_uri": f"http://127.0.0.1:{tokens.server_port}/token",
    }
    file.write_text(json.dumps(about))
    try:
        yield file, key.public_key()
    finally:
        tokens.shutdown()
        tokens.server_close()
        thread.join()
