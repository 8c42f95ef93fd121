"""When the hub lets messages gather, as network cards do with interrupts.  Pure.

To be woken costs more than to handle a message. Where messages come so often that each would wake the
process, it rests after a read instead of waiting for the next byte, and takes together what came
meanwhile. What comes alone, or slowly, is never held up.
"""

#: Messages that are no further apart than this, on the average of a window, are let gather in the next.
CLOSE_S = 0.00125
WINDOW_S = 0.5
#: For how long, and so how much later one may be: half of a picture of a screen.
REST_S = 0.008


class Moderation:
    """How often the messages of a connection come, and what follows."""

    def __init__(self) -> None:
        #: How long to rest before the next read.
        self.rest_s = 0.0
        #: The window, and how many messages it has had.
        self._since = float("-inf")
        self._messages = 0

    def read(self, messages: int, now: float) -> None:
        """So many had come at `now`."""
        self._messages += messages
        seconds = now - self._since
        if seconds >= WINDOW_S:
            self.rest_s = REST_S if self._messages * CLOSE_S >= seconds else 0.0
            self._since, self._messages = now, 0
