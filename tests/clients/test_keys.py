"""Clients at a server that asks for keys: by a header, or, where a client sends none, by its URL's token."""

from collections.abc import Iterator

import httpx
import pytest
import redis as redis_py
from api_keys import Holder, give
from jobs import SUCCESS, append, ids
from playwright.sync_api import Page
from web_tier import WebTier, web_tier

from clients.conftest import Watch
from clients.programs import CLIENTS, skip_if_missing
from rankcast.tasks.catalog import Catalog, TaskInfo
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import new_token
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore

TASK = "acme/steps"
#: What a page of the server does with the URL that a submit gave it.
PAGE = """
url => new Promise(resolve => {
  const seen = [], source = new EventSource(url);
  for (const kind of ["message", "state", "end"])
    source.addEventListener(kind, ({ lastEventId }) => seen.push(lastEventId));
  source.addEventListener("error", () => { if (source.readyState === source.CLOSED) resolve(seen); });
})
"""


@pytest.fixture(scope="module")
def keyed(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WebTier, Holder]]:
    """A web process that asks for keys, and somebody who has one."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    alice = give(path, "alice")
    with web_tier(valkey_url, RANKCAST_KEYS=str(path)) as web:
        yield web, alice


@pytest.fixture
def ended(
    keyed: tuple[WebTier, Holder], redis: redis_py.Redis, store: JobStore, event_log: EventLog
) -> dict[str, str]:
    """The answer to her submit of a job that has told one thing, and ended."""
    web, alice = keyed
    Catalog(redis, Settings()).register([TaskInfo(name=TASK, world_size=1, input_schema={})])
    answer = httpx.post(f"{web.url}/jobs", json={"task": TASK}, headers=alice.headers).raise_for_status()
    job_id = answer.json()["job_id"]
    claim = store.claim(task=TASK, token=new_token(), worker="w1", job_id=job_id, is_warm=True)
    assert claim is not None
    store.start(claim)
    append(event_log, claim, 2, "1")
    store.finish(claim, SUCCESS, 2)
    return {"id": job_id, "stream": answer.json()["urls"]["stream"]}


@pytest.mark.parametrize("client", [name for name in CLIENTS if name != "eventsource-chromium"])
def test_a_client_with_the_key_sees_the_job(
    client: str, keyed: tuple[WebTier, Holder], ended: dict[str, str], watch: Watch, event_log: EventLog
) -> None:
    skip_if_missing(client)
    web, alice = keyed
    watching = watch(client, ended["id"], url=web.url, key=alice.text)
    watching.to_end()
    assert watching.ids == ids(event_log, ended["id"])


def test_a_browsers_eventsource_sees_it_by_the_url_of_the_submit(
    keyed: tuple[WebTier, Holder], ended: dict[str, str], page: Page, event_log: EventLog
) -> None:
    """It sends no headers; and the path without the token shows it nothing."""
    web, _ = keyed
    page.goto(f"{web.url}/healthz")
    assert page.evaluate(PAGE, ended["stream"]) == ids(event_log, ended["id"])
    assert page.evaluate(PAGE, ended["stream"].partition("?")[0]) == []
