"""`download_s3`: downloads from S3, or from any server with its protocol at the operator's endpoint."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import fsspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from serve_app.errors import AddressRefused, DownloadError, DownloadInterrupted, StorageUnavailable
from serve_app.media.host_names import resolve
from serve_app.media.least_rate import LeastRate
from serve_app.media.part_file import FetchLimits, PartFile
from serve_app.sentences import Sentence

_READ_BYTES = 1 << 20
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")  # it becomes part of a host name


async def download_s3(
    url: str,
    part: PartFile,
    *,
    options: Mapping[str, Any],
    limits: FetchLimits,
    rate: LeastRate,
    sleep: Callable[[float], Awaitable[None]],
) -> str:
    """Fill `part` and return the object's content type; errors are those of `fetch`."""
    bucket, _, key = url.partition("://")[2].partition("/")
    if not _BUCKET.fullmatch(bucket) or not key:
        raise AddressRefused(Sentence("An S3 URL must be of the form s3://bucket/key"))
    retrying = AsyncRetrying(
        stop=stop_after_attempt(limits.num_tries),
        retry=retry_if_exception_type(DownloadInterrupted),
        wait=wait_exponential_jitter(initial=limits.backoff_s, max=limits.max_wait_s, jitter=limits.backoff_s),
        sleep=sleep,
        reraise=True,
    )
    return await retrying(_download_once, f"{bucket}/{key}", part, options, limits, rate)


async def _download_once(
    path: str, part: PartFile, options: Mapping[str, Any], limits: FetchLimits, rate: LeastRate
) -> str:
    try:
        config = {
            "connect_timeout": limits.connect_s,
            "read_timeout": limits.stall_s,
            "retries": {"total_max_attempts": 1},
            "connector_args": {"resolver": _resolver()},
        }
        storage = fsspec.filesystem(
            "s3",
            asynchronous=True,
            skip_instance_cache=True,  # its session belongs to this event loop
            **{"config_kwargs": config, **options},
        )
    except ImportError:
        missing = Sentence("s3:// is not installed here; install the extra: pip install 'serve_app[s3]'")
        raise DownloadError(missing) from None
    storage.retries = 1  # `download_s3` tries again
    await part.restart()
    session = None
    try:
        async with rate.waiting():
            session = await storage.set_session()
            about = await storage._info(path)
        if about.get("type") == "directory":
            raise FileNotFoundError(path)
        part.expect(about["size"])
        stream = await storage.open_async(path, "rb")
        while chunk := await _read(stream, limits, rate):
            await part.write(chunk)
        if part.num_bytes != about["size"]:
            raise DownloadInterrupted(Sentence("The connection broke before the file was complete"))
        return str(about.get("ContentType") or "")
    except (DownloadError, StorageUnavailable):  # the latter: of the disk here, which is no fault of S3
        raise
    except Exception as error:
        raise _translated(error) from None
    finally:
        if session is not None:
            await session.close()


async def _read(stream: Any, limits: FetchLimits, rate: LeastRate) -> bytes:
    async with rate.waiting():
        chunk: bytes = await asyncio.wait_for(stream.read(_READ_BYTES), limits.stall_s)
    rate.add(len(chunk))
    return chunk


def _resolver() -> Any:
    """Return a resolver of aiohttp that looks names up in threads apart; a bucket's name, a caller's, is one part."""
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Resolver(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            return [
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                    proto=socket.IPPROTO_TCP,
                    flags=socket.AI_NUMERICHOST,
                )
                for address in await resolve(host, port)
            ]

        async def close(self) -> None:
            pass

    return Resolver()


def _translated(error: Exception) -> DownloadError:
    """Return the reason without the library's text, which may quote keys and endpoints."""
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return DownloadError(Sentence("404 Not Found"))
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"):
        return DownloadError(
            Sentence("No S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a role")
        )
    if isinstance(error, PermissionError):
        return DownloadError(Sentence("403 Forbidden: the S3 credentials here may not read this object"))
    if isinstance(error, ValueError) or kind in ("ParamValidationError", "InvalidRegionError"):
        return DownloadError(Sentence("The S3 address is not valid ({kind})", kind=kind))
    return DownloadInterrupted(Sentence("S3 can't be reached or the transfer broke ({kind})", kind=kind))
