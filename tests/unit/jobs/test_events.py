import pytest

from serve_app.jobs.events import host_of, share_of


@pytest.mark.parametrize(
    ("base", "host"),
    [
        ("https://Backend.Example/app", "backend.example"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("https://user:secret@b.example:8443/x", "b.example:8443"),
        ("http://[::1]:9000/", "[::1]:9000"),
        ("http://b.example?x=https://c.example", "b.example"),
        ("http://[::1", "[::1"),
        ("not a url", "not a url"),
    ],
)
def test_host_of_a_callback(base, host):
    assert host_of(base) == host


@pytest.mark.parametrize(
    ("host", "share"),
    [
        ("n17.evil.example", "evil.example"),
        ("a.b.c.evil.example:8443", "evil.example"),
        ("evil.example", "evil.example"),
        ("a.shop.co.kr", "shop.co.kr"),
        ("shop.co.kr", "shop.co.kr"),
        ("a.shop.com.au.", "shop.com.au"),
        ("api.example.de", "example.de"),
        ("localhost:9000", "localhost"),
        ("127.0.0.1:9000", "127.0.0.1"),
        ("[2001:db8:1:2::1]:9000", "2001:db8:1::/48"),
        ("[2001:db8:1:ffff::9]", "2001:db8:1::/48"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ("[::1", "::/48"),
        ("not a url", "not a url"),
        ("", ""),
    ],
)
def test_share_of_a_host(host, share):
    assert share_of(host) == share
