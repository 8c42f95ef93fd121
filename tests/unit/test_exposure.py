"""Who can reach a server, and which page is its own."""

import pytest

from rankcast.web.exposure import host_of, is_loopback, is_own, origin_of


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("LocalHost.", True),
        ("a.localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
        ("localhost.example.org", False),
        ("notlocalhost", False),
        ("", False),
    ],
)
def test_only_loopback_is_this_machines_alone(host: str, is_local: bool):
    assert is_loopback(host) is is_local


@pytest.mark.parametrize(
    ("netloc", "host"),
    [("a.b:80", "a.b"), ("a.b", "a.b"), ("[::1]:8700", "::1"), ("[::1]", "::1"), ("", ""), ("[::1", "::1")],
)
def test_a_host_is_known_without_its_port(netloc: str, host: str):
    assert host_of(netloc) == host


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.com:443", "https://example.com"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://[::1]:80", "http://[::1]"),
        ("https://example.com:80", "https://example.com:80"),
    ],
)
def test_an_origin_is_written_as_browsers_do(text: str, origin: str):
    assert origin_of(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "",
        "example.com",
        "https://example.com/",
        "https://*.example.com",
        "ftp://a",
        "https://a b",
        "file://",
    ],
)
def test_what_is_no_origin_is_refused(text: str):
    """Before anybody relies on it: exact, or not at all."""
    with pytest.raises(ValueError, match="is no origin"):
        origin_of(text)


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://127.0.0.1:8700", "127.0.0.1:8700", True),
        ("https://rankcast.example.com", "rankcast.example.com", True),
        ("https://rankcast.example.com", "RANKCAST.example.com:443", True),
        ("http://example.com", "example.com:80", True),
        ("http://127.0.0.1:8701", "127.0.0.1:8700", False),
        ("http://localhost:8700", "127.0.0.1:8700", False),
        ("https://evil.example", "127.0.0.1:8700", False),
        ("null", "127.0.0.1:8700", False),
        ("null", "", False),
        ("https://example.com", "", False),
    ],
)
def test_a_page_is_the_servers_own_if_it_has_its_name_and_port(origin: str, host: str, own: bool):
    """Whatever the scheme: a proxy may have taken TLS off."""
    assert is_own(origin, host) is own
