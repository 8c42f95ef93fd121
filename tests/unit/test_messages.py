"""Parent and ranks understand each other, whatever the socket does to their frames."""

import json
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankcast.gpu_worker.messages import Call, Cancel, Done, Failed, Message, Ready, Shutdown, decode, encode
from rankcast.gpu_worker.pipe import BlockingEnd, NonBlockingEnd, frame

CALL = Call("job", 7, "token", 1, '{"prompt":"ü\\n"}', "/shared")


def test_every_message_comes_back_as_it_was():
    """Also those that have no fields."""
    messages: list[Message] = [
        CALL,
        Shutdown(),
        Ready(12, True),
        Done("[1]", 9),
        Failed("exited", "T", "m", "t"),
    ]
    assert [decode(encode(message)) for message in messages] == messages


@pytest.mark.parametrize("data", [b"", b"{}", b"[1,2]", b'["Nobody",{}]', b'["Call",{"job_id":"x"}]'])
def test_what_is_no_message_is_refused(data):
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode(data)


@given(st.text(), st.integers(0, 2**53))
def test_a_message_is_plain_json(text, number):
    """So nothing on these pipes can become code."""
    name, fields = json.loads(encode(Done(json.dumps(text), number)))
    assert (name, json.loads(fields["output"]), fields["final_seq"]) == ("Done", text, number)


def test_a_frame_that_comes_in_pieces_is_one_message():
    """A byte at a time, and two frames in one piece."""
    ours, theirs = socket.socketpair()
    with theirs:
        end = NonBlockingEnd(ours)
        data = frame(CALL) + frame(Cancel("job"))
        got: list[Message] = []
        for byte in data[:-3]:
            theirs.send(bytes([byte]))
            got += end.receive()[0]
        assert got == [CALL]
        theirs.send(data[-3:])
        assert end.receive() == ([Cancel("job")], False)
        assert end.receive() == ([], False)
    assert end.receive() == ([], True)
    end.close()


def test_the_parent_is_never_blocked_by_a_rank_that_does_not_read():
    """It keeps what the socket does not take, and sends it when it can."""
    ours, theirs = socket.socketpair()
    large = Call("job", 7, "token", 1, "x" * 5_000_000, "/shared")
    end, rank = NonBlockingEnd(ours), BlockingEnd(theirs)
    end.send(frame(large))
    end.send(frame(Cancel("job")))
    assert end.has_unsent
    got: list[Message | None] = []
    reader = threading.Thread(target=lambda: got.extend([rank.receive(), rank.receive()]))
    reader.start()
    while end.has_unsent:
        end.flush()
    reader.join()
    assert got == [large, Cancel("job")]
    end.close()
    assert rank.receive() is None
    theirs.close()


def test_a_rank_that_is_gone_makes_no_trouble_for_the_parent():
    """Its end is told by its exit."""
    ours, theirs = socket.socketpair()
    end = NonBlockingEnd(ours)
    theirs.close()
    end.send(frame(CALL))
    assert not end.has_unsent
    assert end.receive() == ([], True)
    end.close()
