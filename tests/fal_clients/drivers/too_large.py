"""Uploads of a file over 100 MiB: one line for each way, with what was raised.

too_large.py [path]
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import fal_client

(path,) = (json.loads(text) for text in sys.argv[1:])


def told(upload: Callable[[], Any]) -> None:
    try:
        upload()
    except fal_client.client.FalClientHTTPError as error:
        print(json.dumps([error.status_code, error.error_type, error.message]))


told(lambda: fal_client.upload_file(path))
told(lambda: asyncio.run(fal_client.upload_file_async(path)))
told(lambda: fal_client.upload_file(path, repository="fal"))
