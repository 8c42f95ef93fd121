"""Step 4. One repair of kombu's Redis transport, without which a worker ends where it should wait.

When Redis goes away under a worker that has both a running job and a free slot, kombu closes the
connection twice; the second time it wants the messages restored over what it has just let go of, and
that is an AttributeError, which Celery takes for its end (kombu 5.7). The same goes for a late
acknowledgement. Said as what it is, a lost connection, Celery reconnects as it always does.
"""

from typing import Any

import redis
from kombu.transport.redis import Channel, Transport


class SoundChannel(Channel):
    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection.client is None:
            raise redis.ConnectionError("this connection was closed")
        return super()._connparams(asynchronous)  # type: ignore[no-untyped-call]


def repair() -> None:
    """For all connections to a broker that this process makes from now on."""
    Transport.Channel = SoundChannel
