"""A server that takes every connection and never says a word: nobody waits for it longer than asked."""

import socket
from collections.abc import Iterator

import pytest
from in_loop import async_client
from stub_server import Answered, StubServer

from rankcast import Client, ConnectionLost
from rankcast.follow import Patience

#: Far less than the time that an answer has by default.
pytestmark = pytest.mark.timeout(25)


@pytest.fixture(params=[Client, async_client], ids=["sync", "async"])
def open_client(request):
    return request.param


@pytest.fixture
def silent() -> Iterator[str]:
    """The kernel takes the connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_wait_ends_at_its_time_though_the_server_says_nothing(silent, open_client, tmp_path):
    """It is the caller's time, whatever it is spent on."""
    with open_client(silent) as client:
        job = client.job("x")
        asks = (
            lambda: job.result(timeout_s=0.2),
            lambda: list(job.stream(timeout_s=0.2)),
            lambda: list(job.follow_logs(timeout_s=0.2)),
            lambda: client.download("/files/1/x", tmp_path, timeout_s=0.2),
            lambda: client.upload(b"x", timeout_s=0.2),
        )
        for ask in asks:
            with pytest.raises(TimeoutError):
                ask()


def test_a_single_answer_has_the_time_that_the_client_was_made_with(silent, open_client):
    """Whether the request took effect is not known."""
    with open_client(silent, timeout_s=0.2) as client:
        for ask in (client.tasks, lambda: client.submit("acme/steps"), client.job("x").record):
            with pytest.raises(ConnectionLost):
                ask()


def test_a_download_gives_up_where_the_server_has_lost_the_rest(open_client, tmp_path, monkeypatch):
    """Connections that stand and bring nothing are no progress."""
    monkeypatch.setattr(Patience, "of", lambda timeout_s, sleep: Patience(sleep=sleep, patience_s=0.0))
    with StubServer(lambda asked: Answered(200, b"lost", cut_at=0)) as server:
        with open_client(server.url) as client, pytest.raises(ConnectionLost):
            client.download("/files/1/x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
