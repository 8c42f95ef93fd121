"""Pages of another origin, in a real browser: they may load the client, and reach nothing with it."""

from collections.abc import Iterator
from typing import Any

import pytest
from jobs import SUCCESS, append, running
from playwright.sync_api import Page
from web_tier import WebTier, web_tier

from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.store import JobStore

#: A page asks the server at `url` in every way that there is; the outcome of each.
ASK = """
async ({ url, id }) => {
  const { Client } = await import(`${url}/static/rankcast.js`);
  const client = new Client(url);
  const outcome = (call) => call.then(() => "answered", (error) => error.name);
  const source = new EventSource(`${url}/jobs/${id}/stream`);
  const listened = new Promise((resolve) => {
    source.onmessage = () => resolve("answered");
    source.onerror = () => resolve(source.readyState === source.CLOSED ? "closed" : "comes back");
  });
  const asked = {
    record: await outcome(client.job(id).record()),
    stream: await outcome(client.job(id).stream().next()),
    submit: await outcome(client.submit("acme/steps", {})),
    cancel: await outcome(client.job(id).cancel()),
    eventsource: await listened,
  };
  source.close();
  return { ...asked, origin: new Client().url };
}
"""


@pytest.fixture(scope="module")
def other_tier(valkey_url: str) -> Iterator[WebTier]:
    """The same deployment under another address: for a browser, another origin."""
    with web_tier(valkey_url) as web:
        yield web


def ended(store: JobStore, event_log: EventLog) -> str:
    """A job with one result; its id."""
    claim = running(store)
    append(event_log, claim, 2, '"result"')
    store.finish(claim, SUCCESS, 2)
    return claim.job_id


def ask(page: Page, origin: WebTier, server: WebTier, job_id: str) -> Any:
    """What a page of `origin` gets from `server`."""
    page.goto(f"{origin.url}/healthz")
    return page.evaluate(ASK, {"url": server.url, "id": job_id})


def test_a_page_of_the_same_origin_is_answered(
    page: Page, tier: WebTier, store: JobStore, event_log: EventLog
) -> None:
    """The control: the same page, at home. No worker has registered the task that it submits."""
    asked = ask(page, tier, tier, ended(store, event_log))
    assert asked == {
        "record": "answered",
        "stream": "answered",
        "submit": "UnknownTask",
        "cancel": "answered",
        "eventsource": "answered",
        "origin": tier.url,
    }


def test_a_page_of_another_origin_is_told_nothing(
    page: Page, tier: WebTier, other_tier: WebTier, store: JobStore, event_log: EventLog
) -> None:
    """It loads the client, and the browser hands it no answer: a script learns no more than that."""
    asked = ask(page, other_tier, tier, ended(store, event_log))
    assert asked == {
        "record": "ServerUnreachable",
        "stream": "ServerUnreachable",
        "submit": "ServerUnreachable",
        "cancel": "ServerUnreachable",
        "eventsource": "closed",
        "origin": other_tier.url,
    }


def test_a_browser_has_six_streams_of_a_server_at_a_time(page: Page, tier: WebTier, store: JobStore) -> None:
    """Over HTTP/1.1, over all its tabs: the seventh waits until one of them is closed."""
    job_id = running(store).job_id
    page.goto(f"{tier.url}/healthz")
    opened = page.evaluate(
        """async (path) => {
          const sources = Array.from({ length: 7 }, () => new EventSource(path));
          const open = sources.map((source) => new Promise((resolve) => { source.onopen = resolve; }));
          await Promise.all(open.slice(0, 6));
          const before = sources[6].readyState;
          sources[0].close();
          await open[6];
          const after = sources[6].readyState;
          sources.forEach((source) => source.close());
          return [before, after];
        }""",
        f"/jobs/{job_id}/stream",
    )
    assert opened == [0, 1]
