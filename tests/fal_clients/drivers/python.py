"""What fal's Python client gives for each of these ways to use it, which all run at once.

python.py <is_async>: with its functions, or with their `_async` twins
"""

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fal_client
import httpx
import httpx_sse

CAT = {"prompt": "a cat"}
LONG = {"prompt": "a cat", "steps": 4, "pause_s": 0.3}


class Sync:
    """The client, with lists for iterators."""

    def __init__(self) -> None:
        self._client = fal_client.SyncClient()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def stream(self, *args: Any, into: list[Any] | None = None, **options: Any) -> list[Any]:
        found = [] if into is None else into
        for event in self._client.stream(*args, **options):
            found.append(event)
        return found

    def events(self, handle: Any, **options: Any) -> list[Any]:
        return list(handle.iter_events(**options))


class Async:
    """The same by the asynchronous one: each call waits for its coroutine on a loop that all share."""

    def __init__(self, client: Any = None) -> None:
        self._client = client or fal_client.AsyncClient()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            result = waited(found(*args, **options))
            return Async(result) if isinstance(result, fal_client.AsyncRequestHandle) else result

        return call

    def stream(self, *args: Any, into: list[Any] | None = None, **options: Any) -> list[Any]:
        return waited(listed(self._client.stream(*args, **options), [] if into is None else into))

    def events(self, handle: "Async", **options: Any) -> list[Any]:
        return waited(listed(handle._client.iter_events(**options), []))


async def listed(items: Any, found: list[Any]) -> list[Any]:
    async for item in items:
        found.append(item)
    return found


def waited(coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


def run() -> Any:
    return fal.run("acme/steps", CAT, start_timeout=30, hint="warm")


def follow() -> Any:
    """Names of the statuses in order, the lines of the last, what came of it, asked for in each way."""
    handle = fal.submit("acme/steps", LONG, priority="low")
    events = fal.events(handle, with_logs=True)
    last = handle.status(with_logs=True)
    by_id = fal.status("acme/steps", handle.request_id)
    return {
        "seen": [type(event).__name__ for event in events],
        "lines": [line["message"] for line in last.logs],
        "line": last.logs[0],
        "metrics": last.metrics,
        "plain": [type(by_id).__name__, by_id.logs, getattr(by_id, "error", None)],
        "outputs": [handle.get(), fal.result("acme/steps", handle.request_id)],
    }


def subscribe() -> Any:
    ids, lines, kinds = [], [], []

    def update(status: Any) -> None:
        kinds.append(type(status).__name__)
        if getattr(status, "logs", None):
            lines[:] = [line["message"] for line in status.logs]

    output = fal.subscribe("acme/steps", LONG, with_logs=True, on_enqueue=ids.append, on_queue_update=update)
    return {"output": output, "ids": ids, "lines": lines, "kinds": kinds}


def stream() -> Any:
    return fal.stream("acme/steps", CAT)


def stream_of_another_path() -> Any:
    return fal.stream("acme/steps", CAT, path="/twice")


def run_of_another_path() -> Any:
    return [fal.run("acme/steps/twice", CAT), fal.run("acme/steps", CAT, path="twice")]


def submit_of_another_path() -> Any:
    """It asks for it again by the first two parts of the id."""
    handle = fal.submit("acme/steps/twice", CAT)
    return [handle.get(), fal.result("acme/steps/twice", handle.request_id)]


def silent_stream() -> Any:
    return fal.stream("acme/silent", {"for_s": 20.0})


def silent_run() -> Any:
    return fal.run("acme/silent", {"for_s": 20.0})


def silent_subscribe() -> Any:
    return fal.subscribe("acme/silent", {"for_s": 20.0})


def fails() -> Any:
    handle = fal.submit("acme/fails", CAT)
    refused = refusal(handle.get)
    status = handle.status(with_logs=False)
    return {
        "run": refusal(lambda: fal.run("acme/fails", CAT)),
        "get": refused,
        "subscribe": refusal(lambda: fal.subscribe("acme/fails", CAT)),
        "status": [type(status).__name__, status.error, status.error_type],
    }


def stream_fails() -> Any:
    """What came before it broke, too."""
    came: list[Any] = []
    return [*refusal(lambda: fal.stream("acme/fails", CAT, into=came)), came]


def bad_input() -> Any:
    wrong = {"prompt": "a cat", "steps": -1}
    return {
        "run": refusal(lambda: fal.run("acme/steps", wrong)),
        "submit": refusal(lambda: fal.submit("acme/steps", wrong)),
        "stream": refusal(lambda: fal.stream("acme/steps", wrong)),
    }


def unknown() -> Any:
    return {
        "run": refusal(lambda: fal.run("acme/nothing", CAT)),
        "submit": refusal(lambda: fal.submit("acme/nothing", CAT)),
        "stream": refusal(lambda: fal.stream("acme/nothing", CAT)),
        "status": refusal(lambda: fal.status("acme/steps", "A" * 22)),
        "webhook": refusal(lambda: fal.submit("acme/steps", CAT, webhook_url="https://a.example/")),
    }


def cancelled() -> Any:
    """One that runs and one by its id; to cancel once more is refused."""
    running, other = fal.submit("acme/patient", {}), fal.submit("acme/patient", {})
    running.cancel()
    fal.cancel("acme/patient", other.request_id)
    refused = [refusal(handle.get) for handle in (running, other)]
    return [*refused, refusal(running.cancel)]


def client_timeout() -> Any:
    """It gives up, cancels, and its threads come to an end: this program could not, otherwise."""
    try:
        return fal.subscribe("acme/patient", {}, client_timeout=1.5)
    except fal_client.FalClientTimeoutError as error:
        return ["FalClientTimeoutError", error.request_id]


def refusal(call: Callable[[], Any]) -> list[Any]:
    """The error's name; of an answer its status, type and message."""
    try:
        return ["none", call()]
    except fal_client.FalClientHTTPError as error:
        return [type(error).__name__, error.status_code, error.error_type, error.message]
    except (httpx.HTTPError, httpx_sse.SSEError) as error:
        return [type(error).__name__]


(is_async,) = map(json.loads, sys.argv[1:])
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
fal: Any = Async() if is_async else Sync()
WAYS = [
    *(run, follow, subscribe, stream, fails, stream_fails, bad_input, unknown, cancelled, client_timeout),
    *(stream_of_another_path, run_of_another_path, submit_of_another_path),
    *((silent_subscribe,) if is_async else (silent_run,)),
    silent_stream,
]
with ThreadPoolExecutor(len(WAYS)) as pool:
    for way, told in zip(WAYS, pool.map(lambda way: way(), WAYS), strict=True):
        print(json.dumps([way.__name__, told]))
