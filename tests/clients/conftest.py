"""A web process for the module, and drivers that no test leaves behind."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, sync_playwright
from web_tier import WebTier, web_tier

from clients.programs import CHROMIUM, Watching, skip_if_missing

Watch = Callable[..., Watching]


@pytest.fixture(scope="module")
def tier(valkey_url: str) -> Iterator[WebTier]:
    with web_tier(valkey_url) as web:
        yield web


@pytest.fixture
def watch(tier: WebTier, redis: object) -> Iterator[Watch]:
    """`watch("curl", job_id, cursor)` starts a driver, at the module's web process unless told `url=`."""
    with contextlib.ExitStack() as drivers:

        def start(
            client: str, job_id: str, cursor: str | None = None, *, url: str = tier.url, key: str = ""
        ) -> Watching:
            watching = Watching(client, url, job_id, cursor, key=key)
            drivers.callback(watching.close)
            return watching

        yield start


@pytest.fixture
def page() -> Iterator[Page]:
    """An empty page of a browser of its own."""
    skip_if_missing("javascript-chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser.new_page()
        browser.close()
