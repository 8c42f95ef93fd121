"""When the hub lets messages gather, as network cards do with interrupts.  Pure.

To be woken costs more than to handle a message. Where messages come so often that each would wake the
process, it rests after a read instead of waiting for the next byte, and takes together what came
meanwhile. What comes alone, or slowly, is never held up.
"""

#: Messages that are no further apart than this, on the average, are let gather.
CLOSE_S = 0.002
#: For how long, and so how much later one may be: half of a picture of a screen.
REST_S = 0.008
#: The average goes by the newest reads: so much of it is the last one.
SHARE = 1 / 8
#: A silence that says all of how quiet it is.
SILENCE_S = 1.0


class Moderation:
    """How far apart the messages of a connection are, and what follows."""

    def __init__(self) -> None:
        self._apart_s = SILENCE_S
        self._read_at = float("-inf")

    def read(self, messages: int, now: float) -> None:
        """So many had come at `now`."""
        apart_s = min(now - self._read_at, SILENCE_S) / max(messages, 1)
        self._apart_s += (apart_s - self._apart_s) * SHARE
        self._read_at = now

    @property
    def rest_s(self) -> float:
        """How long to rest before the next read."""
        return REST_S if self._apart_s <= CLOSE_S else 0.0
