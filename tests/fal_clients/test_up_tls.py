"""`rankcast up --tls`: what it says to export is all that fal's clients need."""

import json
import os
import re
import shlex
import socket
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trustme
from clients.programs import NODE
from commands import ROOT, STEPS, Up, rankcast
from helpers import clean_env, free_port

from fal_clients.programs import DRIVERS
from rankcast.cli.certificates import make_certificates
from rankcast.cli.options import Failure

README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "fal.md").read_text()
(EXAMPLE,) = re.findall(r"^```python\n(import fal_client.*?)^```", README, re.MULTILINE | re.DOTALL)


def tls(data: Path, port: int = 0) -> list[str]:
    return ["--tasks", str(STEPS), "--tls", "--data", str(data), "--proxy-port", str(port)]


def exports(up: Up) -> dict[str, str]:
    """Read as a shell reads them that the lines are pasted into, from the first to the last."""
    up.says("export NO_PROXY")
    (first,) = (number for number, line in enumerate(up.out) if "fal's clients" in line)
    lines = [shlex.split(line, comments=True) for line in up.out[first:]]
    assert [words[0] for words in lines if words] == ["export"] * (len(lines) - 1)
    return dict(words[1].split("=", 1) for words in lines if words)


def test_fals_clients_come_here_with_what_it_says_to_export(tmp_path: Path) -> None:
    """Python's to submit, to run and to upload; and what is elsewhere they still reach."""
    data = tmp_path / "data"
    with Up(*tls(data)) as up:
        env = clean_env(**exports(up))
        done = subprocess.run(
            [sys.executable, DRIVERS / "exported.py"],
            env=env, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["ran"]["steps"] == told["submitted"]["steps"] == 2
        assert told["uploaded"].startswith(f"{up.url}/files/")
        assert told["content"] == "hello"
        example = subprocess.run(
            [sys.executable, "-c", EXAMPLE], env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert "A sunset" in example.stdout, example.stderr
        assert dict(re.findall(r"^    export (\w+)=(\S+)$", PAGE, re.MULTILINE)).keys() == exports(up).keys()
        script = "fetch(process.argv[1]).then((answer) => console.log(answer.status))"
        node = subprocess.run(
            [NODE, "-e", script, f"{up.url}/healthz"], env=env, capture_output=True, text=True, timeout=60
        )
        assert node.stdout == "200\n", node.stderr
        ours = rankcast("submit", "examples/steps", "prompt=x", "steps=2", "--watch", RANKCAST_URL=up.url,
                        SSL_CERT_FILE=str(data / "ca.pem"))  # fmt: skip
        assert ours.returncode == 0, ours.stderr
        assert up.stop() == 0, up.told
        assert up.left == []
    private = {path.name for path in data.iterdir() if stat.S_IMODE(path.stat().st_mode) == 0o600}
    assert {"ca.key", "server.pem"} <= private


def test_its_authority_stays(tmp_path: Path) -> None:
    """Who trusts it goes on over a restart, and trusts no other server by it."""
    trusted = []
    for _ in range(2):
        with Up(*tls(tmp_path)) as up:
            address = httpx.URL(up.url)
            trusted.append((tmp_path / "ca.pem").read_bytes())
            context = ssl.create_default_context(cadata=trusted[0].decode())
            for name in ("127.0.0.1", "localhost"):
                answer = httpx.get(f"https://{name}:{address.port}/readyz", verify=context)
                assert answer.status_code == 200
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                httpx.get(up.url)
            assert up.stop() == 0, up.told
    assert trusted[0] == trusted[1]


def test_the_proxy_leads_nowhere_by_anything_but_connect(tmp_path: Path) -> None:
    with Up(*tls(tmp_path)) as up:
        proxy = exports(up)["HTTPS_PROXY"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", proxy)
        assert httpx.get(f"{proxy}/").status_code == 405
        with httpx.Client(proxy=proxy) as client, pytest.raises(httpx.ProxyError, match="502"):
            client.get(f"https://127.0.0.1:{free_port()}/")
        for port in ("0", "65536", "x"):
            with socket.create_connection(("127.0.0.1", httpx.URL(proxy).port or 0)) as client:
                client.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
                assert client.makefile("rb").readline() == b"HTTP/1.1 400 Bad Request\r\n"


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    """Without a folder for it; with a Redis that has no folder; with half of an authority; on a port that
    is taken; in a folder that is."""
    done = rankcast("up", "--tasks", STEPS, "--tls")
    assert (done.returncode, "--data" in done.stderr) == (2, True)
    for with_data in ([], ["--data", str(tmp_path)]):
        done = rankcast("up", "--tasks", STEPS, "--tls", *with_data, RANKCAST_REDIS_URL="redis://127.0.0.1:1")
        assert (done.returncode, "RANKCAST_REDIS_URL" in done.stderr) == (2, True), done.stderr
    (tmp_path / "ca.pem").write_text("no certificate")
    done = rankcast("up", "--port", "0", *tls(tmp_path))
    assert (done.returncode, "remove both" in done.stderr) == (1, True), done.stderr
    (tmp_path / "ca.pem").unlink()
    with Up(*tls(tmp_path)) as up:
        port = int(exports(up)["HTTPS_PROXY"].rpartition(":")[2])
        done = rankcast("up", "--port", "0", *tls(tmp_path / "other", port))
        assert (done.returncode, "--proxy-port" in done.stderr) == (1, True), done.stderr
        shown = (tmp_path / "server.pem").read_bytes()
        done = rankcast("up", "--port", "0", *tls(tmp_path))
        assert (done.returncode, "another `rankcast up`" in done.stderr) == (1, True), done.stderr
        assert (tmp_path / "server.pem").read_bytes() == shown
    assert "Traceback" not in done.stderr


def test_an_authority_that_no_client_would_trust_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose key is another's, and one that has run out: a server of theirs nobody could ask."""
    now, other = trustme.CA(), trustme.CA()
    with monkeypatch.context() as patch:
        patch.setattr(trustme, "DEFAULT_EXPIRY", datetime.now(UTC) - timedelta(days=1))
        past = trustme.CA()
    for authority, key in ((now, other), (past, past)):
        (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
        (tmp_path / "ca.key").write_bytes(key.private_key_pem.bytes())
        with pytest.raises(Failure, match="remove both"):
            make_certificates(tmp_path, ["localhost"], {})
    (tmp_path / "ca.pem").write_bytes(now.cert_pem.bytes())
    (tmp_path / "ca.key").write_bytes(now.private_key_pem.bytes())
    make_certificates(tmp_path, ["localhost", "127.0.0.1"], {})


def test_a_bundle_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"^SSL_CERT_FILE: .*gone\.pem: No such file"):
        make_certificates(tmp_path, ["localhost"], {"SSL_CERT_FILE": str(tmp_path / "gone.pem")})
    assert not (tmp_path / "ca.pem").exists()


def test_a_bundle_keeps_what_was_trusted_before(tmp_path: Path) -> None:
    """SSL_CERT_FILE stands in for all that a program would else trust."""
    own = tmp_path / "company.pem"
    own.write_text("# the company's\n")
    with Up(*tls(tmp_path / "data"), SSL_CERT_FILE=str(own)) as up:
        bundle = Path(exports(up)["SSL_CERT_FILE"])
        assert bundle.read_text().startswith("# the company's\n")
        assert bundle.read_text().endswith((tmp_path / "data" / "ca.pem").read_text())
        assert os.access(bundle, os.R_OK)
