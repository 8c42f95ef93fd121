"""A user's program that mypy knows all about; test_types.py has it checked, nobody runs it."""

from pathlib import Path
from typing import Any, assert_type

import rankcast
from rankcast import AsyncClient, AsyncJob, Client, Event, Job, LogLine


def watch(client: Client) -> None:
    job = client.submit("acme/steps", prompt="A sunset", options={"priority": 1})
    assert_type(job, Job)
    for event in job.stream(timeout_s=60):
        assert_type(event, Event)
        assert_type(event.state, str | None)
        assert_type(event.error, dict[str, Any] | None)
    with client.stream("acme/steps", {"prompt": "A sunset"}) as stream:
        assert_type(stream.job, Job)
        assert_type(next(stream).data, Any)
    assert_type(client.run("acme/steps", prompt="A sunset", timeout_s=60), Any)
    assert_type(list(job.follow_logs()), list[LogLine])
    assert_type(job.download({"url": "/jobs/1/artifacts/a.png"}, "a.png"), Path)
    assert_type(client.upload(Path("a.png"))["url"], Any)
    assert_type(rankcast.submit("acme/steps", prompt="A sunset").cancel(), str)


async def watch_async() -> None:
    async with AsyncClient("https://gpu.example", key="rk_1") as client:
        job = await client.submit("acme/steps", prompt="A sunset")
        assert_type(job, AsyncJob)
        async for event in job.stream():
            assert_type(event, Event)
        async for event in await client.stream("acme/steps", prompt="A sunset"):
            assert_type(event.is_result, bool)
        assert_type(await job.logs(), list[LogLine])
        assert_type([line async for line in job.follow_logs()], list[LogLine])


def slips(client: Client, client_async: AsyncClient, job: Job) -> None:
    """Each of these lines is an error; mypy also says so where it finds none."""
    client.submit(prompt="A sunset")  # type: ignore[call-arg]
    client.job(7)  # type: ignore[arg-type]
    job.steam()  # type: ignore[attr-defined]
    for _ in client_async.job("x").stream():  # type: ignore[attr-defined]
        pass
    for event in job.stream():
        event.data = None  # type: ignore[misc]
