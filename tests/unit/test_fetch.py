"""What an input may name on other hosts: nothing that was not listed, whatever a URL is made to look like."""

import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from rankcast.gpu_worker.fetch import Host, Limits, fetch, is_public
from rankcast.tasks.errors import InputNotFetched

LIMITS = Limits(max_bytes=1000, timeout_s=30)
#: What a URL may be made to look like; `files.example.com` is listed, and nothing else is.
TRICKS = (
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://0x7f.1/",
    "http://0x7f000001/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://localhost/",
    "http://localhost./",
    "http://LOCALHOST/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00::1]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/",
    "http://10.0.0.1/",
    "http://192.168.0.1/",
    "http://172.16.0.1/",
    "http://100.64.0.1/",
    "http://files.example.com@127.0.0.1/",
    "http://127.0.0.1@files.example.com/",
    "http://user:password@files.example.com/",
    "http://127.0.0.1#@files.example.com/",
    "http://127.0.0.1\\@files.example.com/",
    "http://127.0.0.1?@files.example.com/",
    "http:\\\\files.example.com/",
    "http://files.example.com.evil.com/",
    "http://evil-files.example.com/",
    "http://files.example.com./",
    "http://files.example.com:22/",
    "http://files.example.com:99999/",
    "http://files.example.com:x/",
    "http://files。example.com/",
    "http://ﬁles.example.com/",
    "http://①②⑦.⓪.⓪.①/",
    "http://files.example.com\t.evil.com/",
    "http://files.example.com/\r\nHost: evil",
    "http://files.example.com\0/",
    "http:///files.example.com/",
    "http:files.example.com",
    "//files.example.com/",
    "file:///etc/hostname",
    "FILE:///etc/hostname",
    "gopher://files.example.com:80/_",
    "ftp://files.example.com/",
    "dict://files.example.com/",
    "ldap://files.example.com/",
    "unix:///var/run/docker.sock",
    "jar:http://files.example.com!/",
    "javascript:alert(1)",
    "/etc/hostname",
    "",
)
NOT_PUBLIC = (
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.1.2.3",
    "172.31.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "fe80::1",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "2001:db8::1",
)


def resolved(*addresses: str) -> Callable[..., Any]:
    """A resolver that knows every name to be there."""

    def resolve(name: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolve


def never(*args: Any, **_: Any) -> Any:
    raise AssertionError(f"asked the resolver for {args}")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the path."""

    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"]))
        kind, _, rest = self.path.lstrip("/").partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
            return
        self.send_response(404 if kind == "gone" else 200)
        if kind != "endless":
            self.send_header("Content-Length", {"large": "1001", "short": "100"}.get(kind, "4"))
        self.end_headers()
        if kind == "slow":
            self.rfile.read(1)
        self.wfile.write(b"x" * 2000 if kind in ("endless", "large") else b"data")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def port(server: http.server.ThreadingHTTPServer) -> int:
    return server.server_address[1]


@pytest.mark.parametrize("url", TRICKS)
def test_what_was_not_listed_is_not_asked(tmp_path: Path, url: str):
    """Neither the resolver nor anybody else; nothing is written."""
    hosts = [Host.parse("files.example.com")]
    with pytest.raises(InputNotFetched):
        fetch(url, tmp_path / "file", hosts=hosts, limits=LIMITS, resolve=never)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_listed_name_that_leads_inside_is_not_asked(tmp_path: Path, address: str):
    """Whoever owns the name could let it name anything here; also beside an address that is public."""
    assert not is_public(ipaddress.ip_address(address))
    hosts = [Host.parse("files.example.com")]
    for addresses in ((address,), ("93.184.215.14", address)):
        with pytest.raises(InputNotFetched, match="is not public"):
            fetch(
                "http://files.example.com/",
                tmp_path / "file",
                hosts=hosts,
                limits=LIMITS,
                resolve=resolved(*addresses),
            )


@pytest.mark.parametrize(
    "address",
    ["93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_what_the_internet_knows_is_public(address: str):
    assert is_public(ipaddress.ip_address(address))


def test_a_listed_host_is_asked_by_its_name_at_the_address_that_was_listed(tmp_path: Path, port: int):
    """A private one, because it was said so; no resolver has a word in it."""
    hosts = [Host.parse(f"files.internal:{port}=127.0.0.1")]
    fetch(f"http://FILES.internal:{port}/a?b=1", tmp_path / "file", hosts=hosts, limits=LIMITS, resolve=never)
    assert (tmp_path / "file").read_bytes() == b"data"
    assert Handler.asked == [("/a?b=1", f"files.internal:{port}")]
    fetch(
        f"http://127.0.0.1:{port}/",
        tmp_path / "file",
        hosts=[Host.parse(f"127.0.0.1:{port}")],
        limits=LIMITS,
        resolve=never,
    )


@pytest.mark.parametrize("is_known", [True, False])
def test_a_certificate_is_checked_for_the_name_that_was_listed(
    tmp_path: Path,
    server: http.server.ThreadingHTTPServer,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
    is_known: bool,
):
    """Not for the address; one of an authority that nobody knows is refused."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("files.internal").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    if is_known:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    hosts = [Host.parse(f"{name}:{port}=127.0.0.1") for name in ("files.internal", "other.internal")]

    def at(name: str, path: str = "/", limits: Limits = LIMITS) -> None:
        fetch(f"https://{name}:{port}{path}", tmp_path / "file", hosts=hosts, limits=limits, resolve=never)

    if is_known:
        at("files.internal")
        assert (tmp_path / "file").read_bytes() == b"data"
        with pytest.raises(InputNotFetched, match=r"too long|longer than"):
            at("files.internal", "/slow", Limits(max_bytes=1000, timeout_s=0.5))
    with pytest.raises(InputNotFetched, match="CERTIFICATE_VERIFY_FAILED"):
        at("other.internal" if is_known else "files.internal")


def test_no_proxy_is_asked(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch):
    """It would resolve the name again, somewhere else."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    hosts = [Host.parse(f"127.0.0.1:{port}")]
    fetch(f"http://127.0.0.1:{port}/", tmp_path / "file", hosts=hosts, limits=LIMITS)
    assert len(Handler.asked) == 1


def test_a_redirect_is_judged_as_any_url(tmp_path: Path, port: int):
    """Within the list it is followed, a few times; out of it, it is not."""
    hosts = [Host.parse(f"127.0.0.1:{port}")]

    def at(path: str) -> None:
        fetch(f"http://127.0.0.1:{port}{path}", tmp_path / "file", hosts=hosts, limits=LIMITS)

    at("/to//a")
    assert (tmp_path / "file").read_bytes() == b"data"
    for url in (
        "http://169.254.169.254/",
        "file:///etc/hostname",
        f"http://localhost:{port}/",
        "//10.0.0.1/",
    ):
        with pytest.raises(InputNotFetched):
            at(f"/to/{url}")
    with pytest.raises(InputNotFetched, match="more than 5 redirects"):
        at("/to/" * 9)


def test_a_name_is_resolved_once(tmp_path: Path, port: int):
    """What was judged is what is connected to: a second answer would be nobody's to judge."""
    asked: list[str] = []

    def resolve(name: str, port: int, **_: Any) -> list[Any]:
        asked.append(name)
        return resolved("10.0.0.1" if len(asked) > 1 else "127.0.0.1")(name, port)

    with pytest.raises(InputNotFetched, match=r"127\.0\.0\.1, which is not public"):
        fetch(
            f"http://files.example.com:{port}/",
            tmp_path / "file",
            hosts=[Host.parse(f"files.example.com:{port}")],
            limits=LIMITS,
            resolve=resolve,
        )
    assert asked == ["files.example.com"]
    assert Handler.asked == []


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/large", "more than 1000 bytes"),
        ("/endless", "more than 1000 bytes"),
        ("/short", "it broke off, 96 bytes before its end"),
        ("/gone", "it answered 404"),
        ("/to/", "redirects"),
    ],
)
def test_what_is_no_whole_file_is_told_so(tmp_path: Path, port: int, path: str, says: str):
    hosts = [Host.parse(f"127.0.0.1:{port}")]
    with pytest.raises(InputNotFetched, match=says):
        fetch(f"http://127.0.0.1:{port}{path}", tmp_path / "file", hosts=hosts, limits=LIMITS)


def test_who_takes_too_long_is_cut_off(tmp_path: Path, port: int):
    """After the head, where no time-out of a single read would help."""
    hosts = [Host.parse(f"127.0.0.1:{port}")]
    limits = Limits(max_bytes=1000, timeout_s=0.3)
    with pytest.raises(InputNotFetched, match=r"too long|longer than"):
        fetch(f"http://127.0.0.1:{port}/slow", tmp_path / "file", hosts=hosts, limits=limits)


def test_who_does_not_answer_is_told_without_the_secrets_of_the_url(tmp_path: Path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(InputNotFetched) as caught:
            fetch(
                f"http://127.0.0.1:{port}/?token=secret",
                tmp_path / "file",
                hosts=[Host.parse(f"127.0.0.1:{port}")],
                limits=LIMITS,
            )
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a b", "http://a", "a/b", "a:x", "a=b", "*.example.com", "a=1.2.3.4.5"])
def test_what_names_no_host_is_refused(text: str):
    with pytest.raises(ValueError):
        Host.parse(text)
