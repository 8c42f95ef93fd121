"""Somebody who watches a job while a test goes on; `from watcher import Watcher`."""

import threading

from helpers import wait_until

from rankcast import Event, Job


class Watcher:
    """Reads a stream in a thread of its own."""

    def __init__(self, job: Job, last_event_id: str | None = None) -> None:
        self.events: list[Event] = []
        self.error: Exception | None = None
        self._stream = job.stream(last_event_id)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for event in self._stream:
                self.events.append(event)
        except Exception as error:
            self.error = error

    def has(self, count: int) -> None:
        wait_until(lambda: len(self.events) >= count, f"{count} events at the watcher", timeout_s=60)

    def to_end(self) -> list[Event]:
        self._thread.join(60)
        assert not self._thread.is_alive(), f"still waiting after {self.events[-3:]}"
        if self.error is not None:
            raise self.error
        return self.events
