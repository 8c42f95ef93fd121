"""httpx-sse, which leaves it to its users to come back."""

import time

import httpx
from httpx_sse import connect_sse
from telling import CURSOR, HEADERS, JOB, URL, tell, tell_end

cursor, pause_s, has_end = CURSOR, 1.0, False
# Its own 5 s would take the time between two keepalives for a dead line.
with httpx.Client(base_url=URL, timeout=httpx.Timeout(10, read=45), headers=HEADERS) as client:
    while not has_end:
        headers = {} if cursor is None else {"Last-Event-ID": cursor}
        try:
            with connect_sse(client, "GET", f"/jobs/{JOB}/stream", headers=headers) as source:
                source.response.raise_for_status()
                for event in source.iter_sse():
                    cursor = event.id
                    tell(event.id, "" if event.event == "message" else event.event, event.json())
                    pause_s = pause_s if event.retry is None else event.retry / 1000
                    has_end = event.event == "end"
        except httpx.TransportError:
            pass
        if not has_end:
            time.sleep(pause_s)
tell_end("at its end event")
