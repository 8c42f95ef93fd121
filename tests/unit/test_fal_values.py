"""What a server calls itself to fal's clients, by how they came; and what of theirs it knows as its own."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import flask
import orjson
import pytest

from rankcast.web import tokens
from rankcast.web.app import create_app
from rankcast.web.fal import values
from rankcast.web.keyring import ApiKey, Keyring, Scope, draw
from rankcast.web.settings import WebSettings

ID = "0123456789abcdef" * 2
FILE, ARTIFACT = f"/files/{ID}/cat.png", f"/jobs/{ID}/artifacts/7-1-out.png"
OUTPUT = orjson.dumps({"image": {"url": ARTIFACT}, "given": FILE})


@pytest.fixture
def app() -> flask.Flask:
    return create_app(WebSettings())


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    """This end of a connection, as gunicorn passes it on: to 127.0.0.1, of a server bound to everywhere."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        with socket.create_connection(("127.0.0.1", server.getsockname()[1])) as client:
            accepted, _ = server.accept()
            with accepted, client:
                yield accepted


def told(output: bytes = OUTPUT) -> tuple[str, str]:
    found = orjson.loads(values.outward(output))
    return found["image"]["url"], found["given"]


@pytest.mark.parametrize(
    ("base_url", "base"),
    [
        ("http://localhost:8700", "http://localhost:8700"),
        ("https://gpu.example.com/", "https://gpu.example.com"),
        ("https://example.com/rankcast", "https://example.com/rankcast"),
        ("http://[::1]:8700", "http://[::1]:8700"),
    ],
)
def test_files_are_where_the_client_came_to(app: flask.Flask, base_url: str, base: str) -> None:
    with app.test_request_context("/run/acme/steps", base_url=base_url):
        assert told() == (f"{base}{ARTIFACT}", f"{base}{FILE}")
        assert values.link(FILE) == f"{base}{FILE}"
        assert values.inward({"a": f"{base}{FILE}", "b": f"{base}{ARTIFACT}?token=x"}) == {
            "a": FILE,
            "b": ARTIFACT,
        }


@pytest.mark.parametrize("name", ["fal.run", "queue.fal.run", "rest.fal.ai:443", "V3.FAL.MEDIA"])
def test_who_came_by_a_name_of_fals_is_told_the_servers_own_address(
    app: flask.Flask, connection: socket.socket, name: str
) -> None:
    """Its proxy alone leads from that name to here, and others are to open the file, too."""
    port = connection.getsockname()[1]
    environ = {"gunicorn.socket": connection}
    with app.test_request_context("/run/acme/steps", base_url=f"https://{name}", environ_overrides=environ):
        assert told()[1] == f"https://127.0.0.1:{port}{FILE}"
        for ours in (f"https://127.0.0.1:{port}", f"http://localhost:{port}"):
            assert values.inward({"url": f"{ours}{FILE}"}) == {"url": FILE}
        assert values.inward({"url": f"https://example.com{FILE}"}) == {"url": f"https://example.com{FILE}"}


@pytest.mark.parametrize("base_url", ["http://10.0.0.7:8700", "https://fal.run"])
def test_a_public_url_comes_first(base_url: str) -> None:
    """But what a client was given by another way is known as well."""
    with create_app(WebSettings(public_url="https://example.com/gpu")).test_request_context(
        base_url=base_url
    ):
        assert told()[1] == f"https://example.com/gpu{FILE}"
        assert values.inward({"url": f"http://example.com/gpu{FILE}"}) == {"url": FILE}
        assert values.inward({"url": f"{base_url}{FILE}"}) == {"url": FILE}


@pytest.fixture
def key() -> ApiKey:
    return draw("alice", {Scope.READ})[0]


class OneKey(Keyring):
    """The keyring of whoever has one key."""

    def __init__(self, key: ApiKey) -> None:
        super().__init__(Path("/no/such/file"))
        self._key = key

    def by_id(self, key_id: str) -> ApiKey | None:
        return self._key if key_id == self._key.id else None


def signer_of(url: str, key: ApiKey, purpose: tokens.Purpose, now_s: float = 0.0) -> ApiKey | None:
    token = urlsplit(url).query.removeprefix("token=")
    return tokens.key_of(token, OneKey(key), purpose, ID, now_s=now_s)


def test_with_keys_each_url_opens_what_it_names(app: flask.Flask, key: ApiKey) -> None:
    """Of a stream also when the request is over, from which the right is."""
    with app.test_request_context():
        flask.g.key = key
        outlet = values.outlet()
    found = orjson.loads(outlet(OUTPUT))
    assert signer_of(found["image"]["url"], key, tokens.ARTIFACTS) == key
    assert signer_of(found["given"], key, tokens.FILE) == key
    assert signer_of(found["given"], key, tokens.UPLOAD) is None


def test_a_key_that_may_not_read_gives_no_token(app: flask.Flask) -> None:
    with app.test_request_context():
        flask.g.key = draw("s", {Scope.SUBMIT})[0]
        assert told() == (f"http://localhost{ARTIFACT}", f"http://localhost{FILE}")
