"""The client's key: sent with every request, and never told to anybody else."""

import json
import logging

import pytest
from in_loop import async_client
from stub_server import Answered, Asked, StubServer

from rankcast import AsyncClient, Client, NotAllowed, RankcastError, RequestRefused

KEY = "rk_5uper5ecret"


def refuse(asked: Asked) -> Answered:
    """401 without the key, 403 for what it may not do."""
    status = 403 if asked.headers.get("Authorization") == f"Key {KEY}" else 401
    problem = {"type": "urn:rankcast:problem:x", "status": status, "detail": "not for you"}
    return Answered(status, json.dumps(problem).encode(), {"Content-Type": "application/problem+json"})


@pytest.fixture(params=[Client, async_client], ids=["sync", "async"])
def open_client(request):
    return request.param


def test_the_key_goes_with_every_request_from_the_call_or_the_environment(open_client, monkeypatch):
    """Streams, too. What is given in the call wins, and an empty one switches it off."""
    monkeypatch.setenv("RANKCAST_KEY", KEY)
    with StubServer(refuse) as server:
        for key in (None, "other", ""):
            with open_client(server.url, key=key) as client:
                job = client.job("x")
                for ask in (
                    client.tasks,
                    job.record,
                    job.result,
                    job.logs,
                    lambda job=job: list(job.stream()),
                ):
                    with pytest.raises(NotAllowed):
                        ask()
    told = [asked.headers.get("Authorization") for asked in server.asked]
    assert told == [f"Key {KEY}"] * 5 + ["Key other"] * 5 + [None] * 5


def test_a_refusal_says_which_variable_to_set(open_client):
    """The first thing that somebody gets wrong on a server with keys; a later try would heal nothing."""
    with StubServer(refuse) as server:
        with open_client(server.url) as client, pytest.raises(NotAllowed, match="RANKCAST_KEY") as refused:
            client.submit("acme/steps")
        assert isinstance(refused.value, RequestRefused)
        assert refused.value.status == 401
        with open_client(server.url, key=KEY) as client, pytest.raises(NotAllowed, match="not for you"):
            client.submit("acme/steps")
    assert len(server.asked) == 2


def test_the_key_is_in_no_log_no_error_and_no_repr(open_client, caplog):
    """Not even where everything is logged."""
    caplog.set_level(logging.DEBUG)
    told = []
    with StubServer(refuse) as server, open_client(server.url, key=KEY) as client:
        for ask in (client.tasks, lambda: list(client.job("x").stream())):
            with pytest.raises(RankcastError) as refused:
                ask()
            told += [str(refused.value), repr(refused.value), repr(refused.value.problem)]
    for made in (Client(server.url, key=KEY), AsyncClient(server.url, key=KEY)):
        told += [repr(made), repr(made.job("x"))]
    assert caplog.records
    assert KEY not in caplog.text + "".join(told)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel", "\x00"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_told(key):
    """It may be almost right."""
    with pytest.raises(ValueError, match="RANKCAST_KEY") as refused:
        Client(key=key)
    assert key not in str(refused.value)


def test_a_key_that_would_go_over_the_network_in_the_clear_is_warned_of(caplog):
    """Once a client; not for https, and not where nobody else is on the way."""
    for url in ("https://gpu.example", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"):
        Client(url, key=KEY).close()
    Client("http://gpu.example").close()
    assert caplog.records == []
    Client("http://gpu.example", key=KEY).close()
    (warned,) = caplog.messages
    assert "without encryption" in warned
    assert KEY not in warned
