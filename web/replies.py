"""What Redis says on a connection that is subscribed: all that has come, in one read.

The connection is redis-py's, which made it and writes to it; its own reading takes one reply at a time,
and does not tell whether another has come already.
"""

from typing import Any

import hiredis
import redis
from redis.exceptions import InvalidResponse, ResponseError

#: Most that is read at once.
READ_BYTES = 64 * 1024


class Replies:
    """Reads from the socket of a connection whose replies have all been read so far."""

    def __init__(self, connection: Any) -> None:
        self._sock = connection._sock
        # A timer each time that nothing is there to be read would cost more than what is read.
        self._sock.settimeout(None)
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
        #: How many bytes the last read had.
        self.size = 0
        #: TLS hands out a record at a time, however many have come.
        self._reads_by_record = hasattr(self._sock, "pending")

    @property
    def may_have_more(self) -> bool:
        """More may have come than the last read took."""
        return self._reads_by_record or self.size == READ_BYTES

    def read(self) -> list[Any]:
        """What has come, be it a part of a reply; waits for it. RedisError; OSError where somebody else
        closed the connection."""
        data = self._sock.recv(READ_BYTES)
        if not data:
            raise redis.ConnectionError("Redis closed the connection")
        self.size = len(data)
        self._reader.feed(data)
        found = []
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, ResponseError):
                raise reply
            found.append(reply)
        return found
