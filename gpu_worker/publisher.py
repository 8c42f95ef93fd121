"""Step 6. Rank 0's way to the event log: a bounded buffer, and one thread that empties it. Large images and
tensors are encoded by that thread as well, so that user code does not wait for it.

Between claim and finish this is the only thing that numbers the job's events: the claim wrote 1,
`begin` takes 2 for the `state` event, user code gets the rest. What the log has taken is kept for a
while: Redis may restart without its last seconds, the log then says that it is behind, and is told
again. Redis being away blocks nobody until the buffer is full; then it blocks the caller, because
nothing is dropped. Between batches it rests where events come more quickly than anybody could see them
(pace.py), and small ones are then left in an inbox, with no lock and no number yet (inbox.py).
"""

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from rankcast.gpu_worker.batch import Batch, Heavy, next_of
from rankcast.gpu_worker.inbox import Inbox
from rankcast.gpu_worker.messages import Call
from rankcast.gpu_worker.moments import FIRST_EVENT, PUBLISHED, Marks
from rankcast.gpu_worker.pace import REST_S
from rankcast.gpu_worker.payload import MAX_HELD_BYTES, Draft, encode
from rankcast.gpu_worker.progress import Progress, Said, progress_of
from rankcast.gpu_worker.taken import Taken
from rankcast.tasks.errors import Behind, StaleAttempt, StoreUnavailable, UnknownJob
from rankcast.tasks.event import CHECKPOINT, RESULT, STATE
from rankcast.tasks.eventlog import BATCH_BYTES, BATCH_EVENTS, Appended
from rankcast.tasks.state import JobState

MAX_BUFFERED_BYTES = 64 * 1024 * 1024
#: Most that several events together leave to be encoded: below a second of it.
MAX_DRAFT_BYTES = 8 * 1024 * 1024
#: Redis may forget about two seconds when it is killed: it puts writes off while its disk is slow.
KEEP_S = 5.0
#: How long the event that a call runs waits for user code's first: most have one by then, and both go as one.
HOLD_S = 0.001
#: Between two tries to reach Redis.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0
OVER = "the job that this belongs to is over"


class Log(Protocol):
    """Where events go: tasks.eventlog.EventLog."""

    def append(
        self,
        *,
        job_id: str,
        fence: int,
        token: str,
        first: int,
        events: Sequence[tuple[str, bytes]],
        progress: bytes | None = None,
    ) -> Appended: ...


class Publisher:
    """Sends one job's events after the other's. `put` and `cast` from any thread; the rest from one."""

    def __init__(
        self,
        log: Log,
        *,
        on_cancel: Callable[[str], None] = lambda job_id: None,
        held: AbstractContextManager[None] | None = None,
        max_bytes: int = MAX_BUFFERED_BYTES,
        keep_s: float = KEEP_S,
        rest_s: float = REST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._on_cancel = on_cancel
        #: Entered while a caller waits for room.
        self._held = nullcontext() if held is None else held
        self._max_bytes = max_bytes
        self._keep_s = keep_s
        self._rest_s = rest_s
        self._clock = clock
        self._lock = threading.Lock()
        #: Something was taken by the log, or everything is lost.
        self._taken = threading.Condition(self._lock)
        #: Wakes the sending thread, while that sleeps: there is something to send, or to stop for. All of it
        #: is C, because the thread that computes rings it for each event.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._is_asleep = False
        self._closed = threading.Event()
        #: Open from when it begins to rest until anybody looks for what waits.
        self._inbox = Inbox()
        self._forget()
        self._thread = threading.Thread(target=self._send_all, name="rankcast-publisher", daemon=True)
        self._thread.start()

    def _forget(self) -> None:
        self._inbox.close()
        self._call: Call | None = None
        self._lost: Exception | None = None
        self._progress: Progress | None = None
        #: Not in the log yet, from event `_acked + 1`.
        self._waiting: deque[tuple[str, bytes | Draft]] = deque()
        self._waiting_bytes = 0
        #: Of them, what is still to be encoded.
        self._draft_bytes = 0
        #: Nothing is sent before, on CLOCK_MONOTONIC; 0 while nothing is held back.
        self._held_until = 0.0
        #: Nothing is sent before, unless it is a whole batch; on CLOCK_MONOTONIC.
        self._rests_until = 0.0
        #: Somebody waits until the log has this event.
        self._awaited = 0
        self._acked = 1
        #: In the log, up to event `_acked`.
        self._kept = Taken()
        #: Of user code's first event.
        self.marks: Marks = {}

    def begin(self, call: Call) -> None:
        """Publish for this call from now on, and tell that it runs, and from where."""
        told: dict[str, Any] = {"state": JobState.RUNNING.value, "attempt": call.attempt}
        if call.resumes_from is not None:
            told["resumes_from"] = call.resumes_from
        if call.notice is not None:
            told["message"] = call.notice
        event = encode(told)
        with self._lock:
            self._forget()
            self._call = call
            self._add(event, None, STATE)
            self._held_until = time.monotonic() + HOLD_S
            self._ring()

    def put(
        self,
        data: bytes | Draft,
        progress: Progress | None = None,
        *,
        kind: str = RESULT,
        only_for: Call | None = None,
    ) -> int:
        """Give the event the next number, which is returned, and send it soon; blocks while the buffer
        is full. A draft is finished by the sending thread; if that fails, the next call here raises why.

        StaleAttempt once the job belongs to somebody else; RuntimeError unless a call runs, and that
        is the one it is `only_for`.
        """
        size = data.size if isinstance(data, Draft) else len(data)
        with self._lock:
            self._empty_inbox()
            if self._waiting and self._waiting_bytes + size > self._max_bytes:
                self._wait_for_room(size)
            if self._lost is not None:
                raise _as_told(self._lost)
            if self._call is None:
                raise RuntimeError("no job runs")
            if only_for not in (self._call, None):
                raise RuntimeError(OVER)
            self._add(data, progress, kind)
            number = self._acked + len(self._waiting)
            if not self._is_resting(time.monotonic()):
                self._send_now()
        return number

    def cast(self, event: bytes, said: Said | None, call: Call) -> None:
        """As `put` for this call, at a fraction of the work while it rests: nobody asks for the number."""
        if not self._inbox.put(call, event, said):
            self.put(event, progress_of(said), only_for=call)
        elif not self._inbox.is_open(call):
            # It may have been emptied in between.
            with self._lock:
                self._hurry()

    def _add(self, data: bytes | Draft, progress: Progress | None, kind: str = RESULT) -> None:
        """Under the lock."""
        self._waiting.append((kind, data))
        if isinstance(data, Draft):
            self._draft_bytes += data.size
            self._waiting_bytes += data.size
        else:
            self._waiting_bytes += len(data)
        if progress is not None:
            self._progress = progress
        if kind == RESULT and FIRST_EVENT not in self.marks:
            self.marks[FIRST_EVENT] = time.monotonic_ns()

    def _empty_inbox(self) -> None:
        """Under the lock. Closed first: who puts into it looks whether it is, behind himself."""
        self._inbox.close()
        for event, said in self._inbox.take(self._call):
            self._add(event, progress_of(said))

    @property
    def room_for_draft(self) -> int:
        """How many bytes the next draft may hold: the first as many as it needs, others a few.

        The end of a call, and what is behind them, waits until they are encoded.
        """
        with self._lock:
            return MAX_HELD_BYTES if not self._draft_bytes else max(0, MAX_DRAFT_BYTES - self._draft_bytes)

    @property
    def acknowledged(self) -> int:
        """The number of the last event that the log has."""
        with self._lock:
            return self._acked

    def announce(self, call: Call, path: str, about: Mapping[str, Any]) -> None:
        """Put the event of a checkpoint of `call`, and wait until the log has it. Errors as for `put`:
        a file may take so long to write that another job runs by now."""
        told = encode({"path": path, "attempt": call.attempt, **about})
        number = self.put(told, kind=CHECKPOINT, only_for=call)
        with self._lock:
            self._hurry()
            self._taken.wait_for(lambda: self._acked >= number or self._lost or self._call != call)
            if self._call != call:
                raise RuntimeError(OVER)
            if self._lost is not None:
                raise _as_told(self._lost)

    def flush(self) -> int:
        """Wait until the log has every event; the number of the last. StaleAttempt as for `put`."""
        with self._lock:
            self._hurry()
            self._taken.wait_for(lambda: not self._waiting or self._lost)
            if self._lost is not None:
                raise _as_told(self._lost)
            return self._acked

    def settle(self) -> None:
        """Wait until the log has what was put before this, or takes nothing of this call any more."""
        with self._lock:
            call, last = self._call, self._hurry()
            self._taken.wait_for(lambda: self._acked >= last or self._lost or self._call != call)

    def end(self) -> None:
        """Let go of the job; what is still in the buffer is dropped."""
        with self._lock:
            self._forget()
            self._taken.notify_all()

    def close(self) -> None:
        """End the thread. What is in the buffer is dropped."""
        with self._lock:
            self._closed.set()
            self._ring()
        self._thread.join()

    def _hurry(self) -> int:
        """Send all that was put until now, without a rest; the number of the last. Under the lock."""
        self._empty_inbox()
        self._awaited = self._acked + len(self._waiting)
        self._send_now()
        return self._awaited

    def _send_now(self) -> None:
        """Under the lock."""
        self._held_until = self._rests_until = 0.0
        self._ring()

    def _is_resting(self, now: float) -> bool:
        """Until a whole batch waits. Under the lock."""
        return now < self._rests_until and not self._has_batch()

    def _has_batch(self, share: float = 1.0) -> bool:
        return len(self._waiting) >= share * BATCH_EVENTS or self._waiting_bytes >= share * BATCH_BYTES

    def _ring(self) -> None:
        """Under the lock."""
        if self._is_asleep:
            self._is_asleep = False
            self._bell.put(None)

    def _wait_for_room(self, size: int) -> None:
        self._send_now()
        waiting = self._waiting_bytes // (1024 * 1024)
        print(
            f"rankcast: {waiting} MiB of events wait for Redis; add_streaming_result blocks meanwhile",
            file=sys.stderr,
            flush=True,
        )
        with self._held:
            self._taken.wait_for(
                lambda: not self._waiting or self._waiting_bytes + size <= self._max_bytes or self._lost
            )

    # The sending thread

    def _send_all(self) -> None:
        pause_s = FIRST_PAUSE_S
        while (work := self._next()) is not None:
            try:
                if isinstance(work, Heavy):
                    self._finish(work)
                    continue
                self._send(work)
                pause_s = FIRST_PAUSE_S
            except StoreUnavailable:
                self._closed.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except Exception as error:
                # StaleAttempt, UnknownJob, and what nobody thought of: the caller must hear of it.
                self._lose(work.call, error)

    def _next(self) -> Batch | Heavy | None:
        """Wait for something to send, or to be finished first; None when closed."""
        while True:
            with self._lock:
                wait_s = self._patience_s()
                if wait_s == 0.0:
                    self._is_asleep = False
                    return self._work()
                self._is_asleep = True
            with contextlib.suppress(Empty):
                self._bell.get(timeout=wait_s)

    def _patience_s(self) -> float | None:
        """How long to wait unless it is rung for: 0 where something is to be done, None for however long. Who
        rests is not rung for; who does not, as of one look at the clock, has emptied the inbox."""
        now = time.monotonic()
        if self._is_resting(now) and not self._closed.is_set():
            return self._rests_until - now
        self._empty_inbox()
        return max(0.0, self._held_until - now) if self._has_work() else None

    def _has_work(self) -> bool:
        return self._closed.is_set() or bool(self._waiting and self._lost is None)

    def _work(self) -> Batch | Heavy | None:
        if self._closed.is_set() or self._call is None:
            return None
        return next_of(self._call, self._acked + 1, self._waiting, self._progress)

    def _finish(self, heavy: Heavy) -> None:
        try:
            data = heavy.draft.finish()
        except Exception:
            if heavy.place > 0:
                # Not before those in front of it are sent: then it fails again.
                return
            raise
        with self._lock:
            is_over = self._call is not heavy.call
            if not is_over:
                self._waiting[heavy.place] = (heavy.kind, data)
                self._waiting_bytes += len(data) - heavy.draft.size
                self._draft_bytes -= heavy.draft.size
                self._taken.notify_all()
        if is_over:
            heavy.draft.drop()

    def _send(self, batch: Batch) -> None:
        call = batch.call
        try:
            told = self._log.append(
                job_id=call.job_id,
                fence=call.fence,
                token=call.token,
                first=batch.first,
                events=batch.events,
                progress=None if batch.progress is None else encode(batch.progress),
            )
        except Behind as behind:
            self._go_back(call, behind)
            return
        self._acknowledge(batch, told.last)
        if told.is_cancel_requested:
            self._on_cancel(call.job_id)

    def _acknowledge(self, batch: Batch, last: int) -> None:
        with self._lock:
            if self._call is not batch.call:
                return
            now = self._clock()
            while self._acked < last and self._waiting:
                kind, data = self._waiting.popleft()
                assert isinstance(data, bytes)
                self._waiting_bytes -= len(data)
                self._kept.add((kind, data), now)
                self._acked += 1
            if FIRST_EVENT in self.marks and PUBLISHED not in self.marks and batch.has_result:
                self.marks[PUBLISHED] = time.monotonic_ns()
            if self._progress is batch.progress:
                self._progress = None
            self._kept.let_go(before=now - self._keep_s, max_size=self._max_bytes - self._waiting_bytes)
            if self._acked >= self._awaited and self._kept.came_quickly(now):
                self._rests_until = time.monotonic() + self._rest_s
                # It holds less than half a batch.
                if not self._has_batch(0.5):
                    self._inbox.open(batch.call)
            self._taken.notify_all()

    def _go_back(self, call: Call, behind: Behind) -> None:
        """The log lost events that it had taken: they wait again."""
        with self._lock:
            if self._call is not call:
                return
            if not 0 < self._acked - behind.last <= len(self._kept):
                raise behind
            while self._acked > behind.last:
                event = self._kept.take_back()
                self._waiting.appendleft(event)
                self._waiting_bytes += len(event[1])
                self._acked -= 1

    def _lose(self, call: Call, error: Exception) -> None:
        with self._lock:
            if self._call is call:
                self._lost = error
                self._taken.notify_all()


def _as_told(error: Exception) -> Exception:
    if isinstance(error, StaleAttempt):
        return StaleAttempt(str(error))
    if isinstance(error, UnknownJob | Behind):
        return StaleAttempt(f"the job's log cannot be continued: {error}")
    return error
