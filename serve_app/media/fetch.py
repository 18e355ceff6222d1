"""`fetch`: copies a caller's media file onto this machine, whatever its URL, within limits."""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import re
import ssl
import stat
import time
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import unquote, urlsplit

from serve_app.errors import AddressRefused, DownloadError, StorageUnavailable
from serve_app.media.address_guard import AddressPolicy
from serve_app.media.http_download import download_http
from serve_app.media.least_rate import LeastRate
from serve_app.media.part_file import FetchLimits, PartFile, Progress
from serve_app.media.s3_download import download_s3
from serve_app.sentences import Sentence
from serve_app.threads import FILES

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_WITHOUT_SLASHES = frozenset(
    (
        "data",
        "blob",
        "about",
        "cid",
        "content",
        "file",
        "http",
        "https",
        "s3",
        "gs",
        "ftp",
        "urn",
        "javascript",
        "magnet",
        "mailto",
        "tel",
        "view-source",
    )
)
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_COPY_BYTES = 1 << 20
_MAX_FILENAME_CHARS = 120
_NOT_OF_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ESTALE)  # of this process, of this host, of a file server


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A complete local file."""

    path: Path
    num_bytes: int
    filename: str  # safe display name, from the last part of the URL's path; never a path
    content_type: str  # declared by the source, else guessed from the name; "" where both fail


@dataclass(frozen=True, slots=True)
class FetchSources:
    """The operator's choice of sources that callers may read.

    Attributes:
        policy: addresses that http(s) may reach.
        media_root: folder from which local paths and file:// may be read; None refuses them all.
        s3_options: arguments of `s3fs.S3FileSystem`. Endpoint and credentials come from here or from the process's
            AWS_* environment, never from a caller: every caller can read what these credentials can.
        tls: context for private certificate authorities; None trusts the bundled public ones.
        withheld: folder or `s3://bucket/prefix` that callers may not read, although the service can: the artefact
            store holds everybody's files.
    """

    policy: AddressPolicy = field(default_factory=AddressPolicy)
    media_root: Path | None = None
    s3_options: Mapping[str, Any] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    withheld: str | None = None


async def fetch(
    url: str,
    destination: Path,
    *,
    sources: FetchSources,
    limits: FetchLimits = FetchLimits(),  # noqa: B008 - frozen
    on_progress: Progress | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> FetchedFile:
    """Copy the file of a URL to `destination`, which appears only once it is complete.

    http and https (redirects re-checked, resumed after a drop), s3://bucket/key, and local paths under the media root.

    Args:
        url: from a caller; no error quotes its query or user information.
        destination: file to write; its folder exists.
        on_progress: called with (bytes so far, expected bytes or None) about once per MiB.
        clock: seconds, by which the server's rate is measured.

    Raises:
        AddressRefused: the scheme, host or path is not allowed.
        MediaTooLarge: more than `limits.max_bytes`.
        DownloadInterrupted: a passing fault outlasted all tries.
        DownloadError: anything else: 4xx, a web page, no space, out of time, a server below the least rate.
    """
    part = PartFile(destination, limits.max_bytes, on_progress)
    filename = display_name(url)
    rate = LeastRate(limits.least_bytes_per_s, limits.rate_window_s, clock)
    try:
        async with asyncio.timeout(limits.total_s) as deadline:
            scheme = _scheme(url)
            if scheme == "s3":
                _refuse_withheld(url, sources.withheld)
                content_type = await download_s3(
                    url, part, options=sources.s3_options, limits=limits, rate=rate, sleep=sleep
                )
            elif scheme in ("", "file"):
                content_type = await _copy_local(url, part, sources)
            elif scheme not in ("http", "https"):
                raise AddressRefused(_refusal(scheme, sources.media_root is not None))
            else:
                content_type = await download_http(
                    url, part, policy=sources.policy, tls=sources.tls, limits=limits, rate=rate, sleep=sleep
                )
            if part.looks_like_html(content_type):
                page = Sentence("The address answered with a web page (HTML), not with a media file")
                raise DownloadError(page)
            await part.finish()
    except TimeoutError:
        if not deadline.expired():
            raise
        late = Sentence("The download did not finish within {limit_s:g} s", limit_s=limits.total_s)
        raise DownloadError(late) from None
    finally:
        part.discard()
    guessed = mimetypes.guess_type(filename)[0] or ""
    return FetchedFile(destination, part.num_bytes, filename, content_type or guessed)


def display_name(url: str) -> str:
    """Return the last part of a URL's path, safe to show and store; "media" where there is none."""
    try:
        path = urlsplit(url).path
    except ValueError:
        path = ""
    name = unicodedata.normalize(
        "NFC", unquote(path, errors="replace").replace("\\", "/").rstrip("/").rpartition("/")[2]
    )
    name = "".join(char for char in name if unicodedata.category(char)[0] != "C" and char not in '<>:"|?*')
    name = re.sub(r"\s+", " ", name).strip(". ")
    stem, dot, suffix = name.rpartition(".")
    if len(name) > _MAX_FILENAME_CHARS:
        name = f"{stem[: _MAX_FILENAME_CHARS - 1 - len(suffix)]}{dot}{suffix}"[:_MAX_FILENAME_CHARS]
    return name or "media"


def _scheme(url: str) -> str:
    """Return an address's scheme in lower case; "" of a local path; a drive's letter, or a backslash, of Windows'."""
    if _WINDOWS_PATH.match(url):
        return url[0].lower()
    found = _SCHEME.match(url)
    if found is None:
        return ""
    scheme = found[1].lower()
    # a file's name may have a colon
    return scheme if found[2] or scheme in _WITHOUT_SLASHES else ""


def _refusal(scheme: str, takes_paths: bool) -> Sentence:
    if len(scheme) == 1:
        return Sentence("The address is a path of Windows, which this server can't read: upload the file instead")
    if takes_paths:
        return Sentence(
            "The scheme {scheme}: is not taken; use https://, http://, s3:// or a path under the media root",
            scheme=scheme[:20],
        )
    return Sentence("The scheme {scheme}: is not taken; use https://, http:// or s3://", scheme=scheme[:20])


def _refuse_withheld(url: str, withheld: str | None) -> None:
    bucket, _, key = url.partition("://")[2].partition("/")
    # a store may drop the slash in front of a key
    if withheld and f"s3://{bucket}/{key.lstrip('/')}".startswith(withheld.rstrip("/") + "/"):
        raise AddressRefused(Sentence("The S3 URL names a file of this service's own store"))


async def _copy_local(url: str, part: PartFile, sources: FetchSources) -> str:
    withheld = await FILES.run(Path(sources.withheld).resolve) if sources.withheld else None
    try:
        file = await FILES.run(_open_local, url, sources.media_root, withheld)
    except FileNotFoundError:
        raise DownloadError(Sentence("404 Not Found: no such file under the media root")) from None
    except OSError as error:
        if error.errno in _NOT_OF_THE_FILE:
            unread = Sentence("The media root can't be read: {reason}", reason=os.strerror(error.errno))
            raise StorageUnavailable(unread) from error
        unread = Sentence("The local file can't be read: {reason}", reason=os.strerror(error.errno or 0))
        raise DownloadError(unread) from None
    with file:
        part.expect(os.fstat(file.fileno()).st_size)
        while chunk := await FILES.run(file.read, _COPY_BYTES):
            await part.write(chunk)
    return ""


def _open_local(url: str, media_root: Path | None, withheld: Path | None) -> BinaryIO:
    """Open a local file, whose name may be composed otherwise than the caller's: macOS decomposes Hangul."""
    missing = FileNotFoundError()
    forms: tuple[Literal["NFC", "NFD"] | None, ...] = (None, "NFC", "NFD")
    for form in forms:
        root, path = _resolve_local(url, media_root, form)
        if withheld is not None and (root / path).is_relative_to(withheld):
            raise AddressRefused(Sentence("The local path is within this service's own store"))
        try:
            return _open_beneath(root, path)
        except FileNotFoundError as error:
            missing = error
    raise missing


def _resolve_local(url: str, media_root: Path | None, form: Literal["NFC", "NFD"] | None) -> tuple[Path, Path]:
    """Return the real media root, and the path under it after every symbolic link; relative paths start there."""
    if media_root is None:
        raise AddressRefused(
            Sentence("Local paths are not allowed here; the operator can allow a folder by SERVE_APP_MEDIA_ROOT")
        )
    text = url
    if url.lower().startswith("file:") and not url.lower().startswith("file://"):
        text = unquote(url[len("file:") :])  # file:/srv/a.mp4, as Java writes it
    elif url.lower().startswith("file://"):
        host, slash, rest = url[len("file://") :].partition("/")
        if host not in ("", "localhost"):
            raise AddressRefused(Sentence("A file:// URL must not name a host"))
        text = unquote(slash + rest)
    if form is not None:
        text = unicodedata.normalize(form, text)
    root = media_root.resolve()
    try:
        path = (root / text).resolve()
    except (ValueError, OSError, RuntimeError):  # NUL byte, too long, loop of links
        raise AddressRefused(Sentence("The local path is malformed")) from None
    if not path.is_relative_to(root):
        raise AddressRefused(Sentence("The local path is outside the media root"))
    return root, path.relative_to(root)


def _open_beneath(root: Path, path: Path) -> BinaryIO:
    """Open a regular file below a folder; OSError where a part of the path has become a symbolic link meanwhile."""
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in path.parts[:-1]:
            inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        # O_NONBLOCK: opening a FIFO must not wait for its other end; its kind is checked on the opened file
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(path.name or ".", flags, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DownloadError(Sentence("The local path is not a regular file"))
    return open(handle, "rb", buffering=0)
