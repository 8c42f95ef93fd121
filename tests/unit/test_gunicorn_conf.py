"""What gunicorn would tell of a client that was cut off, and what it tells with our filter."""

import errno
import logging
import subprocess
import sys

import pytest

from rankcast.web.gunicorn_conf import SPARE_DESCRIPTORS, Room, tell_stalled_client


def told_of(error: OSError, caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    log = logging.getLogger("as gunicorn's")
    log.addFilter(tell_stalled_client)
    try:
        raise error
    except OSError:
        log.exception("Socket error processing request.")
    finally:
        log.removeFilter(tell_stalled_client)
    (record,) = caplog.records
    return record


def test_a_client_that_was_cut_off_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """It happens every day, and is nobody's error."""
    record = told_of(OSError(errno.ETIMEDOUT, "Connection timed out"), caplog)
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert "cut off" in record.getMessage()


def test_any_other_error_of_a_connection_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    record = told_of(OSError(errno.EBADF, "Bad file descriptor"), caplog)
    assert (record.levelname, record.getMessage()) == ("ERROR", "Socket error processing request.")
    assert record.exc_info is not None


def test_what_gunicorn_imports_before_it_forks_leaves_redis_to_be_patched() -> None:
    """Of what is imported by then gevent patches nothing: one stream would hold up all others."""
    code = "import sys, rankcast.web.worker, rankcast.web.gunicorn_conf; print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("wanted", "limit", "room"),
    [
        (Room(10, 300), 310 + SPARE_DESCRIPTORS, Room(10, 300)),
        (Room(10_000, 10_000), 1 << 30, Room(10_000, 10_000)),
        (Room(10_000, 10_000), 4096, Room(960, 2880)),
        (Room(100, 10_000), 4096, Room(100, 3740)),
        (Room(10_000, 100), 4096, Room(960, 100)),
        # Where it is hardly enough for anything, half of it is spare.
        (Room(10_000, 10_000), 256, Room(32, 96)),
    ],
)
def test_there_is_room_for_what_has_descriptors(wanted: Room, limit: int, room: Room) -> None:
    assert wanted.within(limit) == room
