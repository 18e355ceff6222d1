"""`AddressPolicy`: the public addresses, the operator's exceptions, and the accepted spellings of a URL.

Special-purpose ranges: IANA registries of RFC 6890, with RFC 3056 (6to4), 4380 (Teredo), 5214 (ISATAP), 6052 (NAT64),
2765 (SIIT).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx

from serve_app.errors import AddressRefused
from serve_app.sentences import Sentence

_NO_ADDRESS = Sentence("The host is not a valid address")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# `is_global` of the standard library (3.11) calls them global, or they are a cloud's own service.
_REFUSED_NETWORKS: tuple[Network, ...] = (
    ip_network("192.0.0.0/24"),  # IETF protocol assignments; 192.0.0.192 is Oracle Cloud's metadata service
    ip_network("192.88.99.0/24"),  # 6to4 relay anycast, deprecated by RFC 7526
    ip_network("100.64.0.0/10"),  # carrier-grade NAT; 100.100.100.200 is Alibaba Cloud's metadata service
    ip_network("168.63.129.16/32"),  # Azure's host service, a public address that every virtual machine reaches
    ip_network("64:ff9b:1::/48"),  # local-use NAT64 (RFC 8215): where the IPv4 address lies is the network's secret
    ip_network("3fff::/20"),  # documentation (RFC 9637)
    ip_network("5f00::/16"),  # segment routing (RFC 9602)
)
# Never reached through an allowed host name: only an allowed address or network opens these.
_NEVER_BY_NAME: tuple[Network, ...] = (
    *map(ip_network, ("169.254.0.0/16", "fe80::/10")),  # link-local
    *map(ip_network, ("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32")),  # Alibaba Cloud, Azure, Oracle
    *map(ip_network, ("fd00:ec2::/32", "fd20:ce::254/128", "fd00:c1::a9fe:a9fe/128")),  # AWS, Google, Oracle
    ip_network("fd00:42::42/128"),  # Scaleway
    ip_network("64:ff9b:1::/48"),  # hides an IPv4 address, see above
    *map(ip_network, ("0.0.0.0/8", "::/128", "224.0.0.0/4", "ff00::/8", "240.0.0.0/4")),
)
_NAT64 = ip_network("64:ff9b::/96")
_IPV4_COMPATIBLE = ip_network("::/96")
_IPV4_TRANSLATED = ip_network("::ffff:0:0:0/96")  # SIIT (RFC 2765)
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
# inet_aton reads a name that ends in a number as an IPv4 address: 2130706433, 0x7f.1, 127.1 (WHATWG URL, section 3.5)
_ENDS_IN_NUMBER = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)$")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Every public address is allowed, and the operator's exceptions.

    Args:
        allowed: host names, addresses and networks (CIDR); anything else raises ValueError. A name opens all ports of
            the private addresses that it resolves to, but never a metadata or link-local address: only an address or a
            network does.
    """

    allowed: Sequence[str] = ()
    _names: frozenset[str] = field(init=False, repr=False, compare=False)
    _networks: tuple[Network, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        entries = tuple(stripped for entry in self.allowed if (stripped := entry.strip()))
        parsed = [_parse_allowed(entry) for entry in entries]
        object.__setattr__(self, "allowed", entries)
        object.__setattr__(self, "_names", frozenset(entry for entry in parsed if isinstance(entry, str)))
        object.__setattr__(self, "_networks", tuple(entry for entry in parsed if not isinstance(entry, str)))

    def check_url(self, url: str | httpx.URL, schemes: Sequence[str] = ("http", "https")) -> httpx.URL:
        """Return the parsed URL; the addresses of its host name are checked when the client connects.

        Raises:
            AddressRefused: scheme, host or its spelling is not allowed; the text has no credentials and no query.
        """
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError, TypeError):
            raise AddressRefused(Sentence("The URL is malformed")) from None
        if parsed.scheme not in schemes:
            scheme, allowed = repr(parsed.scheme[:20]), ", ".join(schemes)
            raise AddressRefused(
                Sentence("URL scheme {scheme} is not allowed; use {allowed}", scheme=scheme, allowed=allowed)
            )
        if parsed.userinfo:
            sentence = Sentence("A user name or password in the URL is not allowed; use a presigned URL")
            raise AddressRefused(sentence)
        if parsed.port is not None and not 1 <= parsed.port <= 65535:
            raise AddressRefused(Sentence("The URL's port is out of range"))
        host = _plain_host(parsed.raw_host.decode("ascii", "replace"))
        if (address := _strict_address(host)) is not None:
            self.check_address(address)
        elif host not in self._names and (host == "localhost" or host.endswith(".localhost")):
            raise AddressRefused(_refusal(host))
        return parsed

    def check_address(self, address: str | Address) -> None:
        """Raise AddressRefused unless the address is public, and so are the addresses embedded in it."""
        parsed = _strict_address(address) if isinstance(address, str) else address
        if parsed is None:
            raise AddressRefused(_NO_ADDRESS)
        if self._is_listed(parsed):
            return
        embedded = _embedded_addresses(parsed)
        if any(not _is_public(each) for each in (*embedded, *(() if _is_translated(parsed) else (parsed,)))):
            raise AddressRefused(_refusal(str(parsed)))

    def check_resolved(self, host: str, addresses: Sequence[str]) -> None:
        """Raise AddressRefused if one address of a host name is refused.

        The text names the host only, so that a caller can't map the network.
        """
        by_name = _fold(host) in self._names
        for text in addresses:
            address = _strict_address(text)
            if address is not None and by_name and not _is_never_by_name(address):
                continue
            try:
                self.check_address(text)
            except AddressRefused:
                raise AddressRefused(_refusal(host)) from None

    def _is_listed(self, address: Address) -> bool:
        # to the kernel ::ffff:a.b.c.d is the same endpoint as a.b.c.d, so the operator's choice opens both
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return _within(address, self._networks) or (mapped is not None and _within(mapped, self._networks))


def _parse_allowed(entry: str) -> str | Network:
    text = entry.removeprefix("[").removesuffix("]")
    try:
        return ip_network(text, strict=False)
    except ValueError:
        pass
    try:
        name = _plain_host(httpx.URL(f"http://{text}/").raw_host.decode("ascii"))
        if "/" not in text and ":" not in text and "@" not in text and _strict_address(name) is None:
            return name
    except (AddressRefused, httpx.InvalidURL, ValueError):
        pass
    raise ValueError(
        f"Allowed host {entry!r} is neither a host name, nor an address, nor a network such as 10.0.0.0/8 "
        "(scheme, port, path and wildcards are not accepted)"
    )


def _fold(host: str) -> str:
    return host.lower().removesuffix(".")


def _plain_host(raw_host: str) -> str:
    """Return the host for comparison; refuse spellings that two parsers may read as two hosts."""
    host = _fold(raw_host)
    if not host:
        raise AddressRefused(Sentence("The URL names no host"))
    if ":" in host:
        if _strict_address(host) is None:
            raise AddressRefused(_NO_ADDRESS)
        return host
    if len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise AddressRefused(Sentence("The host is not a valid name"))
    if _ENDS_IN_NUMBER.search(host) and _strict_address(host) is None:
        raise AddressRefused(
            Sentence("The host is an unusual spelling of an address; write it as four decimal numbers")
        )
    return host


def _strict_address(text: str) -> Address | None:
    """Parse an address; None for anything else, zone ids included."""
    if "%" in text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        return None


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _is_never_by_name(address: Address) -> bool:
    return any(_within(each, _NEVER_BY_NAME) for each in (address, *_embedded_addresses(address)))


def _is_translated(address: Address) -> bool:
    """Return whether an IPv6 address stands for the IPv4 address in it."""
    return isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address in _NAT64)


def _embedded_addresses(address: Address) -> tuple[IPv4Address, ...]:
    if isinstance(address, IPv4Address):
        return ()
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    found: list[IPv4Address] = []
    is_compatible = address in _IPV4_COMPATIBLE and not address.is_loopback and not address.is_unspecified
    if address.ipv4_mapped is not None or address in _NAT64 or address in _IPV4_TRANSLATED or is_compatible:
        found.append(low)
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    if (int(address) >> 32) & 0xFCFFFFFF == 0x00005EFE:  # ISATAP, with either universal/local bit
        found.append(low)
    return tuple(found)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address.is_site_local:
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and not address.is_link_local
        and not _within(address, _REFUSED_NETWORKS)
    )


def _refusal(host: str) -> Sentence:
    return Sentence(
        "Address not allowed: {host} is not public; the operator can allow it by SERVE_APP_ALLOWED_HOSTS", host=host
    )
