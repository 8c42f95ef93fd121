"""The worker's control channel: subscribed before its first claim, so that no cancel falls between.

It only makes a cancel quick. One that is missed, while the connection was down or nobody had
subscribed yet, comes with the next renewal of the lease.
"""

import logging
import threading
from collections.abc import Callable

import redis

from rankcast.tasks import keys
from rankcast.tasks.connect import connect

#: After so much silence the server is asked whether it still hears us; after twice as much the
#: connection is made anew.
QUIET_S = 5.0
RETRY_S = 0.5

logger = logging.getLogger(__name__)


class ControlChannel:
    """Hears `cancel <job_id>` and passes the id on, from a thread of its own."""

    def __init__(self, redis_url: str, worker_id: str, *, on_cancel: Callable[[str], None]) -> None:
        self._channel = keys.CONTROL(worker_id)
        self._redis = connect(redis_url)
        self._on_cancel = on_cancel
        self._subscribed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rankcast-control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; nothing needs to wait for it."""
        self._stopping.set()

    @property
    def is_subscribed(self) -> bool:
        """Whether it ever was: from then on cancels come, here or with the next renewal."""
        return self._subscribed.is_set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                logger.warning("control channel waits for Redis: %s", error)
            except Exception:
                logger.exception("control channel failed")
            self._stopping.wait(RETRY_S)

    def _listen(self) -> None:
        is_asked = False
        with self._redis.pubsub() as pubsub:  # type: ignore[no-untyped-call]
            pubsub.subscribe(self._channel)
            while not self._stopping.is_set():
                message = pubsub.get_message(timeout=QUIET_S)
                if message is None and is_asked:
                    raise redis.TimeoutError("no answer to a ping")
                if message is None:
                    pubsub.ping()
                elif message["type"] == "subscribe":
                    self._subscribed.set()
                elif message["type"] == "message":
                    self._hear(message["data"].decode())
                is_asked = message is None

    def _hear(self, text: str) -> None:
        word, _, job_id = text.partition(" ")
        if word == "cancel":
            self._on_cancel(job_id)
        else:
            # A newer web tier may know words that this worker does not.
            logger.debug("control channel: unknown word %r", word)
