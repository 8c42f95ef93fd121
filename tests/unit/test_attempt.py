"""The rules of an attempt that need neither Redis nor a group."""

import threading

import pytest

from rankcast.gpu_worker.attempt import insist
from rankcast.tasks.errors import StaleAttempt, StoreUnavailable


class Away:
    """A Redis that does not answer the first `times` calls."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> str:
        if self.left:
            self.left -= 1
            raise StoreUnavailable("away")
        return "answer"


def test_an_attempt_asks_until_redis_answers():
    """What it has to tell is never given up while the worker lives."""
    assert insist(Away(times=3), give_up=threading.Event()) == "answer"


def test_a_worker_that_must_go_asks_no_more():
    """Its lease runs out, and the sweep gives the job to another."""
    leaving = threading.Event()
    leaving.set()
    with pytest.raises(StoreUnavailable):
        insist(Away(times=3), give_up=leaving)


def test_a_refusal_is_no_outage():
    """Asking again would not make a stale attempt fresh."""

    def refused() -> None:
        raise StaleAttempt("over")

    with pytest.raises(StaleAttempt):
        insist(refused, give_up=threading.Event())
