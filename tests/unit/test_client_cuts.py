"""Exactly once, whatever is cut where: bytes of a stream, one cursor, and nothing else remembered."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankcast.blocking import iterate
from rankcast.errors import ConnectionLost
from rankcast.follow import Patience, follow
from rankcast.over_http import AnswerMessages
from rankcast.sse import Message
from rankcast.tasks.event import Event, EventId, gap
from rankcast.tasks.live import frame
from rankcast.web import sse

TEXTS = st.lists(st.text(max_size=30), max_size=6)
#: After how many bytes each connection breaks, and whether it looks like an orderly end; after these
#: it holds. Chunks are as TCP makes them.
CUTS = st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=8)


class Wire:
    """Serves a log as the web tier does, from the cursor that a connection names, and cuts."""

    def __init__(self, texts: list[str], cuts: list[tuple[int, bool]], chunk: int, trimmed: int) -> None:
        data = [json.dumps(text, ensure_ascii=False).encode() for text in texts]
        kinds = ["" for _ in data] + ["end"]
        self.log = [
            Event(EventId(1, n), EventId(1, n - 1), kind, text)
            for n, (kind, text) in enumerate(zip(kinds, [*data, b"{}"], strict=True), start=1)
        ]
        self.trimmed = min(trimmed, len(texts))
        self._cuts = iter(cuts)
        self._chunk = chunk

    def frames(self, cursor: str | None) -> bytes:
        seen = 0 if cursor is None else EventId.parse(cursor).seq
        told = []
        if seen < self.trimmed:
            told.append(gap(EventId(1, seen), EventId(1, self.trimmed)))
            seen = self.trimmed
        return b"retry: 1\n" + b"".join(map(frame, [*told, *self.log[seen:]])) + sse.KEEPALIVE

    @asynccontextmanager
    async def connect(self, cursor: str | None, timeout_s: float | None) -> AsyncIterator[AnswerMessages]:
        yield AnswerMessages(Answer(self.frames(cursor), next(self._cuts, None), self._chunk))


class Answer:
    """A body in chunks, up to its cut."""

    status_code = 200
    headers = httpx.Headers()

    def __init__(self, body: bytes, cut: tuple[int, bool] | None, chunk: int) -> None:
        self._rest, self._is_orderly = (body, True) if cut is None else (body[: cut[0]], cut[1])
        self._chunk = chunk

    async def chunk(self) -> bytes:
        chunk, self._rest = self._rest[: self._chunk], self._rest[self._chunk :]
        if not chunk and not self._is_orderly:
            raise ConnectionLost("cut")
        return chunk

    async def close(self) -> None: ...


async def no_time(seconds: float) -> None: ...


def in_sync(wire: Wire) -> list[Message]:
    return list(iterate(follow(wire.connect, patience=Patience(sleep=no_time))))


def in_async(wire: Wire) -> list[Message]:
    async def read() -> list[Message]:
        return [message async for message in follow(wire.connect, patience=Patience(sleep=no_time))]

    return asyncio.run(read())


@pytest.mark.parametrize("read", [in_sync, in_async])
@given(texts=TEXTS, cuts=CUTS, chunk=st.integers(1, 50), trimmed=st.integers(0, 3))
def test_wherever_a_stream_is_cut_each_event_is_had_once_and_in_order(
    read: Callable[[Wire], list[Message]],
    texts: list[str],
    cuts: list[tuple[int, bool]],
    chunk: int,
    trimmed: int,
):
    """Inside a character, an id, between two newlines, before anything; and a gap is told once."""
    wire = Wire(texts, cuts, chunk, trimmed)
    told = read(wire)
    gaps = [message for message in told if message.kind == "gap"]
    assert [message.id for message in gaps] == ([f"1-{wire.trimmed}"] if wire.trimmed else [])
    events = [message for message in told if message.kind != "gap"]
    assert events == [Message(str(e.id), e.kind, e.data or b"") for e in wire.log[wire.trimmed :]]
