"""Following a job over connections that break; the connections here are scripts of what happens."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from rankcast.blocking import iterate, run
from rankcast.errors import ConnectionLost, ServerUnreachable, StoreUnavailable, UnknownJob
from rankcast.follow import MAX_QUIET_S, Patience, follow, follow_pages, persist
from rankcast.sse import Message
from rankcast.transport import LogLine, LogPage

END = Message("1-9", "end", b"{}")


def event(n: int) -> Message:
    return Message(f"1-{n}", "", b"%d" % n)


class Script:
    """The messages of one connection; a number is a `retry:` line, an exception the break."""

    def __init__(self, what: list[Message | int | Exception]) -> None:
        self._what = iter(what)
        self.retry_ms: int | None = None

    async def read(self) -> Sequence[Message]:
        for item in self._what:
            if isinstance(item, Exception):
                raise item
            if not isinstance(item, int):
                return [item]
            self.retry_ms = item
        return ()


class Line:
    """Connections that bring what they are told to, and remember which cursor they were asked for."""

    def __init__(self, *connections: list[Message | int | Exception] | Exception | None) -> None:
        self.connections = list(connections)
        self.cursors: list[str | None] = []
        self.pauses: list[float] = []
        self.now = 0.0

    def patience(self, **limits: float) -> Patience:
        return Patience(sleep=self.sleep, clock=lambda: self.now, jitter=lambda _, most: most, **limits)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def follow(self, cursor: str | None = None, **limits: float) -> list[Message]:
        return list(iterate(follow(self.connect, cursor=cursor, patience=self.patience(**limits))))

    @asynccontextmanager
    async def connect(self, cursor: str | None, timeout_s: float | None) -> AsyncIterator[Script | None]:
        self.cursors.append(cursor)
        what = self.connections.pop(0) if len(self.connections) > 1 else self.connections[0]
        if isinstance(what, Exception):
            raise what
        yield None if what is None else Script(what)


LOST = ConnectionLost("cut")
REFUSED = ServerUnreachable("http://x", "refused")


def test_each_new_connection_names_the_last_event_that_was_given():
    """One cursor is all there is to remember, and it is the caller's, not the connection's."""
    line = Line([event(1), LOST], LOST, [event(2), event(3), LOST], [END])
    assert line.follow() == [event(1), event(2), event(3), END]
    assert line.cursors == [None, "1-1", "1-1", "1-3"]


def test_a_stream_that_closes_in_order_before_the_end_is_resumed_too():
    """A server that is being replaced closes its streams cleanly; only `end` is the end."""
    line = Line([event(1)], [], [END])
    assert line.follow() == [event(1), END]


def test_nothing_is_read_behind_the_end_event():
    """The connection is let go at once, even where the server would hold it open."""
    line = Line([END, RuntimeError("read on")])
    assert line.follow() == [END]


def test_a_cursor_at_the_end_gives_nothing():
    """The server says 204 to a cursor that has seen it all."""
    assert Line(None).follow("1-9") == []


def test_a_break_before_the_first_event_keeps_the_cursor_that_was_given():
    """A second drop before anything arrived must not fall back to the start."""
    line = Line([LOST], [LOST], [END])
    line.follow("1-5")
    assert line.cursors == ["1-5", "1-5", "1-5"]


def test_a_refused_first_connection_is_told_at_once():
    """Most likely nothing runs there: waiting would hide it."""
    line = Line(REFUSED)
    with pytest.raises(ServerUnreachable, match="rankcast up"):
        line.follow()
    assert line.pauses == []


def test_a_connection_refused_later_is_a_restart_and_is_waited_for():
    """A web process that is replaced refuses for a moment."""
    line = Line([event(1), LOST], REFUSED, REFUSED, StoreUnavailable("Redis is away"), [END])
    assert line.follow() == [event(1), END]


def test_what_no_later_try_can_heal_is_raised_as_it_comes():
    """A job that is gone stays gone."""
    line = Line([event(1), LOST], UnknownJob("x"))
    with pytest.raises(UnknownJob):
        line.follow()


def test_pauses_double_and_are_short_again_once_something_arrived():
    """Exponential back-off, capped, reset by an event."""
    line = Line(LOST, LOST, LOST, [event(1), LOST], [END])
    line.follow()
    assert line.pauses == [0.1, 0.2, 0.4, 0.1]


def test_the_pause_is_never_under_what_the_server_asked_for():
    """`retry:` is how a server spreads its clients before it goes."""
    line = Line([event(1), 2000], LOST, [1000, LOST], [END])
    line.follow()
    assert line.pauses == [2.1, 2.2, 1.4]


def test_it_gives_up_when_no_connection_stood_for_as_long_as_its_patience():
    """For ever would be a hang; a connection that stands starts the count anew."""
    line = Line(LOST, LOST, [LOST], LOST)
    with pytest.raises(ConnectionLost):
        line.follow(patience_s=60.0)
    assert 60.0 < line.now < 60.0 + 2 * 10.0


def test_a_deadline_ends_the_waiting_in_the_middle_of_a_pause():
    """`Job.result(timeout_s=)` is kept while the server is away, too."""
    line = Line(LOST)
    with pytest.raises(TimeoutError):
        line.follow(deadline=5.0)
    assert line.now == pytest.approx(5.0)


def test_a_plain_call_is_made_again_while_its_failures_may_pass():
    """The outcome is asked for right after the end event, when the server may just be restarting."""
    answers: list[Exception | int] = [StoreUnavailable("away"), LOST, 7]

    async def call(timeout_s: float | None) -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert run(persist(call, Line([]).patience())) == 7


def test_a_call_is_made_once_though_there_is_no_time_to_wait():
    """`result(timeout_s=0)` of a job that has ended is its output."""
    asked: list[float | None] = []

    async def call(timeout_s: float | None) -> int:
        asked.append(timeout_s)
        return 7

    assert run(persist(call, Line([]).patience(deadline=0.0))) == 7
    assert asked == [1.0]


class Pages:
    """Pages of printed lines, one an ask; remembers the cursors that it was asked for."""

    def __init__(self, *pages: LogPage | Exception) -> None:
        self.pages = list(pages)
        self.cursors: list[str | None] = []

    async def read(self, cursor: str | None, timeout_s: float | None) -> LogPage:
        self.cursors.append(cursor)
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page

    def follow(self, line: Line) -> list[str]:
        pages = iterate(follow_pages(self.read, line.patience()))
        return [each.text for page in pages for each in page.lines]


def page(cursor: str, *texts: str, has_ended: bool = False) -> LogPage:
    return LogPage([LogLine(0, "gpu-1", "stdout", text, 1) for text in texts], cursor, has_ended)


def test_printed_lines_are_read_on_behind_the_last_one_until_the_job_has_ended():
    """The page that first tells of the end may be full: what is behind it is read, too."""
    pages = Pages(page("1", "a", "b"), page("2", "c", has_ended=True), page("2", has_ended=True))
    assert pages.follow(Line()) == ["a", "b", "c"]
    assert pages.cursors == [None, "1", "2"]


def test_a_silent_job_is_looked_at_seldom_and_a_talking_one_soon_again():
    """Pauses double up to their bound, and begin anew with each line."""
    line = Line()
    silent = [page("0-0")] * 6
    Pages(*silent, page("1", "a"), page("1"), page("1", has_ended=True)).follow(line)
    assert line.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, MAX_QUIET_S, 0.1, 0.2]


def test_a_break_while_lines_are_followed_repeats_none_and_loses_none():
    """The same cursor is asked for again."""
    pages = Pages(page("1", "a"), LOST, StoreUnavailable("away"), page("2", "b"), page("2", has_ended=True))
    assert pages.follow(Line()) == ["a", "b"]
    assert pages.cursors == [None, "1", "1", "1", "2"]


def test_a_coroutine_that_waits_cannot_run_over_blocking_io():
    """It would never go on; better to be told."""

    class Wait:
        def __await__(self):
            yield

    async def waits() -> None:
        await Wait()

    with pytest.raises(RuntimeError, match="must not wait"):
        run(waits())
