"""What `fal.apps`, of fal's own package, gives for each of these ways to use it; they all run at once.

apps.py [name of a way, …]; all of them if none is named

Runs with fal's package. Its `stream` reads an answer to its end before it gives the first line, and gives up
after 5 s of silence: so it does with fal, too.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from fal import apps


def run() -> Any:
    return apps.run("acme/steps", {"prompt": "a cat"})


def run_by_old_name() -> Any:
    """As ids were written before they had a slash."""
    return apps.run("acme-steps", {"prompt": "a cat"})


def follow() -> Any:
    """Statuses by name, the log lines of the last, and what is fetched then."""
    handle = apps.submit("acme/steps", {"prompt": "a cat", "steps": 4, "pause_s": 0.3})
    seen = [type(status).__name__ for status in handle.iter_events(logs=True)]
    status = handle.status(logs=True)
    lines = [line["message"] for line in status.logs]
    return seen, type(status).__name__, lines, status.error, handle.fetch_result()


def silent() -> Any:
    return apps.run("acme/silent", {"for_s": 20.0})


def stream() -> Any:
    return list(apps.stream("acme/steps", {"prompt": "a cat"}, path="/stream"))


def stream_plain() -> Any:
    """Without a path it is what others call `run`: the bytes of the answer."""
    return json.loads(b"".join(apps.stream("acme/steps", {"prompt": "a cat"})))


def stream_fails() -> Any:
    return refusal(lambda: list(apps.stream("acme/fails", {"prompt": "a cat"}, path="/stream")))


def fails() -> Any:
    handle = apps.submit("acme/fails", {"prompt": "a cat"})
    refused = refusal(handle.get)
    status = handle.status()
    return type(status).__name__, status.error, status.error_type, refused


def known_by_id() -> Any:
    """A handle that is made of what was written down elsewhere."""
    handle = apps.submit("acme/steps", {"prompt": "a dog"})
    return apps.RequestHandle(app_id="acme/steps", request_id=handle.request_id).get()


def cancelled() -> Any:
    """More than there are slots: some run and some wait when they are cancelled. Positions of who waits."""
    handles = [apps.submit("acme/patient", {}) for _ in range(6)]
    positions = [status.position for each in handles if isinstance(status := each.status(), apps.Queued)]
    for handle in handles:
        handle.cancel()
    return positions, [refusal(handle.get) for handle in handles], refusal(handles[0].cancel)


def bad_input() -> Any:
    return refusal(lambda: apps.submit("acme/steps", {"prompt": "a cat", "steps": -1}))


def unknown_task() -> Any:
    return refusal(lambda: apps.submit("acme/nothing", {}))


def unknown_request() -> Any:
    return refusal(apps.RequestHandle(app_id="acme/steps", request_id="A" * 22).status)


def refusal(call: Callable[[], Any]) -> list[Any]:
    """The error's name, and of an answer its status and body."""
    try:
        return ["none", call()]
    except httpx.HTTPStatusError as error:
        return [type(error).__name__, error.response.status_code, error.response.json()]
    except httpx.HTTPError as error:
        return [type(error).__name__]


WAYS = [
    run,
    run_by_old_name,
    follow,
    silent,
    stream,
    stream_plain,
    stream_fails,
    fails,
    known_by_id,
    cancelled,
    bad_input,
    unknown_task,
    unknown_request,
]
named = {json.loads(text) for text in sys.argv[1:]}
wanted = [way for way in WAYS if not named or way.__name__ in named]
with ThreadPoolExecutor(len(wanted)) as pool:
    for way, told in zip(wanted, pool.map(lambda way: way(), wanted), strict=True):
        print(json.dumps([way.__name__, told]))
