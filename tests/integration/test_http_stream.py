"""A job's stream: whoever watches, and however often they come back, sees every event once, in order."""

import http.client
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
import redis as redis_py
from helpers import wait_until
from jobs import FAILURE, SUCCESS, append, forget, ids, running, starting, submit
from web_tier import BOTH_WAYS, Watch, WebTier, frames_of, two_webs, web_tier

from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim, Outcome
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep
from rankcast.web.hub import CLIENT_NAME
from rankcast.web.services import MAX_REDIS_CONNECTIONS


@pytest.fixture(scope="module", params=BOTH_WAYS)
def webs(request: pytest.FixtureRequest, valkey_url: str) -> Iterator[tuple[WebTier, WebTier]]:
    with two_webs(valkey_url, RANKCAST_TAKE_OVER=request.param) as both:
        yield both


def subscribers(redis: redis_py.Redis, job_id: str) -> int:
    """How many web processes follow the job."""
    ((_, count),) = redis.pubsub_numsub(JobKeys(job_id).live)
    return int(count)


def finish(store: JobStore, claim: Claim, final_seq: int) -> None:
    store.finish(claim, SUCCESS, final_seq)


def play(store: JobStore, event_log: EventLog, claim: Claim, count: int, largest: int = 7) -> None:
    """Stream `count` results in batches of 1 to `largest`, then succeed: what a rank 0 does."""
    draw = random.Random(count)
    sent = 0
    while sent < count:
        size = min(draw.randint(1, largest), count - sent)
        append(event_log, claim, 2 + sent, *[b'{"n":%d}' % n for n in range(sent, sent + size)])
        sent += size
    finish(store, claim, 1 + count)


@pytest.fixture
def playing() -> Any:
    """`playing(function, *args)` runs it in a thread, and the test waits for it at its end."""
    threads: list[threading.Thread] = []

    def play_in_thread(target: Callable[..., None], *args: Any) -> None:
        threads.append(threading.Thread(target=target, args=args))
        threads[-1].start()

    yield play_in_thread
    for thread in threads:
        thread.join(30)


def test_a_stream_tells_the_whole_life_of_a_job(web: str, store: JobStore, event_log: EventLog) -> None:
    """queued, starting, what the task streamed, and exactly one end, after which the stream closes."""
    job_id = submit(store)
    watch = Watch(web, f"/jobs/{job_id}/stream")
    watch.until(1)
    claim = running(store, job_id)
    append(event_log, claim, 2, '{"step":1}')
    watch.until(3)
    append(event_log, claim, 3, '{"step":2}')
    finish(store, claim, 3)
    frames = watch.to_end()
    assert [frame.kind for frame in frames] == ["state", "state", "", "", "end"]
    assert [frame.json["state"] for frame in frames[:2]] == ["queued", "starting"]
    assert watch.results() == [{"step": 1}, {"step": 2}]
    assert frames[-1].json == {"state": "succeeded", "attempt": 1, "output": {"done": True}}
    assert [frame.id for frame in frames] == ids(event_log, job_id)


def test_the_head_of_a_stream_comes_before_any_event(web: str, store: JobStore) -> None:
    """A client knows at once that it is connected, and no proxy may hold back or keep what follows."""
    watch = Watch(web, f"/jobs/{submit(store)}/stream?from=now")
    assert watch.status == 200
    assert watch.headers["Content-Type"] == "text/event-stream"
    assert watch.headers["Cache-Control"] == "no-store"
    assert watch.headers["X-Accel-Buffering"] == "no"
    assert "Content-Encoding" not in watch.headers
    wait_until(lambda: watch.raw.startswith(b"retry: "), "the first line")
    watch.leave()


def test_silence_is_filled_with_comment_lines(web: str, store: JobStore, event_log: EventLog) -> None:
    """Without a blank line: httpx-sse would make an event of that."""
    claim = running(store)
    watch = Watch(web, f"/jobs/{claim.job_id}/stream")
    wait_until(lambda: watch.raw.count(b":\n") >= 2, "two keepalives")
    finish(store, claim, 1)
    watch.to_end()
    assert b":\n\n" not in watch.raw


def test_a_late_joiner_sees_all_that_happened(web: str, store: JobStore, event_log: EventLog) -> None:
    """Also after the end, and also more than one page of it."""
    claim = running(store)
    play(store, event_log, claim, 2000, largest=256)
    watch = Watch(web, f"/jobs/{claim.job_id}/stream")
    watch.to_end()
    assert watch.results() == [{"n": n} for n in range(2000)]
    assert watch.ids == ids(event_log, claim.job_id)


def test_two_viewers_see_the_same(
    web: str, other_web: str, store: JobStore, event_log: EventLog, playing: Any
) -> None:
    """To the byte, in one process and in two."""
    claim = running(store)
    watches = [Watch(url, f"/jobs/{claim.job_id}/stream") for url in (web, web, other_web)]
    for watch in watches:
        watch.until(2)
    playing(play, store, event_log, claim, 500)
    for watch in watches:
        watch.to_end()
    first, *others = [watch.raw.replace(b":\n", b"") for watch in watches]
    assert all(other == first for other in others)
    assert watches[0].ids == ids(event_log, claim.job_id)


def test_a_client_resumes_at_another_web_process_while_events_flow(
    web: str, other_web: str, store: JobStore, event_log: EventLog, playing: Any
) -> None:
    """Cut off again and again, at no matter which event, it misses none and sees none twice."""
    claim = running(store)
    playing(play, store, event_log, claim, 3000)
    seen: list[Any] = []
    last_id = ""
    for turn in range(1000):
        watch = Watch(
            (web, other_web)[turn % 2],
            f"/jobs/{claim.job_id}/stream",
            headers={"Last-Event-ID": last_id} if last_id else {},
        )
        wait_until(lambda: watch.frames or watch.is_complete, "something to see")  # noqa: B023
        watch.leave()
        # What arrived of it in full; the rest is as good as lost on the way.
        seen += watch.frames
        last_id = seen[-1].id
        if seen[-1].kind == "end":
            break
    assert [frame.id for frame in seen] == ids(event_log, claim.job_id)
    assert turn > 2


@pytest.mark.parametrize("by", ["header", "query"])
def test_a_cursor_may_come_as_header_or_in_the_url(
    web: str, store: JobStore, event_log: EventLog, by: str
) -> None:
    """EventSource cannot set a header for its first request."""
    claim = running(store)
    play(store, event_log, claim, 5)
    cursor = f"{claim.fence}-3"
    path = f"/jobs/{claim.job_id}/stream"
    if by == "header":
        watch = Watch(web, path, headers={"Last-Event-ID": cursor})
    else:
        watch = Watch(web, f"{path}?last_event_id={cursor}")
    watch.to_end()
    assert watch.results() == [{"n": n} for n in range(2, 5)]


def test_who_has_seen_the_end_gets_204(web: str, store: JobStore) -> None:
    """It is what makes EventSource stop coming back."""
    claim = running(store)
    finish(store, claim, 1)
    end = Watch(web, f"/jobs/{claim.job_id}/stream").to_end()[-1]
    response = httpx.get(f"{web}/jobs/{claim.job_id}/stream", headers={"Last-Event-ID": end.id})
    assert (response.status_code, response.content) == (204, b"")


def test_who_asks_from_now_gets_only_what_comes(web: str, store: JobStore, event_log: EventLog) -> None:
    """And, once it has a cursor, what comes after that: EventSource resumes on the same URL."""
    claim = running(store)
    append(event_log, claim, 2, '"old"')
    path = f"/jobs/{claim.job_id}/stream?from=now"
    watch = Watch(web, path)
    append(event_log, claim, 3, '"new"', '"newer"')
    frames = watch.until(2)
    watch.leave()
    assert watch.results() == ["new", "newer"]
    again = Watch(web, path, headers={"Last-Event-ID": frames[0].id})
    finish(store, claim, 4)
    again.to_end()
    assert again.results() == ["newer"]
    assert httpx.get(web + path).status_code == 204


CURSORS_OF_NO_ENTRY = {
    "garbage": "garbage",
    "an id of another service": "1712345678901-0",
    "the future": "9223372036854775807-9223372036854775807",
    "too large for Redis": "99999999999999999999-1",
    "negative": "-1--1",
    "leading zeros": "00-01",
    "other digits": "٣-١",
    "a range of Redis": "(0-1",
    "a wildcard": "+",
    "very long": "7" * 5000,
    "an event without id": "null",
    "markup": "<script>",
}


@pytest.mark.parametrize("cursor", CURSORS_OF_NO_ENTRY.values(), ids=CURSORS_OF_NO_ENTRY.keys())
def test_a_cursor_that_no_log_gave_is_told_and_replays_all(
    web: str, store: JobStore, event_log: EventLog, cursor: str
) -> None:
    """Never an error, never silence: a `reset`, then the log from its start."""
    claim = running(store)
    play(store, event_log, claim, 3)
    headers = {"Last-Event-ID": cursor.encode()}
    response = httpx.get(f"{web}/jobs/{claim.job_id}/stream", headers=headers)
    assert response.status_code == 200
    assert response.content.startswith(b"retry: 1000\nid: 0-0\nevent: reset\n")
    assert response.content.count(b"\nid: ") == 1 + len(ids(event_log, claim.job_id))


def test_a_cursor_of_another_job_is_told(web: str, store: JobStore, event_log: EventLog) -> None:
    """Its ids mean nothing here."""
    claim, other = running(store), running(store)
    play(store, event_log, claim, 5)
    play(store, event_log, other, 50)
    cursor = ids(event_log, other.job_id)[-2]
    watch = Watch(web, f"/jobs/{claim.job_id}/stream", headers={"Last-Event-ID": cursor})
    assert watch.to_end()[0].kind == "reset"
    assert watch.ids[1:] == ids(event_log, claim.job_id)


def test_trimmed_events_are_told_as_a_gap(web: str, redis: redis_py.Redis, store: JobStore) -> None:
    """To a late joiner, and to one whose cursor lies below what is kept; a second break repeats nothing."""
    bounded = EventLog(redis, Settings(max_log_events=32))
    claim = running(store)
    for seq in range(2, 102):
        append(bounded, claim, seq, str(seq))
    finish(store, claim, 101)
    path = f"/jobs/{claim.job_id}/stream"
    frames = Watch(web, path).to_end()
    first, gap, next_kept = frames[:3]
    assert (first.id, gap.kind) == ("0-1", "gap")
    assert gap.json == {"after": "0-1", "to": gap.id}
    assert next_kept.id == f"{claim.fence}-{int(gap.id.split('-')[1]) + 1}"
    early = Watch(web, path, headers={"Last-Event-ID": f"{claim.fence}-5"}).to_end()
    assert (early[0].kind, early[0].json["after"]) == ("gap", f"{claim.fence}-5")
    assert early[1:] == frames[2:]
    again = Watch(web, path, headers={"Last-Event-ID": gap.id}).to_end()
    assert again == frames[2:]


def test_a_log_trimmed_for_all_ended_jobs_is_told_as_a_gap(
    web: str, redis: redis_py.Redis, store: JobStore, event_log: EventLog
) -> None:
    """To who comes later: how it began, the gap, how it ended."""
    claim = running(store)
    play(store, event_log, claim, 50)
    assert Sweep(redis, Settings(max_ended_log_bytes=1)).run_once().logs == 1
    first, gap, end = Watch(web, f"/jobs/{claim.job_id}/stream").to_end()
    assert [first.kind, gap.kind, end.kind] == ["state", "gap", "end"]
    assert gap.json == {"after": "0-1", "to": f"{claim.fence}-51"}
    assert end.json["state"] == "succeeded"


def test_a_large_event_reaches_live_viewers(web: str, store: JobStore, event_log: EventLog) -> None:
    """Over 64 KiB it is not on the channel: the viewer reads it from the log."""
    claim = running(store)
    watch = Watch(web, f"/jobs/{claim.job_id}/stream")
    watch.until(2)
    large = "x" * 1_000_000
    append(event_log, claim, 2, '"small"')
    append(event_log, claim, 3, orjson.dumps(large))
    append(event_log, claim, 4, '"after"')
    finish(store, claim, 4)
    watch.to_end()
    assert watch.results() == ["small", large, "after"]


def test_any_text_arrives_as_it_was_sent(web: str, store: JobStore, event_log: EventLog) -> None:
    """Line ends of every kind, separators, emoji and what looks like SSE, inside a string."""
    texts = ["a\r\nb\rc\nd\n\n", "data: x\n\nid: 9-9\n\n", "\u2028\u2029\x85", "\x00\x1f\x7f", "🌊", ":"]
    claim = running(store)
    watch = Watch(web, f"/jobs/{claim.job_id}/stream")
    watch.until(2)
    append(event_log, claim, 2, *[orjson.dumps(text) for text in texts])
    finish(store, claim, 1 + len(texts))
    watch.to_end()
    assert watch.results() == texts


def test_a_second_attempt_goes_on_in_the_same_stream(web: str, store: JobStore, event_log: EventLog) -> None:
    """Its ids are larger, whatever the first attempt had; a viewer sees both."""
    first = running(store)
    watch = Watch(web, f"/jobs/{first.job_id}/stream")
    append(event_log, first, 2, '"one"')
    store.release(first, is_loss=True, reason="worker gone")
    second = running(store, first.job_id)
    append(event_log, second, 2, '"two"')
    store.finish(second, FAILURE, 2)
    frames = watch.to_end()
    assert watch.results() == ["one", "two"]
    assert frames[-1].json["error"]["message"] == "boom"
    assert watch.ids == ids(event_log, first.job_id)


def test_a_viewer_that_does_not_read_holds_nobody_up(
    web: str, store: JobStore, event_log: EventLog, playing: Any
) -> None:
    """Others see all at once; and it sees all as well, once it reads again."""
    claim = running(store)
    address = urlsplit(web)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(30)
        slow.connect((address.hostname, address.port))
        slow.sendall(f"GET /jobs/{claim.job_id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        quick = Watch(web, f"/jobs/{claim.job_id}/stream")
        quick.until(2)

        def play_much() -> None:
            for batch in range(200):
                data = [b'{"n":%d,"pad":"%s"}' % (n, b"x" * 1000) for n in range(batch * 50, batch * 50 + 50)]
                append(event_log, claim, 2 + batch * 50, *data)
            finish(store, claim, 10_001)

        playing(play_much)
        quick.to_end()
        assert [result["n"] for result in quick.results()] == list(range(10_000))
        response = http.client.HTTPResponse(slow)
        response.begin()
        late = response.read()
        response.close()
    assert frames_of(late) == quick.frames


def test_head_tells_the_headers_and_watches_nothing(web: str, redis: redis_py.Redis, store: JobStore) -> None:
    """A probe must not hold a stream open."""
    job_id = submit(store)
    response = httpx.head(f"{web}/jobs/{job_id}/stream")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Type"] == "text/event-stream"
    assert subscribers(redis, job_id) == 0


def test_a_process_follows_a_job_as_long_as_somebody_watches_it(
    web: str, other_web: str, redis: redis_py.Redis, store: JobStore
) -> None:
    """One subscription for all viewers of a process, given up when the last of them is gone."""
    job_id = submit(store)
    watches = [Watch(url, f"/jobs/{job_id}/stream") for url in (web, web, other_web)]
    for watch in watches:
        watch.until(1)
    assert subscribers(redis, job_id) == 2
    watches[0].leave()
    watches[2].leave()
    wait_until(lambda: subscribers(redis, job_id) == 1, "the other process to let go")
    watches[1].leave()
    wait_until(lambda: subscribers(redis, job_id) == 0, "both processes to let go")


def test_viewers_that_come_and_go_never_lose_the_live_feed(
    web: str, store: JobStore, event_log: EventLog
) -> None:
    """A subscription given up and taken again at once is a new one, with a confirmation of its own."""
    claim = running(store)
    for turn in range(30):
        watch = Watch(web, f"/jobs/{claim.job_id}/stream?from=now")
        append(event_log, claim, 2 + turn, str(turn))
        assert watch.until(1)[0].json == turn
        watch.leave()


def test_a_job_that_is_gone_ends_its_streams(web: str, redis: redis_py.Redis, store: JobStore) -> None:
    """Redis lost it: the viewer is told, and not left waiting."""
    claim = starting(store)
    watch = Watch(web, f"/jobs/{claim.job_id}/stream")
    watch.until(2)
    redis.zrem("rankcast:running", claim.job_id)
    forget(redis, claim.job_id)
    *_, reset, end = watch.to_end()
    assert (reset.kind, end.kind, end.id, end.json) == ("reset", "end", "", {"state": "lost"})


def test_an_output_too_large_for_the_end_event_is_left_to_the_result(web: str, store: JobStore) -> None:
    """The end event says succeeded; the output is one request away."""
    claim = running(store)
    output = orjson.dumps("x" * 100_000)
    store.finish(claim, Outcome(state=JobState.SUCCEEDED, output=output), 1)
    end = Watch(web, f"/jobs/{claim.job_id}/stream").to_end()[-1]
    assert end.json == {"state": "succeeded", "attempt": 1}
    assert httpx.get(f"{web}/jobs/{claim.job_id}/result").content == output


def test_a_process_that_ends_sends_its_viewers_elsewhere(
    webs: tuple[WebTier, WebTier], web: str, valkey_url: str, store: JobStore, event_log: EventLog
) -> None:
    """A deploy waits for no stream: each is told when to come back, and goes on at another process."""
    claim = running(store)
    with web_tier(valkey_url, RANKCAST_KEEPALIVE_S="15") as leaving:
        watch = Watch(leaving.url, f"/jobs/{claim.job_id}/stream")
        append(event_log, claim, 2, '"before"')
        watch.until(3)
        leaving.process.terminate()
        frames = watch.to_end()
        leaving.process.wait(30)
    assert watch.raw.rpartition(b"\n\n")[2].startswith(b"retry: ")
    append(event_log, claim, 3, '"after"')
    finish(store, claim, 3)
    again = Watch(web, f"/jobs/{claim.job_id}/stream", headers={"Last-Event-ID": frames[-1].id})
    again.to_end()
    assert watch.results() + again.results() == ["before", "after"]


def test_the_subscriber_is_one_connection_for_a_whole_process(
    web: str, redis: redis_py.Redis, store: JobStore
) -> None:
    """Made at start-up, before the first viewer; a hundred jobs more need no other."""

    def hubs() -> int:
        return sum(client["name"] == CLIENT_NAME for client in redis.client_list())

    before = hubs()
    watches = [Watch(web, f"/jobs/{submit(store)}/stream") for _ in range(20)]
    for watch in watches:
        watch.until(1)
    assert hubs() == before
    for watch in watches:
        watch.leave()


def test_a_crowd_of_viewers_sees_a_quick_job_to_its_end(
    web: str, other_web: str, store: JobStore, event_log: EventLog
) -> None:
    """Sixty streams in two processes, joining at any moment of it."""
    claim = running(store)
    watches: list[Watch] = []

    def join() -> None:
        for n in range(60):
            watches.append(Watch((web, other_web)[n % 2], f"/jobs/{claim.job_id}/stream"))

    joining = threading.Thread(target=join)
    joining.start()
    for seq in range(2, 1502, 5):
        append(event_log, claim, seq, *[str(seq + n) for n in range(5)])
    store.finish(claim, SUCCESS, 1501)
    joining.join(30)
    expected = ids(event_log, claim.job_id)
    for watch in watches:
        watch.to_end()
        assert watch.ids == expected


def test_many_viewers_at_once_share_a_few_connections_to_redis(
    web: str, redis: redis_py.Redis, store: JobStore
) -> None:
    """After a deploy all clients come back in one moment; Redis has ten thousand connections for all."""
    job_id = submit(store)
    before = len(redis.client_list())
    watches: list[Watch] = []
    joining = [
        threading.Thread(target=lambda: watches.append(Watch(web, f"/jobs/{job_id}/stream")))
        for _ in range(150)
    ]
    for thread in joining:
        thread.start()
    for thread in joining:
        thread.join(30)
    assert [watch.status for watch in watches] == [200] * 150
    assert len(redis.client_list()) - before <= MAX_REDIS_CONNECTIONS
    for watch in watches:
        watch.leave()
