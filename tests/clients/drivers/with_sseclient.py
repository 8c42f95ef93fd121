"""sseclient-py over requests, which leaves it to its users to come back."""

import json
import time

import requests
from sseclient import SSEClient
from telling import CURSOR, HEADERS, JOB, URL, tell, tell_end

cursor, pause_s, has_end = CURSOR, 1.0, False
while not has_end:
    headers = {**HEADERS, "Accept": "text/event-stream"}
    if cursor is not None:
        headers["Last-Event-ID"] = cursor
    try:
        with requests.get(f"{URL}/jobs/{JOB}/stream", headers=headers, stream=True, timeout=45) as response:
            response.raise_for_status()
            for event in SSEClient(response).events():
                cursor = event.id
                tell(event.id, "" if event.event == "message" else event.event, json.loads(event.data))
                pause_s = pause_s if event.retry is None else int(event.retry) / 1000
                has_end = event.event == "end"
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        pass
    if not has_end:
        time.sleep(pause_s)
tell_end("at its end event")
