"""What some clients cannot do; docs/clients.md names these tests below its table."""

import contextlib
import itertools
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from cutting_proxy import CuttingProxy
from jobs import SUCCESS, append, running, submit
from sseclient import SSEClient
from web_tier import WebTier

from clients.conftest import Watch
from clients.programs import skip_if_missing
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.store import JobStore
from rankcast.web.settings import WebSettings


@pytest.mark.parametrize("client", ["eventsource-chromium", "eventsource-npm"])
def test_eventsource_gives_up_at_a_refusal(client: str, watch: Watch) -> None:
    """At any answer but 200, also one that passes, such as 503, and never says which it was."""
    skip_if_missing(client)
    watching = watch(client, "no-such-job")
    assert watching.to_end() == []
    assert watching.ended == {"ended": "closed"}


def test_chromium_eventsource_gives_up_when_a_head_is_cut(
    tier: WebTier, watch: Watch, store: JobStore
) -> None:
    """What is left of the head does not say that it is an event stream; a cut behind it does no harm."""
    skip_if_missing("eventsource-chromium")
    # Each of them, because a browser itself tries again where a connection that it had kept is reset.
    line = CuttingProxy(urlsplit(tier.url).port or 0, itertools.repeat(40))
    with contextlib.closing(line):
        watching = watch("eventsource-chromium", submit(store), url=line.url)
        assert watching.to_end() == []
    assert watching.ended == {"ended": "closed"}


def test_in_a_browser_a_first_connection_that_breaks_counts_as_refused(
    tier: WebTier, watch: Watch, store: JobStore
) -> None:
    """Scripts are not told why a request failed; once one has been answered, our client comes back."""
    skip_if_missing("javascript-chromium")
    line = CuttingProxy(urlsplit(tier.url).port or 0, itertools.repeat(1))
    with contextlib.closing(line):
        watching = watch("javascript-chromium", submit(store), url=line.url)
        with pytest.raises(AssertionError, match="ServerUnreachable"):
            watching.to_end()
    assert len(line.streams) <= 2  # the browser's own second try included


@pytest.mark.parametrize("client", ["javascript-node", "eventsource-npm"])
def test_javascript_rounds_large_whole_numbers(
    client: str, watch: Watch, store: JobStore, event_log: EventLog
) -> None:
    """JSON.parse knows none past 2^53: send ids as strings."""
    skip_if_missing(client)
    claim = running(store)
    append(event_log, claim, 2, orjson.dumps(2**53 + 1))
    store.finish(claim, SUCCESS, 2)
    watching = watch(client, claim.job_id)
    watching.to_end()
    assert watching.results() == [2**53]


def test_sseclient_takes_an_unfinished_event_for_a_whole_one() -> None:
    """Where the end of the answer looks orderly, which over HTTP/1.1's chunked coding it does not."""
    [event] = SSEClient(iter([b"id: 1-2\ndata: 12"])).events()
    assert (event.id, event.data) == ("1-2", "12")


def test_httpx_by_itself_takes_the_time_between_two_keepalives_for_a_dead_line() -> None:
    """So httpx-sse needs a read time-out of its own."""
    with httpx.Client() as client:
        assert (client.timeout.read or 0) < WebSettings().keepalive_s
