"""Notes of when a key was used: few, and never in the way of a request."""

import threading

from helpers import wait_until

from rankcast.tasks.errors import StoreUnavailable
from rankcast.web.lastused import NOTE_EVERY_S, LastUsed


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Notes:
    """Stands for Redis: what was written there; it fails, or does not answer before it may."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_away = False

    def note(self, key_id: str) -> None:
        self.written.append(key_id)
        self.may_answer.wait(10)
        if self.is_away:
            raise StoreUnavailable("Redis does not answer")


def test_a_key_is_noted_once_a_minute_however_often_it_is_used():
    """And each key for itself."""
    notes, clock = Notes(), Clock()
    last_used = LastUsed(notes, clock)  # type: ignore[arg-type]
    for _ in range(100):
        last_used.note("k1")
    last_used.note("k2")
    wait_until(lambda: len(notes.written) == 2, "two notes")
    clock.now = NOTE_EVERY_S - 1
    last_used.note("k1")
    clock.now = NOTE_EVERY_S
    last_used.note("k1")
    wait_until(lambda: sorted(notes.written) == ["k1", "k1", "k2"], "the note of the next minute")


def test_a_redis_that_does_not_answer_holds_up_nobody(caplog):
    """The note is lost, with a line; the request has gone on long before."""
    caplog.set_level("INFO")
    notes = Notes()
    notes.may_answer.clear()
    notes.is_away = True
    LastUsed(notes).note("k1")  # type: ignore[arg-type]
    notes.may_answer.set()
    wait_until(lambda: "key k1 was not noted" in caplog.text, "a line about it")
