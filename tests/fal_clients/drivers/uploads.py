"""Uploads by every function of fal's Python client; told are the URLs, by what was done.

uploads.py [is_async, folder]
"""

import asyncio
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import fal_client
from fal_client.client import StorageACL, StorageSettings
from PIL import Image

is_async, folder = (json.loads(text) for text in sys.argv[1:])
client = fal_client.AsyncClient() if is_async else fal_client.SyncClient()
cat = Path(folder) / "my cat.png"
Image.new("RGB", (3, 2), "red").save(cat)
settings = StorageSettings(expires_in="1h", initial_acl=StorageACL(default="hide"))


async def done(called: Any) -> str:
    return str(await called if inspect.isawaitable(called) else called)


async def main() -> None:
    urls = {
        "text": await done(client.upload("hello", "text/plain")),
        "named": await done(client.upload(b"hello", "text/plain", file_name="a.txt")),
        "file": await done(client.upload_file(cat)),
        "image": await done(client.upload_image(Image.new("RGB", (3, 2)), format="webp")),
        "fallback": await done(client.upload(b"hello", "text/plain", repository="fal")),
        "settings": await done(client.upload(b"hello", "text/plain", lifecycle=settings)),
        "both": await done(client.upload(b"hello", "text/plain", repository="fal", lifecycle=settings)),
    }
    print(json.dumps(urls))


asyncio.run(main())
