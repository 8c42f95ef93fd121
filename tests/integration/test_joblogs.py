"""What ranks print arrives in the job's logs, whole and in order."""

from collections.abc import Iterator

import pytest
import redis as redis_py
from jobs import running

from rankcast.gpu_worker.joblogs import BATCH_LINES, LogWriter
from rankcast.tasks.logs import JobLogs, LogLine
from rankcast.tasks.store import JobStore


def line(text: str, rank: int = 0) -> LogLine:
    return LogLine(rank=rank, host="gpu-1", stream="stdout", text=text, ts_ms=1)


@pytest.fixture
def writer(logs: JobLogs) -> Iterator[LogWriter]:
    writer = LogWriter(logs)
    writer.start()
    yield writer
    writer.stop()


def test_lines_are_there_after_a_flush(writer: LogWriter, store: JobStore, logs: JobLogs):
    """More than a batch, of two jobs, each in the order it was printed."""
    jobs = [running(store).job_id, running(store).job_id]
    for number in range(BATCH_LINES + 1):
        for rank, job_id in enumerate(jobs):
            writer.put(job_id, line(f"line {number}", rank))
    writer.flush(timeout_s=10)
    for rank, job_id in enumerate(jobs):
        kept = [each for _, each in logs.read(job_id)]
        assert kept == [line(f"line {number}", rank) for number in range(BATCH_LINES + 1)]


def test_a_line_of_no_job_goes_to_the_workers_log_only(
    writer: LogWriter, redis: redis_py.Redis, caplog: pytest.LogCaptureFixture
):
    """What `setup` prints while a group is loaded ahead of its first job."""
    caplog.set_level("INFO", "rankcast")
    writer.put(None, line("loading weights"))
    writer.flush(timeout_s=10)
    assert "loading weights" in caplog.text
    assert not redis.keys("*:logs")


def test_lines_of_a_job_that_is_gone_hold_nobody_up(writer: LogWriter, store: JobStore, logs: JobLogs):
    """Its time to live was over; the lines of others follow."""
    job_id = running(store).job_id
    writer.put("0" * 32, line("to nobody"))
    writer.put(job_id, line("to somebody"))
    writer.flush(timeout_s=10)
    assert [each.text for _, each in logs.read(job_id)] == ["to somebody"]
    assert not logs.read("0" * 32)
