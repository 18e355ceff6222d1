"""`MirrorSource`: files from a mirror, MIRROR/MODEL/FILE, by https or from any storage that fsspec knows.

A download that broke off goes on where it ended. fsspec's own https reads a server without ranges only from the start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit, urlunsplit

import fsspec
import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt

import serve_app.media.address_guard  # noqa: F401 - keeps queries, which may be secrets, out of httpx's log lines
from serve_app.models.built_folder import DISK_FULL
from serve_app.models.catalog import CatalogFile
from serve_app.models.model_source import NUM_TRIES, ModelSource, OnProgress, SourceFailed
from serve_app.redaction import shown_url
from serve_app.sentences import Sentence

_TIMEOUT = httpx.Timeout(30.0, connect=6.0)
_BROKEN_OFF = (httpx.RemoteProtocolError, httpx.ReadError)
_NO_ANSWER = (httpx.ConnectError, httpx.ConnectTimeout)
_CHUNK_BYTES = 1 << 20


class MirrorSource(ModelSource):
    """A mirror's folder of one model.

    Args:
        mirror: URL or absolute folder; may hold credentials and a query.
    """

    def __init__(self, mirror: str, model_name: str, on_progress: OnProgress) -> None:
        self._mirror = mirror
        self._model_name = model_name
        self._on_progress = on_progress
        shown = shown_url(mirror) if "://" in mirror else mirror
        self.label = f"mirror {shown}"
        self.host = f"mirror {hashlib.sha256(shown.encode()).hexdigest()[:16]}"

    def fetch(self, file: CatalogFile, path: Path) -> None:
        """Write a file whose size and SHA-256 are known."""
        if file.sha256 is None or file.size_bytes is None:
            raise SourceFailed(
                Sentence("no SHA-256 is known of {name}: the hub alone is trusted with it", name=file.name)
            )
        part = path.with_name(f"{path.name}.part")
        try:
            self._receive(file.name, file.size_bytes, part)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceFailed(
                Sentence("{name}: {reason}", name=file.name, reason=type(error).__name__),
                is_silent=isinstance(error, _NO_ANSWER),
            ) from error
        except ImportError as error:
            raise SourceFailed(
                Sentence("it needs a package that is not installed ({reason})", reason=str(error))
            ) from error
        except SourceFailed:
            raise
        except Exception as error:  # each storage has errors of its own, whose texts may quote keys
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            raise SourceFailed(
                Sentence("{name} can't be read ({reason})", name=file.name, reason=type(error).__name__)
            ) from error
        if part.stat().st_size != file.size_bytes:
            part.unlink(missing_ok=True)
            raise SourceFailed(
                Sentence(
                    "its {name} is not the official one of {size_bytes} bytes, and was refused and deleted",
                    name=file.name,
                    size_bytes=file.size_bytes,
                ),
                gave_nothing=False,
            )
        part.replace(path)

    @retry(stop=stop_after_attempt(NUM_TRIES), retry=retry_if_exception_type(_BROKEN_OFF), reraise=True)
    def _receive(self, name: str, size_bytes: int, part: Path) -> None:
        """Append what is missing, and at most one chunk more."""
        address = _address(self._mirror, self._model_name, name)
        is_http = address.lower().startswith(("http://", "https://"))
        receive: Callable[..., Generator[bytes]] = _by_http if is_http else _from_storage
        with part.open("ab") as target:
            if target.tell() > size_bytes:
                _empty(target)
            with closing(receive(address, target, size_bytes)) as chunks:
                for chunk in chunks:
                    target.write(chunk)
                    self._on_progress(name, target.tell(), size_bytes)
                    if target.tell() > size_bytes:
                        break


def _by_http(address: str, target: BinaryIO, size_bytes: int) -> Generator[bytes]:
    """Yield what is missing at the end of the part."""
    begin = target.tell()
    if begin == size_bytes:
        return
    headers = {"accept-encoding": "identity"} | ({"range": f"bytes={begin}-"} if begin else {})
    with (
        httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client,
        client.stream("GET", address, headers=headers) as response,
    ):
        if response.status_code == httpx.codes.PARTIAL_CONTENT and begin:
            if not response.headers.get("content-range", "").startswith(f"bytes {begin}-"):
                raise SourceFailed(Sentence("it answers with another part than the requested one"))
        elif response.status_code == httpx.codes.OK:
            _empty(target)  # the server knows no ranges and sends the whole file
        else:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                _empty(target)  # its file is shorter than the part: the next try begins anew
            raise SourceFailed(
                Sentence(
                    "it answers {status_code} for {model_and_file}",
                    status_code=response.status_code,
                    model_and_file=_model_and_file(address),
                )
            )
        yield from response.iter_raw()


def _from_storage(address: str, target: BinaryIO, size_bytes: int) -> Generator[bytes]:
    storage, path = fsspec.core.url_to_fs(address)
    with suppress(Exception):
        storage.invalidate_cache()  # of listings, which are kept for the life of the process
    try:
        with storage.open(path, "rb") as source:
            source.seek(target.tell())
            while chunk := source.read(_CHUNK_BYTES):
                yield chunk
    except FileNotFoundError as error:
        raise SourceFailed(Sentence("it has no {model_and_file}", model_and_file=_model_and_file(address))) from error


def _empty(target: BinaryIO) -> None:
    if target.tell():
        target.seek(0)
        target.truncate()


def _address(mirror: str, model_name: str, file_name: str) -> str:
    if "://" not in mirror:
        return str(Path(mirror).expanduser() / model_name / file_name)
    parts = urlsplit(mirror)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{model_name}/{file_name}", fragment=""))


def _model_and_file(address: str) -> str:
    return "/".join(urlsplit(address).path.split("/")[-2:])
