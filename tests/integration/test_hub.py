"""The hub with plain threads, and with repair so slow that it cannot hide a message lost by mistake."""

import threading
import weakref
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import redis as redis_py
from helpers import wait_until
from jobs import append, ids, running, submit
from lossy import LossyRedis, lossy_redis

from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.event import EventId
from rankcast.tasks.eventlog import EventLog, Start
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.store import JobStore
from rankcast.web.hub import CLIENT_NAME, Hub, Viewer
from rankcast.web.moderation import REST_S, Moderation
from rankcast.web.stream import Reader

NEVER_S = 600.0


@pytest.fixture
def hub(valkey_url: str, event_log: EventLog) -> Iterator[Hub]:
    hub = Hub(url=valkey_url, event_log=event_log, silence_s=NEVER_S)
    hub.start()
    yield hub
    hub.close()


@pytest.fixture
def lossy(valkey_url: str) -> Iterator[LossyRedis]:
    with lossy_redis(valkey_url) as proxy:
        yield proxy


@pytest.fixture
def lossy_hub(lossy: LossyRedis, event_log: EventLog) -> Iterator[Hub]:
    """Behind a line that can be held or cut; its event log is not."""
    hub = Hub(url=lossy.url, event_log=event_log, silence_s=NEVER_S)
    hub.start()
    yield hub
    hub.close()


class Following(threading.Thread):
    """A call of `follow` under way; `result()` waits for the viewer."""

    def __init__(self, hub: Hub, job_id: str) -> None:
        super().__init__()
        self._call = (hub, job_id)
        self._viewers: list[Viewer] = []
        self.start()

    def run(self) -> None:
        hub, job_id = self._call
        self._viewers.append(hub.follow(job_id))

    def has_returned(self) -> bool:
        """Given some time for it."""
        self.join(0.3)
        return not self.is_alive()

    def result(self) -> Viewer:
        self.join(30)
        return self._viewers[0]


def reader_of(viewer: Viewer, after: EventId) -> Reader:
    return Reader(viewer=viewer, start=Start(after), keepalive_s=30)


def next_id(reader: Reader) -> str:
    """The id of the next event; None stands for 30 s of silence."""
    batches = next(iter(reader))
    assert batches, "nothing came"
    return str(batches[0].events[0].id)


def is_followed(redis: redis_py.Redis, job_id: str) -> bool:
    ((_, count),) = redis.pubsub_numsub(JobKeys(job_id).live)
    return bool(count)


def is_connected(redis: redis_py.Redis) -> bool:
    return any(client["name"] == CLIENT_NAME for client in redis.client_list())


def test_what_is_published_after_follow_returned_is_heard(
    hub: Hub, store: JobStore, event_log: EventLog
) -> None:
    """Also when the job was let go a moment before, and its old subscription is still being given up."""
    claim = running(store)
    for seq in range(2, 302):
        viewer = hub.follow(claim.job_id)
        reader = reader_of(viewer, EventId(claim.fence, seq - 1))
        wait_for_it = threading.Thread(target=append, args=(event_log, claim, seq, "1"))
        wait_for_it.start()
        assert next_id(reader) == f"{claim.fence}-{seq}"
        wait_for_it.join()
        viewer.leave()


def test_who_has_left_is_not_kept_in_memory_by_what_it_left(hub: Hub, store: JobStore) -> None:
    """Nor by itself: no garbage that Python must look for."""
    viewer = hub.follow(running(store).job_id)

    class Crowd:
        def __init__(self) -> None:
            self.viewer = viewer
            viewer.notify = self.look

        def look(self) -> None: ...

    crowd = weakref.ref(Crowd())
    assert crowd() is not None
    viewer.leave()
    assert crowd() is None


def test_a_connection_that_takes_nothing_any_more_is_given_up(
    lossy: LossyRedis, monkeypatch: pytest.MonkeyPatch, store: JobStore, event_log: EventLog
) -> None:
    """Also while somebody waits for it to take a command, with everybody else behind."""
    monkeypatch.setattr("rankcast.web.hub.READ_TIMEOUT_S", 0.5)
    hub = Hub(url=lossy.url, event_log=event_log, silence_s=0.1)
    claim = running(store)
    hub.follow(claim.job_id).leave()
    is_held, connection = threading.Event(), hub._connection
    send = connection.send_command

    def stuck(*command: Any, **options: Any) -> None:
        if command[0] == "SUBSCRIBE" and not is_held.is_set():
            is_held.set()
            # As a full socket: it ends when somebody closes the connection.
            wait_until(lambda: not connection.is_connected, "the end of the connection")
            raise redis_py.ConnectionError("closed")
        send(*command, **options)

    monkeypatch.setattr(connection, "send_command", stuck)
    lossy.replies.clear()
    following = Following(hub, claim.job_id)
    assert is_held.wait(30)
    wait_until(lambda: not connection.is_connected, "the end of the connection")
    lossy.replies.set()
    viewer = following.result()
    append(event_log, claim, 2, "1")
    assert next_id(reader_of(viewer, EventId(claim.fence, 1))) == f"{claim.fence}-2"
    viewer.leave()
    hub.close()


def test_follow_waits_until_redis_has_confirmed(
    lossy: LossyRedis, lossy_hub: Hub, redis: redis_py.Redis, store: JobStore, event_log: EventLog
) -> None:
    """What is published while SUBSCRIBE is on its way is in the log, which is read only afterwards."""
    claim = running(store)
    wait_until(lambda: is_connected(redis), "the hub's connection")
    lossy.commands.clear()
    following = Following(lossy_hub, claim.job_id)
    assert not following.has_returned()
    append(event_log, claim, 2, "1")
    lossy.commands.set()
    viewer = following.result()
    assert next_id(reader_of(viewer, EventId(claim.fence, 1))) == f"{claim.fence}-2"
    viewer.leave()


def test_a_late_confirmation_is_not_taken_for_that_of_a_later_subscription(
    lossy: LossyRedis,
    lossy_hub: Hub,
    redis: redis_py.Redis,
    store: JobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Subscribe, give up, subscribe: between the last two Redis sends nothing, and messages are missed."""
    job_id = submit(store)
    wait_until(lambda: is_connected(redis), "the hub's connection")
    lossy.replies.clear()
    with monkeypatch.context() as impatient:
        impatient.setattr("rankcast.web.hub.CONFIRM_TIMEOUT_S", 0.1)
        with pytest.raises(StoreUnavailable):
            lossy_hub.follow(job_id)
    wait_until(lambda: not is_followed(redis, job_id), "the first subscription to be given up")
    lossy.commands.clear()
    following = Following(lossy_hub, job_id)
    lossy.replies.set()
    assert not following.has_returned()
    lossy.commands.set()
    following.result().leave()


def test_what_was_published_while_the_connection_was_away_is_found_when_it_is_back(
    lossy: LossyRedis, lossy_hub: Hub, redis: redis_py.Redis, store: JobStore, event_log: EventLog
) -> None:
    """At once, though nothing follows it and no silence is waited for."""
    claim = running(store)
    viewer = lossy_hub.follow(claim.job_id)
    reader = reader_of(viewer, EventId(claim.fence, 1))
    append(event_log, claim, 2, "1")
    assert next_id(reader) == f"{claim.fence}-2"
    lossy.cut()
    wait_until(lambda: not is_followed(redis, claim.job_id), "Redis to notice")
    append(event_log, claim, 3, "1")
    lossy.mend()
    assert next_id(reader) == f"{claim.fence}-3"
    viewer.leave()


def test_viewers_that_come_and_go_in_many_threads_take_nothing_from_the_others(
    hub: Hub, redis: redis_py.Redis, store: JobStore, event_log: EventLog
) -> None:
    """Five threads that follow and leave without pause, and each time see what is published next."""
    claim = running(store)
    done = threading.Event()
    missed: list[BaseException] = []

    def come_and_go() -> None:
        try:
            while not done.is_set():
                viewer = hub.follow(claim.job_id)
                last = event_log.position(claim.job_id).last
                assert EventId.parse(next_id(reader_of(viewer, last))) > last
                viewer.leave()
        except BaseException as error:
            missed.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(5)]
    for thread in threads:
        thread.start()
    for seq in range(2, 602):
        append(event_log, claim, seq, "1")
    done.set()
    seq = 602
    while any(thread.is_alive() for thread in threads):
        append(event_log, claim, seq, "1")
        seq += 1
    assert missed == []
    wait_until(lambda: not is_followed(redis, claim.job_id), "the last viewer's subscription to end")


def test_a_reader_sees_the_whole_log_whatever_was_live(
    hub: Hub, store: JobStore, event_log: EventLog
) -> None:
    """Joined in the middle of a quick job, from its start."""
    claim = running(store)
    seen: list[str] = []

    def read() -> None:
        viewer = hub.follow(claim.job_id)
        for batches in reader_of(viewer, EventId(0, 0)):
            seen.extend(str(event.id) for batch in batches or [] for event in batch.events)
        viewer.leave()

    threads = [threading.Thread(target=read) for _ in range(3)]
    for n, thread in enumerate(threads):
        append(event_log, claim, 2 + 100 * n, *["1"] * 100)
        thread.start()
    for seq in range(302, 1002):
        append(event_log, claim, seq, "1")
    store.cancel(claim.job_id)
    store.release(claim, is_loss=False, reason="cancelled")
    for thread in threads:
        thread.join(30)
    assert sorted(seen) == sorted(ids(event_log, claim.job_id) * 3)


def test_a_message_that_is_none_hurts_nobody(
    hub: Hub, redis: redis_py.Redis, store: JobStore, event_log: EventLog
) -> None:
    """Who can publish on the channel cannot stop the hub: what is true stands in the log."""
    claim = running(store)
    viewer = hub.follow(claim.job_id)
    reader = reader_of(viewer, EventId(claim.fence, 1))
    for junk in (b"", b"\n", b"1-1", b"0-0 no_id 0\n", b"\xff\xfe", b"0-0 9-9 0\ndata: 1\n\n", b"0-0\n9-9"):
        redis.publish(JobKeys(claim.job_id).live, junk)
    for seq in range(2, 12):
        append(event_log, claim, seq, "1")
        assert next_id(reader) == f"{claim.fence}-{seq}"
    viewer.leave()


class Rests(Moderation):
    """Notes how long the hub is told to rest, each time."""

    noted: ClassVar[list[float]] = []

    def read(self, messages: int, now: float) -> None:
        super().read(messages, now)
        self.noted.append(self.rest_s)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    monkeypatch.setattr("rankcast.web.hub.Moderation", Rests)
    Rests.noted.clear()
    return Rests.noted


def test_what_is_let_gather_arrives_whole_and_in_order(
    noted: list[float],
    monkeypatch: pytest.MonkeyPatch,
    valkey_url: str,
    store: JobStore,
    event_log: EventLog,
) -> None:
    """A thousand messages on many channels, with a rest after each read."""
    monkeypatch.setattr("rankcast.web.moderation.CLOSE_S", NEVER_S)
    monkeypatch.setattr("rankcast.web.moderation.WINDOW_S", 0.0)
    hub = Hub(url=valkey_url, event_log=event_log, silence_s=NEVER_S)
    claims = [running(store) for _ in range(20)]
    viewers = [hub.follow(claim.job_id) for claim in claims]
    for seq in range(2, 52):
        for claim in claims:
            append(event_log, claim, seq, "1")
    for claim, viewer in zip(claims, viewers, strict=True):
        seen: list[EventId] = []
        for batches in reader_of(viewer, EventId(claim.fence, 1)):
            seen += [event.id for batch in batches or [] for event in batch.events]
            if not batches or len(seen) == 50:
                break
        assert seen == [EventId(claim.fence, seq) for seq in range(2, 52)]
        viewer.leave()
    assert set(noted[1:]) == {REST_S}
    hub.close()


def test_who_hears_a_message_now_and_then_is_not_held_up(
    noted: list[float], hub: Hub, store: JobStore, event_log: EventLog
) -> None:
    """Here each comes when the one before it has been seen."""
    claim = running(store)
    viewer = hub.follow(claim.job_id)
    reader = reader_of(viewer, EventId(claim.fence, 1))
    for seq in range(2, 12):
        append(event_log, claim, seq, "1")
        assert next_id(reader) == f"{claim.fence}-{seq}"
    viewer.leave()
    assert len(noted) >= 10
    assert set(noted) == {0.0}


def test_a_closed_hub_ends_its_readers(hub: Hub, store: JobStore, event_log: EventLog) -> None:
    """Those that can go on elsewhere; they need no keepalive for that."""
    job_id = submit(store)
    viewer = hub.follow(job_id)
    ended = threading.Event()

    def read() -> None:
        for _ in reader_of(viewer, EventId(0, 1)):
            pass
        ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    hub.close()
    assert ended.wait(10)
    thread.join()
