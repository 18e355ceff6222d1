"""`download_http`: downloads over http and https; each hop is checked, faults are retried, drops resumed.

Resuming follows RFC 9110, sections 13.1.5 (If-Range) and 14 (ranges). It needs a validator from the server, so that two
versions of a file are never joined.
"""

from __future__ import annotations

import email.utils
import re
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import httpx
from tenacity import AsyncRetrying, RetryCallState, stop_after_attempt, wait_exponential_jitter

from serve_app.errors import AddressRefused, DownloadError, DownloadInterrupted
from serve_app.media.address_guard import AddressPolicy, guarded_client
from serve_app.media.part_file import FetchLimits, PartFile

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_INFLATE_BYTES = 1 << 20  # a zip bomb is unpacked in pieces, so that the byte limit stops it


async def download_http(
    url: str,
    part: PartFile,
    *,
    policy: AddressPolicy,
    tls: ssl.SSLContext | None,
    limits: FetchLimits,
    sleep: Callable[[float], Awaitable[None]],
) -> str:
    """Fill `part` and return the declared content type; errors as `fetch`."""
    timeout = httpx.Timeout(limits.stall_s, connect=limits.connect_s)
    headers = {"user-agent": "serve_app", "accept": "*/*", "accept-encoding": "identity"}
    async with guarded_client(policy, timeout=timeout, verify=tls or True, headers=headers) as client:
        download = _Download(client, url, part, policy, limits)
        retrying = AsyncRetrying(
            stop=stop_after_attempt(limits.num_tries),
            retry=download.is_worth_retrying,
            wait=download.wait_s,
            sleep=sleep,
            reraise=True,
        )
        await retrying(download.run)
    return download.content_type


class _Download:
    """One file over several tries."""

    def __init__(
        self, client: httpx.AsyncClient, url: str, part: PartFile, policy: AddressPolicy, limits: FetchLimits
    ) -> None:
        self._client, self._url, self._part, self._policy, self._limits = client, url, part, policy, limits
        self._validator, self._retry_after_s = "", 0.0
        self._backoff = wait_exponential_jitter(
            initial=limits.backoff_s, max=limits.max_wait_s, jitter=limits.backoff_s
        )
        self.content_type = ""

    def is_worth_retrying(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return isinstance(error, DownloadInterrupted) and self._retry_after_s <= self._limits.max_wait_s

    def wait_s(self, state: RetryCallState) -> float:
        return max(self._backoff(state), self._retry_after_s)

    async def run(self) -> None:
        """Try once, from where the last try stopped if the server can."""
        self._retry_after_s = 0.0
        try:
            await self._follow(self._policy.check_url(self._url))
        except httpx.TimeoutException as error:
            what = "connecting" if isinstance(error, httpx.ConnectTimeout) else "waiting for data"
            raise DownloadInterrupted(f"The server did not answer in time ({what})") from None
        except httpx.ConnectError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
                cause = cause.__cause__ or cause.__context__
            if cause is not None:
                raise DownloadError("The server's TLS certificate is not valid") from None
            reason = str(error) if str(error).startswith(("the host name", "no address")) else "connecting failed"
            raise DownloadInterrupted(f"The server can't be reached: {reason}") from None
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            raise DownloadInterrupted("The connection broke before the file was complete") from None
        except httpx.HTTPError as error:
            raise DownloadError(f"The request failed: {type(error).__name__}") from None

    async def _follow(self, url: httpx.URL) -> None:
        for _ in range(self._limits.max_redirects + 1):
            is_resumed = self._part.num_bytes and self._validator
            headers = {"range": f"bytes={self._part.num_bytes}-", "if-range": self._validator} if is_resumed else {}
            request = self._client.build_request("GET", url, headers=headers)
            response = await self._client.send(request, stream=True)
            try:
                if response.status_code not in _REDIRECTS:
                    await self._receive(response)
                    return
                url = self._next_hop(url, response)
            finally:
                await response.aclose()
        raise DownloadError(f"More than {self._limits.max_redirects} redirects")

    def _next_hop(self, url: httpx.URL, response: httpx.Response) -> httpx.URL:
        location = response.headers.get("location")
        if not location:
            raise DownloadError(f"{_status_line(response.status_code)} without a new address")
        try:
            target = url.join(location)
        except (httpx.InvalidURL, ValueError):
            raise DownloadError("The server redirects to a malformed address") from None
        if url.scheme == "https" and target.scheme == "http":
            raise AddressRefused("The server redirects from https to http, which is not followed")
        return self._policy.check_url(target)

    async def _receive(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self._part.num_bytes:
            self._validator = ""
            await self._part.restart()
            raise DownloadInterrupted("The file changed while it was being downloaded")
        if status in _TRANSIENT:
            self._retry_after_s = _retry_after_s(response.headers.get("retry-after", ""))
            raise DownloadInterrupted(_status_line(status))
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise DownloadError(_status_line(status))

        encoding = response.headers.get("content-encoding", "identity").strip().lower() or "identity"
        await self._position(response, encoding)
        self.content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        etag = response.headers.get("etag", "")
        strong = etag if etag and not etag.startswith("W/") else response.headers.get("last-modified", "")
        self._validator = strong if encoding == "identity" else ""
        chunks = response.aiter_raw() if encoding == "identity" else _inflated(response.aiter_raw(), encoding)
        try:
            async for chunk in chunks:
                await self._part.write(chunk)
        finally:
            await self._part.flush()

    async def _position(self, response: httpx.Response, encoding: str) -> None:
        """Make the part file end where the response begins."""
        length = response.headers.get("content-length", "")
        declared = int(length) if length.isascii() and length.isdigit() and encoding == "identity" else None
        if response.status_code == HTTPStatus.OK:
            await self._part.restart()
            self._part.expect(declared)
            return
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None or int(match[1]) != self._part.num_bytes or encoding != "identity":
            self._validator = ""
            await self._part.restart()
            raise DownloadInterrupted("The server resumed at another place than asked")
        self._part.expect(int(match[2]) if match[2] != "*" else None)


async def _inflated(chunks: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """Inflate gzip or deflate, at most 1 MiB at a time."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise DownloadError(f"The server compressed the file ({encoding[:20]}) though asked not to")
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: header says whether gzip or zlib
    try:
        async for chunk in chunks:
            pending = chunk
            while pending and not inflater.eof:
                yield inflater.decompress(pending, _INFLATE_BYTES)
                pending = inflater.unconsumed_tail
        yield inflater.flush()
    except zlib.error:
        raise DownloadError("The server's compressed answer is damaged") from None
    if not inflater.eof:
        raise DownloadInterrupted("The connection broke before the file was complete")


def _status_line(status: int) -> str:
    """Return e.g. "404 Not Found", with the standard's phrase: the server's own may hold anything."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unknown Status"


def _retry_after_s(value: str) -> float:
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
