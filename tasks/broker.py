"""Step 3. Two repairs of kombu's Redis transport, for processes that are ours alone: workers, web tier."""

from typing import Any

import redis
from kombu.transport.redis import Channel, Transport


class SoundChannel(Channel):
    """One over which a worker waits where it would end, and that makes no client for each command.

    When Redis goes away under a worker that has both a running job and a free slot, kombu closes the
    connection twice; the second time it wants the messages restored over what it has just let go of, and
    that is an AttributeError, which Celery takes for its end (kombu 5.7). The same goes for a late
    acknowledgement. Said as what it is, a lost connection, Celery reconnects as it always does.
    """

    _kept: Any = None

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection.client is None:
            raise redis.ConnectionError("this connection was closed")
        return super()._connparams(asynchronous)  # type: ignore[no-untyped-call]

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Called for each wake-up that is sent, read or acknowledged, and to make one takes as long as to
        send it. The one for `asynchronous` kombu keeps by itself."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
        # Another pool came with another connection.
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[no-untyped-call]
        return self._kept


def repair() -> None:
    """For all connections to a broker that this process makes from now on."""
    Transport.Channel = SoundChannel
