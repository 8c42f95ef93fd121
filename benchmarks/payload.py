"""The events that every contender sends, and the judge of what arrived.

Knows nothing of the way between the two ends: standard library only, because it runs in ranks, in
readers and inside the peers' own environments.

An event is `{"n", "at_ns", "body", "sum"}`: its number from 0, CLOCK_MONOTONIC when it was handed
over (0 where only the rate is measured), 64 characters made from its number, and a hash of the
three. About 140 bytes of JSON.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

Event = dict[str, Any]


def make_event(n: int, at_ns: int = 0) -> Event:
    """Event number `n`, handed over at `at_ns` of CLOCK_MONOTONIC."""
    body = f"{n:016x}" * 4
    return {"n": n, "at_ns": at_ns, "body": body, "sum": content_hash(n, at_ns, body)}


def content_hash(n: int, at_ns: int, body: str) -> str:
    return hashlib.blake2b(f"{n}.{at_ns}.{body}".encode(), digest_size=8).hexdigest()


def play_paced(
    emit: Callable[[Event], None], *, count: int, first: int = 0, every_s: float = 0.0, linger_s: float = 0.0
) -> None:
    """Hand over `count` stamped events, one each `every_s`, then stay `linger_s` before returning.

    The stay is for peers that forward events only while the call runs.
    """
    due = time.monotonic()
    for n in range(first, first + count):
        emit(make_event(n, time.monotonic_ns()))
        due += every_s
        time.sleep(max(0.0, due - time.monotonic()))
    time.sleep(linger_s)


def play_burst(emit: Callable[[Event], None], *, count: int) -> int:
    """Hand over `count` events as fast as `emit` takes them; CLOCK_MONOTONIC of the first, in ns.

    They are made beforehand: what is measured is the way, not the hashing.
    """
    events = [make_event(n) for n in range(count)]
    began_ns = time.monotonic_ns()
    for event in events:
        emit(event)
    return began_ns


def fault_of(events: Sequence[Any], count: int, first: int = 0) -> str | None:
    """What is wrong with a transcript of `count` events from number `first`; None if nothing is."""
    altered = sum(not is_whole(event) for event in events)
    if altered:
        return f"{altered:,} of {len(events):,} events altered"
    numbers = [event["n"] for event in events]
    distinct = set(numbers)
    received = len(distinct & set(range(first, first + count)))
    faults = []
    if received < count:
        faults.append(f"received {received:,} of {count:,}")
    if foreign := len(distinct) - received:
        faults.append(f"{foreign:,} of another call")
    if doubled := len(numbers) - len(distinct):
        faults.append(f"{doubled:,} doubled")
    if numbers != sorted(numbers):
        faults.append("out of order")
    return ", ".join(faults) or None


def is_whole(event: Any) -> bool:
    """Whether this is an event and its content is what was sent."""
    try:
        return bool(event["sum"] == content_hash(event["n"], event["at_ns"], event["body"]))
    except (KeyError, TypeError):
        return False
