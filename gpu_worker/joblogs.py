"""What ranks print, on its way to the job's logs and to the worker's own.

Printing must cost a rank nothing, so lines are collected and written by one thread. While Redis is
away they are kept up to a bound; what is lost past it is counted and said.
"""

import logging
import threading
import time
from collections import deque
from typing import Literal

from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.logs import MAX_LINES, JobLogs, LogLine

#: Lines in one write to Redis.
BATCH_LINES = 500
RETRY_S = 0.5

logger = logging.getLogger(__name__)


class JobLines:
    """Takes lines from ranks for the job that they run: call it with rank, stream and text."""

    def __init__(self, writer: "LogWriter", host: str, job_id: str | None) -> None:
        #: None while the ranks run nobody's job.
        self.job_id = job_id
        self._writer = writer
        self._host = host
        self._is_flushed = True

    def __call__(self, rank: int, stream: str, text: str) -> None:
        self._is_flushed = False
        whence: Literal["stdout", "stderr"] = "stderr" if stream == "stderr" else "stdout"
        self._writer.put(self.job_id, LogLine(rank, self._host, whence, text, round(time.time() * 1000)))

    def flush(self) -> None:
        """Wait until the lines are in the job's log; at once when there were none."""
        if not self._is_flushed:
            self._writer.flush()
            self._is_flushed = True


class LogWriter:
    """Writes lines in the order they came. Safe to use from any thread."""

    def __init__(self, logs: JobLogs) -> None:
        self._logs = logs
        self._pending: deque[tuple[str, LogLine]] = deque()
        self._lost = 0
        self._is_writing = False
        self._is_stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="rankcast-logs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what is pending, then end."""
        self.flush(timeout_s)
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    def put(self, job_id: str | None, line: LogLine) -> None:
        """Take one line. Without a job (a group loaded ahead of one) it goes to the worker's log only."""
        logger.info("[%s rank %d] %s", job_id or "no job", line.rank, line.text)
        if job_id is None:
            return
        with self._changed:
            if len(self._pending) >= MAX_LINES:
                self._pending.popleft()
                self._lost += 1
            self._pending.append((job_id, line))
            self._changed.notify_all()

    def flush(self, timeout_s: float = 2.0) -> None:
        """Wait until what was put before is written; logs hold no job up for longer than this."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending and not self._is_writing, timeout_s)

    # The writing thread

    def _run(self) -> None:
        while batch := self._next_batch():
            by_job: dict[str, list[LogLine]] = {}
            for job_id, line in batch:
                by_job.setdefault(job_id, []).append(line)
            for job_id, lines in by_job.items():
                self._write(job_id, lines)

    def _next_batch(self) -> list[tuple[str, LogLine]]:
        """Wait for lines and take up to a batch of them; empty once stopped."""
        with self._changed:
            self._is_writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._pending or self._is_stopping)
            if self._lost:
                logger.warning("%d printed lines were lost while Redis did not take them", self._lost)
                self._lost = 0
            self._is_writing = bool(self._pending)
            return [self._pending.popleft() for _ in range(min(BATCH_LINES, len(self._pending)))]

    def _write(self, job_id: str, lines: list[LogLine]) -> None:
        while not self._is_stopping:
            try:
                return self._logs.append(job_id, lines)
            except UnknownJob:
                return None
            except StoreUnavailable:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_stopping, RETRY_S)
            except Exception:
                logger.exception("lines of job %s were not kept", job_id)
                return None
        return None
