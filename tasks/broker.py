"""Step 3. kombu's Redis transport as wake-ups need it, in processes of our own: workers and web tier."""

from typing import Any

from kombu.transport.redis import Channel, Transport


class WakeUpChannel(Channel):
    """One that gives nothing back, and that makes no client for each command."""

    #: At the end of a connection kombu would send again what was read and not answered. That asks a Redis
    #: that has just gone away; a worker with both a running job and a free slot ended of it (kombu 5.7).
    do_restore = False

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Called for each wake-up that is sent, and to make one takes as long as to send it. The one for
        `asynchronous` kombu keeps by itself."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
        # Another pool came with another connection.
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[no-untyped-call]
        return self._kept


def repair() -> None:
    """For all connections to a broker that this process makes from now on."""
    Transport.Channel = WakeUpChannel
