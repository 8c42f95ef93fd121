"""Our async Python client: it resumes by itself, and stops after the end."""

import asyncio

from telling import CURSOR, JOB, URL, tell, tell_end

from rankcast import AsyncClient, JobCancelled, JobFailed


async def watch() -> None:
    async with AsyncClient(URL) as client:
        job = client.job(JOB)
        async for event in job.stream(last_event_id=CURSOR):
            tell(event.id, event.kind, event.data)
        try:
            tell_end("succeeded", output=await job.result())
        except JobFailed as failure:
            tell_end("failed", error=failure.error)
        except JobCancelled as cancelled:
            tell_end("cancelled", error=cancelled.error)


asyncio.run(watch())
