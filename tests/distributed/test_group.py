"""A rank group that works: it starts quickly, stays warm, and tells all that its ranks say."""

import json

import psutil
import pytest

from rankcast.gpu_worker.group import GroupState
from rankcast.gpu_worker.supervision import Control

pytestmark = pytest.mark.usefixtures("forkserver")


def test_the_ranks_form_a_group_and_rank_zero_answers(hold):
    """Over gloo, on the CPU, in the ranks' main threads, with torchrun's environment."""
    held = hold("t/echo")
    told = held.value(value={"a": [1, None]}, extra=3)
    assert told["sum"] == 1.0
    assert (told["value"], told["kwargs"]) == ({"a": [1, None]}, {"extra": 3, "streaming": True})
    assert (told["device"], told["backend"], told["threads"]) == ("cpu", "gloo", 1)
    assert told["is_main_thread"]
    assert told["job"] == [held.claim.job_id, 1]
    port = told["env"].pop("MASTER_PORT")
    assert told["env"] == {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    assert int(port) > 0


def test_a_rank_has_the_users_module_from_its_fork(hold):
    """Preloading fails silently in multiprocessing; then a start takes seconds. And nothing that a
    rank does not need comes with it."""
    held = hold("t/echo")
    assert held.group.is_preloaded
    assert held.value()["modules"] == []


def test_a_group_stays_warm(hold):
    """The same processes, with what setup left."""
    held = hold("t/echo")
    first, second = held.value(), held.value()
    assert (first["calls"], second["calls"]) == (1, 2)
    assert first["pid"] == second["pid"] == held.group.pids[0]


def test_every_event_precedes_the_return(hold):
    """A burst that ends with the call; `final_seq` is its last."""
    held = hold("t/echo")
    outcome = held.run(events=1000)
    assert [event["number"] for event in held.results()] == list(range(1000))
    assert outcome.final_seq == 1002 == held.events()[-1].id.seq
    assert held.run(events=0).final_seq == 2


def test_ranks_draw_random_numbers_of_their_own(hold):
    """Forks of one process would all draw the same: each rank, and each start, shows its own image.
    What users' code seeded at import stays seeded."""
    drawn = [held.value()["random"] for held in (hold("t/random"), hold("t/random"))]
    for source in ("python", "numpy", "torch"):
        assert len({number for ranks in drawn for number in ranks[source]}) == 4, source
    assert len({number for ranks in drawn for number in ranks["seeded"]}) == 1


def test_starting_and_ending_groups_leaves_no_descriptor_open(hold):
    """Pipes, sockets, selectors, pidfds."""
    hold("t/alone").group.close()
    before = psutil.Process().num_fds()
    for end in ("close", "kill"):
        getattr(hold("t/alone").group, end)()
    held = hold("t/alone")
    held.run(way="raise")
    held.group.kill()
    assert psutil.Process().num_fds() == before


def test_two_groups_of_one_host_do_not_meet(hold):
    """No port is fixed."""
    one, two = hold("t/echo"), hold("t/echo")
    told = [held.value() for held in (one, two)]
    assert told[0]["env"]["MASTER_PORT"] != told[1]["env"]["MASTER_PORT"]
    assert [t["sum"] for t in told] == [1.0, 1.0]


def test_an_input_that_does_not_fit_keeps_the_group(hold):
    """No code of the user's ran."""
    held = hold("t/much")
    outcome = held.run(text=7, more=1)
    assert (outcome.error.kind, outcome.is_group_usable) == ("invalid_input", True)
    assert "$.text" in outcome.error.message
    assert "$.more" in outcome.error.message
    assert held.value(text="x")["size"] == 1


def test_large_inputs_and_outputs_pass(hold):
    """Larger than any socket's buffer, to every rank and back."""
    held = hold("t/much")
    assert held.value(text="ü" * 3_000_000) == {"size": 3_000_000, "text": "ü" * 6_000_000}


def test_all_that_was_printed_before_the_return_has_been_told(hold):
    """By Python, by C, through descriptors and by children, of every rank, line by line."""
    held = hold("t/prints")
    held.lines.clear()
    assert held.value(lines=2000) is None
    for rank in (0, 1):
        out = [text for r, stream, text in held.lines if (r, stream) == (rank, "stdout")]
        assert out[0] == "from print"
        assert {"from C", "from a descriptor �", "from a child", f"[rank {rank}] from rank_print"} <= set(out)
        assert [text for text in out if text.startswith("line ")] == [f"line {n}" for n in range(2000)]
        err = [text for r, stream, text in held.lines if (r, stream) == (rank, "stderr")]
        assert err == ["from stderr", "no line end"]


def test_lines_of_a_call_go_where_the_call_says(hold):
    """Each job has its own log."""
    held = hold("t/prints")
    own: list[str] = []
    held.run(limits={"on_log": lambda rank, stream, text: own.append(text)})
    assert "from print" in own
    assert held.lines == []


def test_async_methods_run_on_the_loop(hold):
    """`setup` and `__call__` on the worker's own; the group is shut down in good order."""
    held = hold("t/async")
    assert held.value() == {"way": "return"}
    assert held.results() == [{"thread": "rankcast-loop"}]
    held.group.close()
    assert {(rank, text) for rank, _, text in held.lines} >= {(0, "torn down"), (1, "torn down")}


def test_a_task_that_outlives_its_job_cannot_write_into_the_next(hold):
    """On rank 0 it is told so; the next job's log has nothing of it."""
    held = hold("t/async")
    held.run(way="leave a task")
    assert held.value() == "the job that this task belongs to is over"
    assert held.results() == []


@pytest.mark.parametrize("way", ["leave a thread", "leave a piece of work"])
def test_a_thread_that_outlives_its_job_cannot_write_into_the_next(hold, way):
    """A plain one or one of a pool; the pool serves the jobs after that."""
    held = hold("t/threads")
    held.run(way=way)
    assert held.value(way="let them go on") == ["the job that this task belongs to is over"]
    assert held.results() == []
    held.run(way="use the pool")
    assert held.results() == ["in time"]


def test_closing_ends_the_ranks(hold):
    """And a closed group refuses calls."""
    held = hold("t/alone")
    pids = held.group.pids
    held.group.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert held.group.state is GroupState.CLOSED
    assert not held.group.is_usable()
    with pytest.raises(RuntimeError, match="closed"):
        held.run()
    held.group.close()
    held.group.kill()


def test_a_group_that_lost_a_rank_between_two_jobs_is_not_used(hold, wait_until):
    """It is found before the next job is given to it, and nothing of it stays."""
    held = hold("t/echo")
    held.value()
    assert held.group.is_usable()
    psutil.Process(held.group.pids[1]).kill()
    wait_until(lambda: not held.group.is_usable(), "the loss is seen")
    assert not any(psutil.pid_exists(pid) for pid in held.group.pids)


def test_a_control_that_is_closed_does_nothing():
    """A cancel that comes too late finds nobody."""
    control = Control()
    control.close()
    control.request_cancel()
    control.abandon()
    control.close()


def test_the_events_of_a_job_carry_what_was_cast(hold):
    """End to end: a value of the user's, encoded in the rank, read from the log."""
    held = hold("t/echo")
    held.run(events=1)
    states = [json.loads(event.data) for event in held.events() if event.kind == "state"]
    assert [state["state"] for state in states] == ["queued", "starting", "running"]
