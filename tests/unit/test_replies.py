"""What is read from a connection that is subscribed."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import redis

from rankcast.web.replies import READ_BYTES, Replies

MESSAGE = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\n"
READ = [b"message", b"a", b"1 2 0"]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def replies_of(sock: object) -> Replies:
    return Replies(SimpleNamespace(_sock=sock))


def test_one_read_takes_all_that_came_be_it_in_parts(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    replies = replies_of(near)
    far.sendall(2 * (MESSAGE + b"1 2 0\r\n") + MESSAGE)
    assert replies.read() == [READ, READ]
    far.sendall(b"1 2 0\r\n")
    assert replies.read() == [READ]
    assert not replies.may_have_more


def test_a_read_that_was_full_may_not_have_been_all(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    replies = replies_of(near)
    far.sendall((READ_BYTES // 7) * b"+PONG\r\n" + b"+PONG\r\n")
    assert set(replies.read()) == {b"PONG"}
    assert replies.may_have_more
    assert replies.read() == [b"PONG"]
    assert not replies.may_have_more


def test_over_tls_a_read_says_nothing_of_what_else_came() -> None:
    """It has one record, and Redis makes one of each message."""
    record = MESSAGE + b"1 2 0\r\n"
    sock = SimpleNamespace(settimeout=lambda _: None, recv=lambda _: record, pending=lambda: 0)
    replies = replies_of(sock)
    assert replies.read() == [READ]
    assert replies.may_have_more


def test_a_connection_that_was_closed_is_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    far.close()
    with pytest.raises(redis.ConnectionError):
        replies_of(near).read()


def test_what_redis_refuses_is_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    far.sendall(b"-NOPERM no\r\n")
    with pytest.raises(redis.ResponseError, match="NOPERM no"):
        replies_of(near).read()
