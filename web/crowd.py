"""Viewers of one job whose sockets were taken over: all that stand at one place are written to in one go.

A crowd is one viewer more: it has a cursor and a Reader, which decides what comes next, as for anybody;
what comes it writes to all its sockets. Few of them are written to by whoever brings the news; for many,
or where Redis has to be asked, a greenlet is begun. A socket that does not take all of a write leaves the
crowd: it has a greenlet of its own, and a Reader at its own cursor, and comes back when it has caught up.
So a crowd waits for nobody, and nothing in this file knows what is in a log.
"""

import contextlib
import logging
import time
from typing import Any

import gevent

from rankcast.web import sse
from rankcast.web.admissions import Admissions
from rankcast.web.hub import Viewer
from rankcast.web.keepalives import Keepalives
from rankcast.web.sink import Sink, chunk
from rankcast.web.stream import Place, Reader, Stream, farewell, parts, writes
from rankcast.web.turn import Turn

#: So many sockets are written to before whoever brought the news goes on.
FEW = 8
KEEPALIVE = chunk(sse.KEEPALIVE)

log = logging.getLogger(__name__)


def _is_ahead(place: Place, other: Place) -> bool:
    """Whether who stands at `other` comes by `place`, in the log as both know it."""
    return place[1] == other[1] and place[0] > other[0]


class Crowd:
    """All viewers of a job that stand at the same place, and those on their way there."""

    def __init__(self, crowds: dict[str, "Crowd"], keepalives: Keepalives, stream: Stream) -> None:
        self._crowds = crowds
        self._keepalives = keepalives
        #: The hub's, of all here.
        self.viewer: Viewer = stream.viewer
        #: All of them; the parked stand at `_place`, and in order of their coming.
        self._members: set[Sink] = set()
        self._parked: dict[Sink, None] = {}
        self._arriving: list[Sink] = []
        #: How they were let in.
        self.admissions = Admissions()
        self._place = stream.reader.place
        self._reader: Reader = stream.reader.again(self._place)
        #: Somebody is writing, and looks again afterwards where there may be more to see by then.
        self._is_busy = self._is_stale = False
        self._greenlet: Any = None
        #: When all of them were last sent something, on CLOCK_MONOTONIC.
        self.spoke_at = time.monotonic()
        self._watched_as = keepalives.watch(self)
        stream.viewer.notify = self.look

    def welcome(self, sink: Sink, first: bytes, stream: Stream) -> None:
        """Take the socket of a viewer who has been sent nothing yet: `first`, and all that there is."""
        sink.crowd = self
        self._members.add(sink)
        if stream.viewer is not self.viewer:
            # Not before: it may let others run, and a crowd that the last one leaves is over.
            stream.viewer.leave()
        if sink.place is not None:
            sink.greenlet = gevent.getcurrent()
            self._catch_up(sink, stream.reader, first)

    def lose(self, sink: Sink) -> None:
        """It is closed."""
        self._members.discard(sink)
        self._parked.pop(sink, None)
        if self._members:
            return
        self._close()
        self._keepalives.forget(self._watched_as)
        self.viewer.leave()
        if self._greenlet is not None and self._greenlet is not gevent.getcurrent():
            self._greenlet.kill(block=False)

    def look(self) -> None:
        """There may be more to see, or somebody to let in. Waits for nothing."""
        self._is_stale = True
        if self._is_busy or not (self._parked or self._arriving):
            return
        self._is_busy = True
        try:
            is_done = len(self._parked) + len(self._arriving) <= FEW and self._write_at_hand()
        except Exception:
            self._fail()
            is_done = True
        if is_done:
            self._is_busy = False
        else:
            self._greenlet = gevent.spawn(self._write_all)

    def keep_alive(self) -> None:
        """Nothing was written for a while; also to those who wait to be let in, who try again then."""
        if not self._members:
            self._keepalives.forget(self._watched_as)
            return
        self.spoke_at = time.monotonic()
        if self._is_busy:
            return
        self._is_busy, turn = True, Turn()
        try:
            arriving, self._arriving = self._arriving, []
            for sink in arriving:
                if sink.place is not None:
                    self._move(sink, KEEPALIVE)
                turn.give()
            self._cast(KEEPALIVE, self._place, turn)
        except Exception:
            self._fail()
        self._is_busy = False
        # Redis may be back without a word to this crowd.
        self.look()

    def _write_at_hand(self) -> bool:
        """Write what is in memory, once; False where that is not all, or the end."""
        if self._arriving:
            self._admit()
        self._is_stale = False
        batches = self._reader.at_hand()
        if not batches:
            return batches is not None and not self._reader.is_over
        self._cast(chunk(b"".join([batch.frames for batch in batches])), self._reader.place)
        # Who was ahead, in the middle of a batch, is not now.
        if self._arriving:
            self._admit()
        newest = batches[-1]
        return newest.last == self.viewer.feed.heard and not (newest.has_end or self._is_stale)

    def _write_all(self) -> None:
        """Write what there is, from wherever it is to be had, and the end."""
        try:
            self._is_stale, turn = True, Turn()
            while self._is_stale and not self._reader.is_over:
                self._is_stale = False
                self._admit(turn)
                reader = self._reader
                for part in parts(reader.pending()):
                    self._cast(chunk(part), reader.place, turn)
                    # A job that never pauses never lets this end.
                    self._admit(turn)
                    if self._reader is not reader:
                        break
                self._admit(turn)
            if self._reader.is_over:
                self._close()
                self._admit(turn)
                self._end_parked(turn)
        except Exception:
            self._fail()
        self._greenlet = None
        self._is_busy = False
        if self._is_stale:
            self.look()

    def _fail(self) -> None:
        """What failed would fail again: they have their cursors, and come back."""
        log.exception("writing to the viewers of job %s failed", self.viewer.feed.job_id)
        self._close()
        # Nobody is written to meanwhile; who brought the news does not wait until all are gone.
        self._parked.clear()
        self._arriving.clear()
        gevent.spawn(self._close_all)

    def _close_all(self) -> None:
        turn = Turn()
        for sink in list(self._members):
            sink.close()
            turn.give()

    def _close(self) -> None:
        """Nobody joins it any more."""
        if self._crowds.get(self.viewer.feed.job_id) is self:
            del self._crowds[self.viewer.feed.job_id]

    def _end_parked(self, turn: Turn) -> None:
        for sink in list(self._parked):
            sink.end(farewell() if self._reader.is_leaving else b"")
            turn.give()

    def _cast(self, data: bytes, place: Place, turn: Turn | None = None) -> None:
        """Write to all that are parked; they stand at `place` then. For many it takes a turn."""
        if self._parked:
            self.spoke_at = time.monotonic()
        before, self._place, size = self._place, place, len(data)
        for sink in list(self._parked):
            # Others, who left while somebody else had a turn, stand elsewhere or nowhere.
            if sink.place is before:
                try:
                    written = sink.take(data)
                except OSError:
                    sink.close()
                else:
                    sink.place = place
                    if written < size:
                        self._move(sink, memoryview(data)[written:], is_last=self._reader.is_over)
            if turn is not None:
                turn.give()

    def _admit(self, turn: Turn | None = None) -> None:
        """Park who stands where the crowd stands; who is behind catches up, who is ahead waits for it. For
        many it takes a turn."""
        if (place := self._reader.place) != self._place and place[0] == self._place[0]:
            self._stand_at(place)
        arriving, self._arriving = self._arriving, []
        for sink in arriving:
            if sink.place is not None:
                self._admit_one(sink, sink.place)
            if turn is not None:
                turn.give()

    def _admit_one(self, sink: Sink, place: Place) -> None:
        is_over = self._reader.is_over
        if not self._parked and not is_over:
            self._go_to(place)
        # That a job is gone was told to those who were here, and stands at no place of its log.
        if place == self._place and not (is_over and self.viewer.feed.is_gone):
            self._park(sink)
        elif _is_ahead(place, self._place) and not is_over:
            self._arriving.append(sink)
        else:
            self._move(sink)

    def _go_to(self, place: Place) -> None:
        """Nobody is parked, so nothing is missed."""
        if place != self._place:
            self._place, self._reader = place, self._reader.again(place)
            self._is_stale = True

    def _park(self, sink: Sink) -> None:
        sink.place = self._place
        self._parked[sink] = None

    def _stand_at(self, place: Place) -> None:
        """The same place, by another count: the log was found shorter, but not by what is here."""
        before, self._place = self._place, place
        for sink in self._parked:
            if sink.place is before:
                sink.place = place

    def _move(self, sink: Sink, rest: bytes | memoryview = b"", *, is_last: bool = False) -> None:
        assert sink.place is not None
        self._parked.pop(sink, None)
        if is_last:
            sink.greenlet = gevent.spawn(self._write_last, sink, rest)
        else:
            sink.greenlet = gevent.spawn(self._catch_up, sink, self._reader.again(sink.place), rest)

    def _write_last(self, sink: Sink, rest: bytes | memoryview) -> None:
        """Write `rest`, after which nothing comes."""
        with contextlib.suppress(OSError):
            sink.write(rest)
        sink.end()

    def _catch_up(self, sink: Sink, reader: Reader, rest: bytes | memoryview) -> None:
        """Write `rest`, and what comes after it, at the client's own pace."""
        # What came while the rest was being written was not looked for.
        began, had_rest = sink.place, bool(rest)
        try:
            for part in parts(reader.pending()):
                for piece in writes(part):
                    sink.write(b"".join((rest, chunk(piece))))
                    rest = b""
                sink.place = reader.place
                if sink.is_due:
                    break
            sink.write(rest)
        except Exception as error:
            if not isinstance(error, OSError):
                log.exception("a viewer of job %s could not catch up", self.viewer.feed.job_id)
            sink.close()
            return
        if reader.is_over or sink.is_due:
            sink.end(farewell() if reader.is_leaving or sink.is_due else b"")
        else:
            self._come_back(sink, reader.place, has_moved=had_rest or reader.place != began)

    def _come_back(self, sink: Sink, place: Place, *, has_moved: bool) -> None:
        """It stands at `place`, and has no greenlet any more."""
        if sink.place is None:
            # It was closed while its log was read, and its greenlet had been woken before it was killed.
            return
        sink.greenlet, sink.place = None, place
        if self._parked and place == self._place and not self._is_busy:
            self._park(sink)
            return
        self._arriving.append(sink)
        # Else Redis is away: until there is news, looking again would find the same.
        if has_moved or place == self._place:
            self.look()
