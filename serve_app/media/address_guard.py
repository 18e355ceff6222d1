"""`guarded_client`: an HTTP client that reaches only allowed addresses (against server-side request forgery).

There are two checks, because either alone can be tricked. `AddressPolicy.check_url` checks the text of a URL.
`guarded_client` resolves each host once, checks every address of the answer and connects to those addresses, so that no
second DNS answer (rebinding) counts; the TLS name stays that of the URL.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio
import httpcore
import httpx

from serve_app.errors import AddressRefused, CallbackRefused
from serve_app.media.address_policy import AddressPolicy
from serve_app.media.host_names import resolve
from serve_app.sentences import Sentence

__all__ = ["AddressPolicy", "check_callback_base", "guarded_client"]

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_HAPPY_EYEBALLS_DELAY_S = 0.25  # RFC 8305, section 5
_RESOLVE_LIMIT_S = 5.0
_MOST_ADDRESSES = 8  # of a name that are tried; a caller's name server may answer with thousands


class _WithoutQuery(logging.Filter):
    """Removes the query, a presigned URL's credential, from the URLs that httpx logs at INFO."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.copy_with(query=None, fragment=None, userinfo=b"") if isinstance(arg, httpx.URL) else arg
                for arg in record.args
            )
        return True


logging.getLogger("httpx").addFilter(_WithoutQuery())


def guarded_client(
    policy: AddressPolicy,
    *,
    timeout: httpx.Timeout,
    verify: ssl.SSLContext | bool = True,
    limits: httpx.Limits | None = None,
    headers: dict[str, str] | None = None,
    resolve: Resolve = resolve,
) -> httpx.AsyncClient:
    """Return a client that reaches only what the policy allows; a refused address raises AddressRefused.

    It reads no proxy or .netrc from the environment and follows no redirect: its user must pass the new URL through
    `AddressPolicy.check_url` first.
    """
    return httpx.AsyncClient(
        transport=_GuardedTransport(policy, verify, limits or httpx.Limits(max_connections=20), resolve),
        timeout=timeout,
        headers=headers,
        trust_env=False,
        follow_redirects=False,
    )


async def check_callback_base(url: str, policy: AddressPolicy, *, resolve: Resolve = resolve) -> None:
    """Check at submission where callbacks will go; a name that can't be resolved now is checked at delivery.

    Raises:
        CallbackRefused: the URL is not http(s), has credentials, a query or a fragment, or its address is not allowed.
    """
    try:
        parsed = policy.check_url(url)
        if parsed.query or parsed.fragment or "?" in url or "#" in url:
            raise AddressRefused(Sentence("The callback base must have neither query nor fragment"))
        try:
            with anyio.fail_after(_RESOLVE_LIMIT_S):
                addresses = await resolve(parsed.raw_host.decode("ascii"), parsed.port or 0)
        except (OSError, TimeoutError):
            return
        policy.check_resolved(parsed.raw_host.decode("ascii"), addresses)
    except AddressRefused as error:
        raise CallbackRefused(error.detail) from None


class _GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over a pool with our network backend (httpx has no argument for one; httpcore does)."""

    def __init__(
        self, policy: AddressPolicy, verify: ssl.SSLContext | bool, limits: httpx.Limits, resolve: Resolve
    ) -> None:
        super().__init__(trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(verify=verify, trust_env=False),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_GuardedBackend(policy, resolve),
        )


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a host once, checks all its addresses and connects to one of them."""

    def __init__(self, policy: AddressPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            with anyio.fail_after(timeout):
                addresses = await self._addresses(host, port)
                if not addresses:
                    raise httpcore.ConnectError(Sentence("the host name has no address"))
                self._policy.check_resolved(host, addresses)
                return await self._connect_first(addresses[:_MOST_ADDRESSES], port, socket_options)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("connecting timed out") from error

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise AddressRefused(Sentence("Unix sockets are not allowed"))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            return await self._resolve(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectError(Sentence("the host name's name server did not answer")) from error
        except socket.gaierror as error:
            raise httpcore.ConnectError(Sentence("the host name could not be resolved")) from error

    async def _connect_first(
        self, addresses: Sequence[str], port: int, socket_options: Iterable[httpcore.SOCKET_OPTION] | None
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the address that answers first; each attempt starts a moment after the last one (RFC 8305)."""
        winner: httpcore.AsyncNetworkStream | None = None
        errors: list[Exception] = []

        async def attempt(address: str, failed: anyio.Event) -> None:
            nonlocal winner
            try:
                stream = await self._backend.connect_tcp(address, port, socket_options=socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                errors.append(error)
                failed.set()
                return
            if winner is not None:
                await stream.aclose()
                return
            winner = stream
            racers.cancel_scope.cancel()

        async with anyio.create_task_group() as racers:
            for address in addresses:
                failed = anyio.Event()
                racers.start_soon(attempt, address, failed)
                with anyio.move_on_after(_HAPPY_EYEBALLS_DELAY_S):
                    await failed.wait()
        if winner is None:
            raise httpcore.ConnectError(Sentence("no address of the host accepts connections")) from errors[0]
        return winner
