"""A client in a page of the server, in a Chromium of its own."""

import os
from pathlib import Path

from playwright.sync_api import sync_playwright
from telling import CURSOR, JOB, KEY, URL

#: What a `<script type="module">` of that page would do.
PAGE = """
async ({ source, client, asked }) => {
  const { watch } = await import(`data:text/javascript,${encodeURIComponent(source)}`);
  await watch(client ? await import(client) : EventSource, asked, (seen) => print(JSON.stringify(seen)));
}
"""


def watch(driver: str, client: str | None = None) -> None:
    """Run a driver, with the module at the path `client` or the browser's own EventSource."""
    asked = {"url": URL, "job": JOB, "cursor": CURSOR, "key": KEY}
    told = {name: value for name, value in asked.items() if value is not None}
    source = Path(__file__).with_name(driver).read_text()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"])
        page = browser.new_page()
        page.expose_function("print", lambda line: print(line, flush=True))
        page.goto(f"{URL}/healthz")
        page.evaluate(PAGE, {"source": source, "client": client, "asked": told})
        browser.close()
