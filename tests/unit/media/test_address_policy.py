"""What AddressPolicy lets through and what it refuses, form by form."""

import pickle
from ipaddress import IPv4Address

import pytest

from serve_app.errors import AddressRefused
from serve_app.media.address_policy import AddressPolicy

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]

REFUSED = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd12:3456::1", "fc00::1"],
    "link-local": ["169.254.1.1", "fe80::1", "febf::1"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"],
    "carrier-grade NAT": ["100.64.0.1", "100.127.255.255"],
    "unspecified": ["0.0.0.0", "::", "0.1.2.3"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "100::1", "5f00::1"],
    "benchmark": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "IPv4-mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::ffff:100.64.0.1"],
    "IPv4-compatible": ["::127.0.0.1", "::10.0.0.1"],
    "6to4": ["2002:7f00:1::1", "2002:a00:1::1", "2002:a9fe:a9fe::1", "192.88.99.1"],
    "Teredo": ["2001:0:7f00:1::1", "2001::1"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::808:808"],
    "ISATAP": ["2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1"],
    "site-local": ["fec0::1", "feff::1"],
}

ODD_URLS = {
    "decimal IPv4": "http://2130706433/",
    "hex IPv4": "http://0x7f000001/",
    "short IPv4": "http://127.1/",
    "hex in parts": "http://0x7f.0.0.1/",
    "octal IPv4": "http://0177.0.0.1/",
    "bare zero": "http://0/",
    "full-width digits": "http://１２７.0.0.1/",
    "ideographic stops": "http://127。0。0。1/",
    "percent-encoded host": "http://%31%32%37.0.0.1/",
    "trailing dot on an address": "http://127.0.0.1./",
    "trailing dot on a name": "http://localhost./",
    "upper case": "http://LOCALHOST/",
    "name under localhost": "http://a.localhost/",
    "user": "http://user@example.com/",
    "user and password": "http://user:secret@example.com/",
    "backslash": "http://example.com\\@127.0.0.1/",
    "zone id": "http://[fe80::1%25eth0]/",
    "mapped in brackets": "http://[::ffff:127.0.0.1]/",
    "no host": "http:///path",
    "nothing": "",
    "empty label": "http://a..example/",
    "space": "http://exam ple.com/",
    "newline": "http://example.com\n.evil/",
    "NUL": "http://example.com\x00.evil/",
    "port 0": "http://example.com:0/",
    "port 70000": "http://example.com:70000/",
    "scheme-relative": "//example.com/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://example.com/",
    "ftp": "ftp://example.com/a.mp4",
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_accepted(address: str) -> None:
    AddressPolicy().check_address(address)


@pytest.mark.parametrize(("kind", "address"), [(kind, each) for kind, many in REFUSED.items() for each in many])
def test_special_address_is_refused(kind: str, address: str) -> None:
    with pytest.raises(AddressRefused, match="not public"):
        AddressPolicy().check_address(address)
    with pytest.raises(AddressRefused):
        AddressPolicy().check_url(f"http://[{address}]/" if ":" in address else f"http://{address}/")


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "fe80::1%eth0", "127.0.0.1/8", "999.1.1.1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressRefused, match="not a valid address"):
        AddressPolicy().check_address(text)


@pytest.mark.parametrize("url", ODD_URLS.values(), ids=ODD_URLS.keys())
def test_odd_url_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused) as refusal:
        AddressPolicy().check_url(url)
    assert "secret" not in refusal.value.detail


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/v.mp4",
        "http://sub_domain.example.com:8080/",
        "https://한국.kr/영상.mp4",
        "https://8.8.8.8/",
    ],
)
def test_ordinary_url_is_accepted(url: str) -> None:
    assert AddressPolicy().check_url(url).host


def test_allowed_network_opens_its_addresses_only() -> None:
    policy = AddressPolicy(("10.1.0.0/16", "::1", "[fd00::7]"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "::1", "fd00::7"):
        policy.check_address(address)
    for address in ("10.2.0.1", "127.0.0.1", "fd00::8", "64:ff9b::a01:203"):
        with pytest.raises(AddressRefused):
            policy.check_address(address)


def test_allowed_name_opens_private_addresses_but_never_metadata() -> None:
    policy = AddressPolicy(("backend.internal", "Localhost"))
    policy.check_url("http://localhost:8000/")
    policy.check_resolved("backend.internal", ["10.0.0.5", "fd00::5"])
    policy.check_resolved("Backend.Internal.", ["127.0.0.1"])
    for address in ("169.254.169.254", "fe80::1", "fd00:ec2::254", "0.0.0.0"):
        with pytest.raises(AddressRefused, match=r"backend\.internal"):
            policy.check_resolved("backend.internal", [address])
    with pytest.raises(AddressRefused):
        policy.check_resolved("other.internal", ["10.0.0.5"])


NEVER_BY_NAME = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0",
                 "224.0.0.1", "255.255.255.255"]  # fmt: skip


def ipv6_forms(address: str) -> dict[str, str]:
    """Return every IPv6 address that stands for an IPv4 address, or leads to it."""
    value = int(IPv4Address(address))
    high, low = value >> 16, value & 0xFFFF
    teredo = value ^ 0xFFFFFFFF
    return {
        "mapped": f"::ffff:{address}",
        "mapped in hex": f"::FFFF:{high:X}:{low:x}",
        "mapped in full": f"0000:0000:0000:0000:0000:ffff:{high:04x}:{low:04x}",
        "compatible": f"::{address}" if value else "::",
        "SIIT": f"::ffff:0:{address}",
        "NAT64": f"64:ff9b::{high:x}:{low:x}",
        "NAT64 in dots": f"64:ff9b::{address}",
        "local NAT64 of 96 bits": f"64:ff9b:1::{high:x}:{low:x}",
        "local NAT64 of 48 bits": f"64:ff9b:1:{high:x}:{low >> 8:x}:{(low & 0xFF) << 8:x}::",
        "6to4": f"2002:{high:x}:{low:x}::1",
        "Teredo server": f"2001:0:{high:x}:{low:x}::1",
        "Teredo client": f"2001:0:808:808:0:0:{teredo >> 16:x}:{teredo & 0xFFFF:x}",
        "ISATAP": f"2606:4700::5efe:{high:x}:{low:x}",
        "ISATAP, universal": f"fd00::200:5efe:{high:x}:{low:x}",
        "with a zone": f"::ffff:{address}%1",
    }


@pytest.mark.parametrize(
    ("address", "form"),
    [(address, form) for address in NEVER_BY_NAME for form in ipv6_forms(address).values()]
    + [(each, each) for each in (*NEVER_BY_NAME, "::", "fe80::1", "FE80::A9FE:A9FE", "fe80::1%1", "ff02::1")]
    + [(each, each) for each in ("fd00:ec2::254", "FD00:0EC2:0:0:0:0:0:0254", "fd20:ce::254", "fd00:c1::a9fe:a9fe")],
)
def test_allowed_name_opens_no_form_of_a_metadata_address(address: str, form: str) -> None:
    policy = AddressPolicy(("media.internal",))
    for answers in ([form], ["10.0.0.5", form], ["8.8.8.8", form]):
        with pytest.raises(AddressRefused, match=r"media\.internal is not public"):
            policy.check_resolved("media.internal", answers)


def test_allowed_name_opens_the_mapped_forms_of_private_addresses() -> None:
    policy = AddressPolicy(("media.internal", "localhost"))
    policy.check_resolved("media.internal", ["::ffff:10.0.0.5", "64:ff9b::a00:5", "fd12::200:5efe:a00:5"])
    policy.check_resolved("localhost", ["::1", "127.0.0.1", "::ffff:127.0.0.1"])


def test_one_private_answer_among_public_ones_refuses_the_name() -> None:
    with pytest.raises(AddressRefused) as refusal:
        AddressPolicy().check_resolved("example.com", ["8.8.8.8", "10.0.0.1"])
    assert "10.0.0.1" not in refusal.value.detail


@pytest.mark.parametrize(
    "entry", ["10.0.0.0/99", "*.internal", "host:8080", "http://host", "host/path", "a b", "127.1"]
)
def test_malformed_allowance_is_a_clear_error(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a host name, nor an address, nor a network"):
        AddressPolicy((entry,))


def test_blank_entries_are_ignored_and_policy_pickles() -> None:
    policy = pickle.loads(pickle.dumps(AddressPolicy((" 10.0.0.0/8 ", "", "host.internal"))))
    assert policy == AddressPolicy(("10.0.0.0/8", "host.internal"))
    policy.check_address("10.9.9.9")
