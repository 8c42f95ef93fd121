"""Files on their way into jobs and out of them, with fal's Python client; told are the outputs.

files_in_jobs.py [folder]
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import fal_client

(folder,) = (json.loads(text) for text in sys.argv[1:])
local = Path(folder) / "hello.txt"
local.write_text("hello from a file")


def told(**outputs: Any) -> None:
    print(json.dumps(outputs))


def read(url: str) -> Any:
    return fal_client.run("acme/reads", {"image_url": url})


async def asynchronously() -> Any:
    url = await fal_client.upload_async(b"hello from asyncio", "text/plain")
    return await fal_client.subscribe_async("acme/reads", {"image_url": url})


uploaded = fal_client.upload_file(local)
told(
    uploaded=uploaded,
    by_run=read(uploaded),
    by_queue=fal_client.subscribe("acme/reads", {"image_url": uploaded}),
)
told(encoded=read(fal_client.encode_file(local)), asynchronous=asyncio.run(asynchronously()))
stored = fal_client.run("acme/stores", {"size": 2_000_000})
told(
    stored=stored,
    queued=fal_client.subscribe("acme/stores", {"size": 2_000_000}),
    again=read(stored["file"]["url"]),
)
