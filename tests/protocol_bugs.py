"""Rules of the protocol, each to be taken away: `with without("redo"): ...`. Whoever claims to test the
protocol must notice."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from rankcast.tasks import connect, redo
from rankcast.tasks.event import EventId
from rankcast.tasks.live import Batch
from rankcast.web.feed import Feed
from rankcast.web.tail import Tail


def _kept_but(*names: str) -> Callable[..., Any]:
    keep = redo._again
    return lambda name, args, reply: None if name in names else keep(name, args, reply)


def _after_by_number(batch: Batch, cursor: EventId) -> Batch | None:
    later = [event for event in batch.events if event.id > cursor]
    return Batch.of(later) if later else None


def _add_by_number(tail: Tail, batch: Batch) -> None:
    if tail.heard is None or batch.last > tail.heard:
        tail.heard = batch.last
        tail._batches.append(batch)


#: Rule → what the scripts say instead: (text, other text).
_EDITS: dict[str, Sequence[tuple[str, str]]] = {
    "contiguity": [
        (
            "if first > last + 1 then return {'BEHIND', last} end",
            "if first > last + 1 then last = first - 1 end",
        )
    ],
    "a fence that never comes back": [
        ("or fresh_fence(job, now)\n", "or digits(job.attempt + 1)\n"),
        ("fresh_fence(job, now) .. '-1'", "next_id(job.last)"),
    ],
    "a state that is asked for": [
        (
            "if not is_claimed(job) or not owns(job, fence, token) then\n  -- F",
            "if not owns(job, fence, token) then\n  -- F",
        )
    ],
    "grace": [("return now >= tonumber(grace or 0)", "return true")],
    "time to settle": [("return met and now < met + SETTLE_MS", "return false and met")],
    "a job that is missing is not gone": [("(not job.created or ", "(job.created and ")],
    "a give-back that finds itself done": [("if given and given.c == token then", "if false then")],
    "another's give-back is not one's own": [("if given and given.c == token then", "if given then")],
    "a place for each move": [("place ~= '' and job.last ~= place or", "")],
    "a fence for whoever ends a job": [("fresh_fence(job, now) .. '-1'", "next_id(job.last)")],
}  # fmt: skip

#: Rule → what Python does instead: (owner, name, other value).
_SWAPS: dict[str, Sequence[tuple[Any, str, Any]]] = {
    "redo": [(redo, "_again", lambda name, args, reply: None)],
    "events in the redo": [(redo, "_again", _kept_but("append"))],
    "a second try": [(redo.RedoBuffer, "settle", lambda buffer, client: None)],
    "prev": [(Batch, "after", _after_by_number), (Tail, "add", _add_by_number)],
    "comparing with the record": [(Feed, "compare", lambda feed, furthest, position: None)],
}

RULES = (*_EDITS, *_SWAPS)


@contextmanager
def without(rule: str) -> Iterator[None]:
    """Meanwhile that rule does not hold."""
    with ExitStack() as stack:
        for owner, name, value in _SWAPS.get(rule, ()):
            stack.enter_context(patch.object(owner, name, value))
        if rule in _EDITS:
            stack.enter_context(patch.object(connect, "_source", _edited(_EDITS[rule])))
        yield


def _edited(edits: Sequence[tuple[str, str]]) -> Callable[[str, bool], Any]:
    read = connect._source
    every = "".join(read(name, False).text for name in ("append", "claim", "release"))
    missing = [text for text, _ in edits if text not in every]
    assert not missing, f"the scripts do not say {missing} any more"

    def source(name: str, has_shebang: bool) -> Any:
        text = read(name, has_shebang).text
        for old, new in edits:
            text = text.replace(old, new)
        return connect._Source(text, f"{hash(text):x}")

    return source
