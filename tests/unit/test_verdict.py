"""Of several ranks' failures the cause is told, not its echo."""

import pytest

from rankcast.gpu_worker.messages import Done, Failed
from rankcast.gpu_worker.verdict import Ending, cause, may_go_on

BOOM = Failed("exception", "ValueError", "boom", "Traceback ...", collectives=3)
ECHO = Failed("exception", "RuntimeError", "Connection closed by peer", "", is_secondary=True)


@pytest.mark.parametrize(
    ("endings", "rank", "kind"),
    [
        ([Ending(1, failed=BOOM)], 1, "exception"),
        ([Ending(0, failed=ECHO), Ending(1, failed=BOOM)], 1, "exception"),
        ([Ending(0, failed=ECHO), Ending(1, exitcode=-9)], 1, "group_lost"),
        ([Ending(0, failed=ECHO), Ending(1, exitcode=3)], 1, "exited"),
        ([Ending(2, exitcode=-11), Ending(1, failed=BOOM)], 2, "group_lost"),
        ([Ending(1, failed=BOOM), Ending(0, failed=BOOM)], 0, "exception"),
        ([Ending(1, failed=ECHO), Ending(0, failed=ECHO)], 0, "exception"),
        ([Ending(1, exitcode=None)], 1, "group_lost"),
    ],
)
def test_the_first_failure_that_blames_no_peer_is_the_cause(endings, rank, kind):
    """Ranks that all failed alike are told as the first of them."""
    error = cause(endings)
    assert (error.rank, error.kind) == (rank, kind)


def test_a_signal_is_told_by_its_name():
    assert cause([Ending(1, exitcode=-11)]).signal == "SIGSEGV"
    assert cause([Ending(1, exitcode=-64)]).signal == "SIGRTMAX"
    assert cause([Ending(1, exitcode=-50)]).signal == "signal 50"
    assert cause([Ending(1, exitcode=4)]).exitcode == 4


def test_a_kill_for_want_of_memory_is_told_as_such():
    """Only a SIGKILL can be one."""
    told = cause([Ending(1, exitcode=-9)], has_memory_run_out=lambda: True)
    assert (told.kind, told.rank, told.signal) == ("oom_killed", 1, "SIGKILL")
    assert cause([Ending(1, exitcode=-11)], has_memory_run_out=lambda: True).kind == "group_lost"
    assert cause([Ending(1, failed=BOOM)], has_memory_run_out=lambda: True).kind == "exception"


def test_what_fails_while_a_group_starts_is_a_failed_setup():
    """Except that a signal is a loss there too: another attempt may fare better."""
    assert cause([Ending(1, failed=BOOM)], is_setup=True).kind == "setup_failed"
    assert cause([Ending(1, exitcode=1)], is_setup=True).kind == "setup_failed"
    assert cause([Ending(1, exitcode=-9)], is_setup=True).kind == "group_lost"


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([BOOM], True),
        ([BOOM, BOOM], True),
        ([BOOM, Done(collectives=3)], True),
        ([BOOM, Done(collectives=4)], False),
        ([BOOM, None], False),
        ([BOOM, Failed("exception", "E", "", "", collectives=None)], False),
        ([Failed("exception", "E", "", "", collectives=None)] * 2, False),
    ],
)
def test_a_group_goes_on_only_if_no_rank_is_owed_a_collective(reports, expected):
    """All are back, and all have entered equally many."""
    assert may_go_on(reports) is expected
