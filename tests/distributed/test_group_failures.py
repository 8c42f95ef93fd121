"""Every way for a rank to fail: the cause is told, nobody hangs, and nothing is left running."""

import os
import signal
import time

import psutil
import pytest
from helpers import wait_until

from rankcast.gpu_worker.group import GroupFailed, RankGroup
from rankcast.gpu_worker.oom import OomWatch
from rankcast.gpu_worker.supervision import Control

pytestmark = pytest.mark.usefixtures("forkserver")


def is_gone(pid: int) -> bool:
    """Also for a zombie that nobody reaps here: it holds nothing any more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("on_rank", [0, 1])
@pytest.mark.parametrize(
    ("way", "kind", "exitcode", "signal_name"),
    [
        ("raise", "exception", None, None),
        ("sys.exit", "exited", 7, None),
        ("os._exit", "exited", 8, None),
        ("kill", "group_lost", None, "SIGKILL"),
        ("segfault", "group_lost", None, "SIGSEGV"),
    ],
)
def test_a_rank_that_fails_while_the_others_wait_for_it_is_the_cause(
    hold, way, on_rank, kind, exitcode, signal_name
):
    """Not its peers' "connection closed", which may come first; the group is gone at the end."""
    held = hold("t/fails")
    pids = held.group.pids
    outcome = held.run(way=way, on_rank=on_rank)
    error = outcome.error
    assert (error.kind, error.rank, error.exitcode, error.signal) == (kind, on_rank, exitcode, signal_name)
    assert outcome.output is None
    assert not outcome.is_group_usable
    assert not held.group.is_usable()
    assert all(is_gone(pid) for pid in pids)
    if on_rank == 1:
        # Rank 0 had its grace: what it cast before is in the log.
        assert held.results() == [{"before": way}]


def test_a_rank_that_the_kernel_killed_for_its_memory_is_told_as_such(hold, tmp_path):
    """By the count that the kernel keeps: here a file that the test writes."""
    count = tmp_path / "memory.events"
    count.write_text("oom 1\noom_kill 1\n")
    held = hold("t/deaf", oom=OomWatch([count]))
    with held.running() as going:
        count.write_text("oom 2\noom_kill 2\n")
        os.kill(held.group.pids[1], signal.SIGKILL)
    error = going.outcome.error
    assert (error.kind, error.rank, error.signal) == ("oom_killed", 1, "SIGKILL")


def test_a_rank_that_closed_its_pipe_is_ended(hold):
    """A library that "daemonises" closes what is not its own; the rank can say nothing any more."""
    outcome = hold("t/fails").run(way="close")
    assert (outcome.error.kind, outcome.error.rank, outcome.is_group_usable) == ("group_lost", 1, False)


def test_an_exception_is_told_with_its_type_message_and_place(hold):
    """The traceback begins in the user's code."""
    error = hold("t/fails").run(way="raise").error
    assert (error.type, error.message, error.rank) == ("ValueError", "boom", 1)
    first_file = error.traceback.splitlines()[1]
    assert "fails_on_one_rank.py" in first_file
    assert error.traceback.rstrip().endswith("ValueError: boom")


def test_a_rank_that_is_stopped_is_given_up_within_seconds(hold):
    """Its process says so: nobody waits until it was silent for too long."""
    outcome = hold("t/fails").run(way="stop", limits={"silence_s": 600.0})
    assert (outcome.error.kind, outcome.error.rank) == ("rank_frozen", 1)
    assert "rank 1 is stopped" in outcome.error.message


def test_a_rank_that_holds_the_interpreter_in_c_is_given_up_after_its_silence(hold):
    """No thread of its own could tell, and its process runs: silence is all that shows."""
    outcome = hold("t/fails").run(way="hold the interpreter", limits={"silence_s": 2.0})
    assert (outcome.error.kind, outcome.error.rank) == ("rank_frozen", 1)
    assert "not heard for 2 s" in outcome.error.message


def test_a_rank_that_was_stopped_while_it_waited_takes_no_call(hold):
    """The group is replaced before a job is sent to it."""
    held = hold("t/echo")
    os.kill(held.group.pids[1], signal.SIGSTOP)
    wait_until(lambda: psutil.Process(held.group.pids[1]).status() == psutil.STATUS_STOPPED, "its stop")
    assert not held.group.is_usable()


def test_a_call_may_not_run_for_ever(hold):
    """Also where the ranks are frozen and could not be asked."""
    held = hold("t/fails")
    outcome = held.run(way="stop", limits={"timeout_s": 0.5})
    assert (outcome.error.kind, outcome.is_group_usable) == ("run_timeout", False)
    assert "0.5 s" in outcome.error.message


def test_an_error_that_all_ranks_raise_keeps_the_group_warm(hold):
    """None of them is owed anything: loading the model again for a bad prompt would take minutes."""
    held = hold("t/raises")
    outcome = held.run(way="all")
    assert (outcome.error.message, outcome.error.rank, outcome.is_group_usable) == ("bad prompt", 0, True)
    assert held.value() == 2


def test_an_error_of_one_rank_after_the_last_collective_keeps_the_group_warm(hold):
    """The others have returned, having entered as many collectives."""
    held = hold("t/raises")
    outcome = held.run(way="rank 0, at the end")
    assert (outcome.error.type, outcome.is_group_usable) == ("OSError", True)
    assert held.value() == 2


@pytest.mark.parametrize("way", ["unequal", "groups of its own"])
def test_a_group_whose_ranks_may_be_out_of_step_is_replaced(hold, way):
    """Its next collective could take what belongs to the last."""
    assert not hold("t/raises").run(way=way).is_group_usable


def test_one_rank_alone_stays_warm_after_an_error(hold):
    held = hold("t/alone")
    pid = held.value()["pid"]
    assert held.run(way="raise").is_group_usable
    assert held.value()["pid"] == pid


def test_an_exception_that_cannot_be_printed_is_told_all_the_same(hold):
    outcome = hold("t/raises").run(way="unprintable")
    assert outcome.error.type.endswith("Unprintable")
    assert "cannot be shown" in outcome.error.message


def test_an_exit_on_the_event_loop_is_told(hold):
    """It would end the loop, and leave the rank waiting for a result."""
    error = hold("t/async").run(way="exit").error
    assert (error.kind, error.rank, error.exitcode) == ("exited", 1, 4)


@pytest.mark.parametrize("where", ["output", "event", "large event"])
def test_what_cannot_be_encoded_fails_the_job_and_not_the_group(hold, where):
    """With the path of the value, and the traceback of the caller."""
    held = hold("t/unencodable")
    outcome = held.run(where=where)
    assert (outcome.error.kind, outcome.is_group_usable) == ("not_encodable", True)
    assert ("in parts" if "large" in where else "$.a[1].b") in outcome.error.message
    assert held.value(where="caught") == "$.a[1].b: object has no JSON form"


@pytest.mark.parametrize(
    ("name", "kind", "rank", "message"),
    [
        ("t/raises-in-setup", "setup_failed", 1, "no weights here"),
        ("t/exits-in-setup", "setup_failed", 0, "exit code 9"),
        ("t/hangs-in-setup", "setup_timeout", None, "not ready after 1 s"),
        ("t/stops-in-setup", "rank_frozen", 1, "rank 1 is stopped"),
    ],
)
def test_a_group_that_does_not_start_says_why_and_leaves_nothing(hold, name, kind, rank, message):
    """The leak fixture looks for the ranks."""
    with pytest.raises(GroupFailed, match=message) as caught:
        hold(name)
    assert (caught.value.error.kind, caught.value.error.rank) == (kind, rank)


def test_what_a_rank_printed_before_its_setup_failed_is_told(described, forkserver, settings):
    """It is all that there is to understand it."""
    lines: list[str] = []
    with pytest.raises(GroupFailed):
        RankGroup.start(
            described("t/raises-in-setup"),
            forkserver=forkserver,
            settings=settings,
            on_log=lambda rank, stream, text: lines.append(text),
        )
    assert "looking for weights" in lines


@pytest.mark.parametrize(("ask", "kind"), [("request_cancel", "cancelled"), ("abandon", "worker_lost")])
def test_a_group_that_starts_can_be_stopped(hold, ask, kind):
    """A model loads for minutes; nobody waits for that to cancel."""
    with Control() as control:
        getattr(control, ask)()
        with pytest.raises(GroupFailed) as caught:
            hold("t/waits-in-setup", control=control)
    assert caught.value.error.kind == kind


@pytest.mark.parametrize("when", ["should_stop", "cancelled"])
def test_a_cancelled_call_stops_by_itself_and_the_group_stays(hold, when):
    """`should_stop` is true in the same round on all ranks, so no rank waits for another."""
    held = hold("t/stops")
    with held.running(when=when) as going:
        going.control.request_cancel()
    assert going.outcome.error is None
    assert going.outcome.is_group_usable
    assert held.results()[-1]["votes"] >= 0
    with held.running(when=when) as going:
        assert going.thread.is_alive()
        going.control.request_cancel()


def test_a_cancel_that_comes_with_the_call_is_heard(hold):
    """It may overtake the call inside the rank, and there is no second one."""
    held = hold("t/stops")
    for _ in range(5):
        with Control() as control:
            control.request_cancel()
            assert held.run(control).is_group_usable


def test_a_cancel_flag_in_redis_alone_reaches_all_ranks(hold, store):
    """The reply to rank 0's next append carries it, should every other way fail."""
    held = hold("t/stops")
    with held.running(casts=True) as going:
        store.cancel(held.claim.job_id)
    assert going.outcome.is_group_usable
    assert going.control.is_cancel_requested


def test_a_call_that_does_not_stop_is_killed_after_the_grace(hold):
    """As the task declares it."""
    held = hold("t/deaf")
    with held.running() as going:
        going.control.request_cancel()
    assert (going.outcome.error.kind, going.outcome.is_group_usable) == ("cancelled", False)
    assert "within 0.3 s" in going.outcome.error.message


def test_an_abandoned_call_ends_at_once(hold):
    """Its job is somebody else's by now."""
    held = hold("t/deaf")
    with held.running() as going:
        asked_at = time.monotonic()
        going.control.abandon()
    assert time.monotonic() - asked_at < 10
    assert (going.outcome.error.kind, going.outcome.is_group_usable) == ("worker_lost", False)


@pytest.mark.parametrize("end", ["kill", "close", "death"])
def test_what_a_rank_started_ends_with_it(hold, wait_until, end):
    """Data loaders and subprocesses, which would hold the GPU's memory."""
    held = hold("t/children")
    children = held.value()
    assert not any(is_gone(pid) for pid in children)
    if end == "death":
        assert held.run(dies=True).error.exitcode == 5
    else:
        getattr(held.group, end)()
    wait_until(lambda: all(is_gone(pid) for pid in children), "its children are gone")


def test_a_frozen_group_can_be_closed(hold):
    """It cannot hear the question, so it is killed after the grace."""
    held = hold("t/echo")
    pids = held.group.pids
    for pid in pids:
        psutil.Process(pid).send_signal(signal.SIGSTOP)
    held.group.close(grace_s=0.2)
    assert all(is_gone(pid) for pid in pids)


def test_a_job_that_went_to_another_worker_is_told_as_lost(hold, redis, store, sweep):
    """Rank 0 hears it from the log, and the group can go on."""
    held = hold("t/stops")
    with held.running(when="cancelled") as going:
        redis.zadd("rankcast:running", {held.claim.job_id: 1}, xx=True)
        sweep.run_once()
        going.control.request_cancel()
    assert going.outcome.error.kind == "worker_lost"
    assert store.record(held.claim.job_id).state == "queued"
