"""`fetch_https`, `fetch_storage`: a model's files from a URL: one file, or a folder of any storage that fsspec knows.

The name of the local folder is a hash of the URL and of the server's version of the file (ETag, else time and size). A
changed file is therefore fetched anew, and an unchanged one is not. Where the server can't be reached, the last version
is used, with a warning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

import serve_app.media.address_guard  # noqa: F401 - keeps queries, which may be secrets, out of httpx's log lines
from serve_app.errors import ModelLoadingError
from serve_app.models.built_folder import MANIFEST, built_folder, is_whole
from serve_app.models.file_hashes import sha256_of
from serve_app.redaction import shown_url
from serve_app.sentences import Sentence, reason_of

logger = logging.getLogger(__name__)

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_NUM_TRIES = 3
_WAIT = wait_exponential_jitter(initial=1.0, max=10.0)
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class _Passing(Exception):
    """A fault that the next try may not meet."""


def fetch_https(url: str, cache_dir: Path) -> Path:
    """Return the file of a URL, which may end in `#sha256=HEX`.

    Raises:
        ModelLoadingError: it can't be fetched or stored, or has another hash.
    """
    address, _, fragment = url.partition("#")
    match = re.fullmatch("sha256=([0-9a-fA-F]{64})", fragment)
    if fragment and match is None:
        raise ModelLoadingError(
            Sentence(
                "What follows # in {shown_url} must be sha256= and 64 hexadecimal digits", shown_url=shown_url(url)
            )
        )
    pinned = match[1].lower() if match else None
    if urlsplit(address).scheme.lower() == "http" and pinned is None:
        raise ModelLoadingError(
            Sentence(
                "{shown_url} could be changed on its way: write https://, or add #sha256= and the file's hash",
                shown_url=shown_url(url),
            )
        )
    before = _fetched_before(address, cache_dir)
    file = before / _file_name(address) if before is not None else None
    if pinned is not None and file is not None and sha256_of(file, cache_dir) == pinned:
        return file
    try:
        retrying = Retrying(
            stop=stop_after_attempt(_NUM_TRIES), retry=retry_if_exception_type(_Passing), wait=_WAIT, reraise=True
        )
        return retrying(_get, address, pinned, cache_dir)
    except _Passing as error:
        if file is not None and pinned is None:
            logger.warning("%s can't be fetched (%s); using what was fetched before", shown_url(url), error)
            return file
        raise ModelLoadingError(
            Sentence(
                "{shown_url} can't be fetched ({reason}); let this machine reach it, or name a local file",
                shown_url=shown_url(url),
                reason=reason_of(error),
            )
        ) from error


def fetch_storage(url: str, cache_dir: Path) -> Path:
    """Return the file, or the folder of files, of an fsspec URL; credentials come from the process's environment.

    Raises:
        ModelLoadingError: it can't be read or stored, or the package for its scheme is not installed.
    """
    try:
        storage, root = fsspec.core.url_to_fs(url)
        storage.invalidate_cache()  # of listings, which are kept for the life of the process
        files = _list(storage, root)
        versions = sorted((name, _version(about)) for name, about in files.items())
        target = cache_dir / _folder_name(url, json.dumps(versions))
        built_folder(target, lambda folder: _copy(storage, files, folder))
    except ModelLoadingError:
        raise
    except ImportError as error:
        raise ModelLoadingError(
            Sentence(
                "{shown_url} needs a package that is not installed ({reason}); for s3:// install serve_app[s3]",
                shown_url=shown_url(url),
                reason=reason_of(error),
            )
        ) from error
    except Exception as error:  # each storage has errors of its own, whose texts may quote keys
        before = _fetched_before(url, cache_dir)
        if before is None or isinstance(error, FileNotFoundError | PermissionError):
            raise ModelLoadingError(
                Sentence(
                    "{shown_url} can't be read ({reason}); check the address, and the credentials in this process's "
                    "environment",
                    shown_url=shown_url(url),
                    reason=type(error).__name__,
                )
            ) from error
        logger.warning("%s can't be read (%s); using what was fetched before", shown_url(url), type(error).__name__)
        target = before
    only = [path for path in target.iterdir() if path.name != MANIFEST]
    is_file = len(only) == 1 and only[0].name == PurePosixPath(urlsplit(url).path).name and not url.endswith("/")
    return only[0] if is_file else target


def _get(url: str, pinned: str | None, cache_dir: Path) -> Path:
    try:
        with (
            httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client,
            client.stream("GET", url, headers={"accept-encoding": "identity"}) as response,
        ):
            if response.status_code in _PASSING:
                raise _Passing(Sentence("answer {status_code}", status_code=response.status_code))
            if response.status_code != httpx.codes.OK:
                raise ModelLoadingError(
                    Sentence(
                        "{shown_url} can't be fetched: the server answered {status_code} {reason_phrase}; "
                        "check the address",
                        shown_url=shown_url(url),
                        status_code=response.status_code,
                        reason_phrase=response.reason_phrase,
                    )
                )
            if pinned is None and response.url.scheme != "https":
                raise ModelLoadingError(
                    Sentence(
                        "{shown_url} leads to an http:// address; add #sha256= and the file's hash",
                        shown_url=shown_url(url),
                    )
                )
            headers = response.headers
            version = headers.get("etag") or f"{headers.get('last-modified')} {headers.get('content-length')}"
            target = cache_dir / _folder_name(url, f"{pinned} {version}")
            name = _file_name(url)
            # the body stays unread where the folder is there already
            built_folder(target, lambda folder: _receive(response, folder / name, pinned, url))
            return target / name
    except httpx.TransportError as error:
        raise _Passing(type(error).__name__) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ModelLoadingError(
            Sentence("{shown_url} can't be fetched ({reason})", shown_url=shown_url(url), reason=type(error).__name__)
        ) from error


def _receive(response: httpx.Response, path: Path, pinned: str | None, url: str) -> None:
    with path.open("wb") as file:
        num_bytes = sum(file.write(chunk) for chunk in response.iter_raw())
    declared = response.headers.get("content-length", "")
    if declared.isdigit() and int(declared) != num_bytes:
        raise _Passing(Sentence("{num_bytes} of {declared} bytes came", num_bytes=num_bytes, declared=declared))
    if num_bytes == 0:
        raise ModelLoadingError(Sentence("{shown_url} is empty; check the address", shown_url=shown_url(url)))
    if pinned is not None and (sha256 := sha256_of(path)) != pinned:
        raise ModelLoadingError(
            Sentence(
                "{shown_url} is not the file that its #sha256= says (it has {sha256}): do not use it before you "
                "know why",
                shown_url=shown_url(url),
                sha256=sha256,
            )
        )


def _list(storage: Any, root: str) -> dict[str, Mapping[str, Any]]:
    """Return what fsspec knows of the file, or of those that lie directly in the folder, by name."""
    about = storage.info(root)
    files = [about] if about["type"] == "file" else storage.ls(root, detail=True)
    # storages without real folders mark them by empty objects
    files = [file for file in files if file["type"] == "file" and file["size"]]
    if not files:
        raise ModelLoadingError(
            Sentence("{root} holds no files; name the folder, or the file, that holds the model", root=root)
        )
    return {PurePosixPath(file["name"]).name: file for file in files}


def _version(about: Mapping[str, Any]) -> list[str]:
    names = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created")
    return [str(about["size"]), next((str(about[name]) for name in names if about.get(name)), "")]


def _copy(storage: Any, files: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    for name, about in files.items():
        storage.get_file(about["name"], str(folder / name))
        if (folder / name).stat().st_size != int(about["size"]):
            raise ConnectionError(f"{name} did not come whole")


def _folder_name(url: str, version: str) -> str:
    return f"{_url_key(url)}-{hashlib.sha256(version.encode()).hexdigest()[:16]}"


def _url_key(url: str) -> str:
    """Return a hash of a URL without its query: a presigned URL changes every day, but names the same file."""
    parts = urlsplit(url)
    return hashlib.sha256(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}".encode()).hexdigest()[:16]


def _fetched_before(url: str, cache_dir: Path) -> Path | None:
    whole = [folder for folder in cache_dir.glob(f"{_url_key(url)}-*") if is_whole(folder)]
    return max(whole, key=lambda folder: folder.stat().st_mtime, default=None)


def _file_name(url: str) -> str:
    name = re.sub(r"[^\w.-]", "_", unquote(PurePosixPath(urlsplit(url).path).name), flags=re.ASCII)
    return name.lstrip(".") or "weights"
