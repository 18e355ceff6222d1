"""`download_http`: downloads over http and https; each hop is checked, faults are retried, drops resumed.

Resuming follows RFC 9110, sections 8.8 (validators), 13.1.5 (If-Range), 14 (ranges) and 15.3.7.3 (joining parts). The
rest of a file must carry the strong validator of its beginning, so that two versions are never joined.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NoReturn

import httpx
from tenacity import AsyncRetrying, RetryCallState, stop_after_attempt, wait_exponential_jitter

from serve_app.errors import AddressRefused, DownloadError, DownloadInterrupted
from serve_app.media.address_guard import AddressPolicy, guarded_client
from serve_app.media.content_encoding import inflated
from serve_app.media.least_rate import LeastRate
from serve_app.media.part_file import FetchLimits, PartFile
from serve_app.sentences import Sentence

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)
_MALFORMED = Sentence("The server redirects to a malformed address")
_BROKE = Sentence("The connection broke before the file was complete")
_CHANGED = Sentence("The file changed while it was being downloaded")
_MIN_AGE_S = 60.0  # a file that changed later may change again within the second that Last-Modified tells


async def download_http(
    url: str,
    part: PartFile,
    *,
    policy: AddressPolicy,
    tls: ssl.SSLContext | None,
    limits: FetchLimits,
    rate: LeastRate,
    sleep: Callable[[float], Awaitable[None]],
) -> str:
    """Fill `part` and return the declared content type; errors as `fetch`."""
    timeout = httpx.Timeout(limits.stall_s, connect=limits.connect_s)
    headers = {"user-agent": "serve_app", "accept": "*/*", "accept-encoding": "identity"}
    async with guarded_client(policy, timeout=timeout, verify=tls or True, headers=headers) as client:
        download = _Download(client, url, part, policy, limits, rate)
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
        self,
        client: httpx.AsyncClient,
        url: str,
        part: PartFile,
        policy: AddressPolicy,
        limits: FetchLimits,
        rate: LeastRate,
    ) -> None:
        self._client, self._url, self._part, self._policy = client, url, part, policy
        self._limits, self._rate = limits, rate
        self._retry_after_s = 0.0
        self._validator = ""  # of the bytes so far
        self._source = ""  # the address that they came from, without its query
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
            is_connecting = isinstance(error, httpx.ConnectTimeout)
            what = Sentence("connecting") if is_connecting else Sentence("waiting for data")
            raise DownloadInterrupted(Sentence("The server did not answer in time ({what})", what=what)) from None
        except httpx.ConnectError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
                cause = cause.__cause__ or cause.__context__
            if cause is not None:
                raise DownloadError(Sentence("The server's TLS certificate is not valid")) from None
            reason = _connect_failure(error)
            raise DownloadInterrupted(Sentence("The server can't be reached: {reason}", reason=reason)) from None
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            raise DownloadInterrupted(_BROKE) from None
        except httpx.InvalidURL:  # from httpx itself, which prepares the next request: `Location: data:,x`
            raise DownloadError(_MALFORMED) from None
        except httpx.HTTPError as error:
            raise DownloadError(Sentence("The request failed: {kind}", kind=type(error).__name__)) from None

    async def _follow(self, url: httpx.URL) -> None:
        for _ in range(self._limits.max_redirects + 1):
            is_resuming = bool(self._part.num_bytes and self._validator and _source(url) == self._source)
            headers = {"range": f"bytes={self._part.num_bytes}-", "if-range": self._validator} if is_resuming else {}
            request = self._client.build_request("GET", url, headers=headers)
            async with self._rate.waiting():
                response = await self._client.send(request, stream=True)
            try:
                if response.status_code not in _REDIRECTS:
                    await self._receive(response, is_resuming=is_resuming)
                    return
                url = self._next_hop(url, response)
            finally:
                await response.aclose()
        raise DownloadError(Sentence("More than {num} redirects", num=self._limits.max_redirects))

    def _next_hop(self, url: httpx.URL, response: httpx.Response) -> httpx.URL:
        location = response.headers.get("location")
        if not location:
            status_line = _status_line(response.status_code)
            raise DownloadError(Sentence("{status} without a new address", status=status_line))
        try:
            target = url.join(location)
        except (httpx.InvalidURL, ValueError):
            raise DownloadError(_MALFORMED) from None
        if url.scheme == "https" and target.scheme == "http":
            raise AddressRefused(Sentence("The server redirects from https to http, which is not followed"))
        return self._policy.check_url(target)

    async def _receive(self, response: httpx.Response, *, is_resuming: bool) -> None:
        status = response.status_code
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self._part.num_bytes:
            await self._start_anew(_CHANGED)
        if status in _TRANSIENT:
            self._retry_after_s = _retry_after_s(response.headers.get("retry-after", ""))
            raise DownloadInterrupted(_status_line(status))
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise DownloadError(_status_line(status))

        encoding = response.headers.get("content-encoding", "identity").strip().lower() or "identity"
        await self._position(response, encoding, is_resuming=is_resuming)
        self.content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        chunks = self._arriving(response)
        try:
            async for chunk in chunks if encoding == "identity" else inflated(chunks, encoding):
                await self._part.write(chunk)
        finally:
            await self._part.flush()
        expected = self._part.expected_bytes
        if expected is not None and self._part.num_bytes > expected:
            await self._start_anew(Sentence("The server sent more than it said"))
        if expected is not None and self._part.num_bytes < expected:
            raise DownloadInterrupted(_BROKE)

    async def _position(self, response: httpx.Response, encoding: str, *, is_resuming: bool) -> None:
        """Make the part file end where the response begins."""
        part, validator = self._part, _strong_validator(response.headers) if encoding == "identity" else ""
        if response.status_code == HTTPStatus.OK:
            length = response.headers.get("content-length", "")
            await part.restart()
            part.expect(int(length) if re.fullmatch("[0-9]{1,19}", length) and encoding == "identity" else None)
        else:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            start, end, num_bytes = map(int, match.groups()) if match else (0, 0, 0)
            if encoding != "identity" or not start == part.num_bytes <= end < num_bytes:
                await self._start_anew(Sentence("The server resumed at another place than asked"))
            is_same = is_resuming and validator == self._validator and part.expected_bytes in (None, num_bytes)
            if start and not is_same:
                await self._start_anew(_CHANGED)
            part.expect(num_bytes)
        self._validator, self._source = validator, _source(response.url)

    async def _start_anew(self, reason: Sentence) -> NoReturn:
        self._validator = ""
        await self._part.restart()
        raise DownloadInterrupted(reason)

    async def _arriving(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the bytes as they arrive, at the least rate; MediaTooLarge also where compressed ones are too many."""
        chunks = response.aiter_raw()
        num_bytes = 0
        while True:
            async with self._rate.waiting():
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            num_bytes += len(chunk)
            self._part.check_size(num_bytes)
            self._rate.add(len(chunk))
            yield chunk


def _source(url: httpx.URL) -> str:
    return str(url.copy_with(query=None, fragment=None))


def _strong_validator(headers: Mapping[str, str]) -> str:
    """Return what tells this version of the file from all others; "" where the server says nothing so strong."""
    etag = headers.get("etag", "")
    if etag:
        return etag if etag.isascii() and not etag.startswith("W/") else ""
    modified = headers.get("last-modified", "")
    try:
        age = parsedate_to_datetime(headers.get("date", "")) - parsedate_to_datetime(modified)
    except (ValueError, TypeError, OverflowError):
        return ""
    return modified if modified.isascii() and age.total_seconds() >= _MIN_AGE_S else ""


def _connect_failure(error: httpx.ConnectError) -> Sentence:
    """Return what `guarded_client` says of a failed connection; the text of others may hold anything."""
    told = error.__cause__.args[0] if error.__cause__ is not None and error.__cause__.args else None
    return told if isinstance(told, Sentence) else Sentence("connecting failed")


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
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
