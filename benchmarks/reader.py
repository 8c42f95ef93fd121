"""The HTTP viewer: a raw socket in a process of its own, so that no client library is measured.

Each request has a fresh connection. While a stream flows the reader only stores what recv gives it
with the time; `transcript.py` reads it afterwards.
"""

import json
import socket
import sys
import time
from typing import Any

from benchmarks.actor import Reply, serve
from benchmarks.payload import fault_of
from benchmarks.transcript import Answer, Arrival, read_answer

TASK = "bench/source"
RECV_BYTES = 1 << 18


class Reader:
    """Submits and watches at one web tier."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def first_events(self, calls: int, is_direct: bool, linger_s: float) -> Reply:
        """From before the POST to the first event that rank 0 streamed, `calls` times; milliseconds."""
        waits_ms, events = [], []
        for n in range(calls):
            began_ns = time.monotonic_ns()
            arrivals = self._watch({"mode": "paced", "count": 1, "first": n, "linger_s": linger_s}, is_direct)
            waits_ms.append((arrivals[0].at_ns - began_ns) / 1e6)
            events += [arrival.data for arrival in arrivals]
        return {"ms": waits_ms, "fault": fault_of(events, calls)}

    def paced(self, count: int, every_s: float, linger_s: float) -> Reply:
        """Ways of stamped events from add_streaming_result to this viewer; milliseconds."""
        call = {"mode": "paced", "count": count, "every_s": every_s, "linger_s": linger_s}
        arrivals = self._watch(call, is_direct=False)
        fault = fault_of([arrival.data for arrival in arrivals], count)
        return {"ms": [(arrival.at_ns - arrival.data["at_ns"]) / 1e6 for arrival in arrivals], "fault": fault}

    def burst(self, count: int) -> Reply:
        """A burst through the whole way; CLOCK_MONOTONIC of its last event here, in ns."""
        began_ns, arrivals = self._watch_burst(count)
        fault = fault_of([arrival.data for arrival in arrivals], count)
        ended_ns = arrivals[-1].at_ns if arrivals else 0
        return {"received": len(arrivals), "began_ns": began_ns, "ended_ns": ended_ns, "fault": fault}

    def _watch_burst(self, count: int) -> tuple[int, list[Arrival]]:
        arrivals = self._stream({"mode": "burst", "count": count}, is_direct=False).arrivals
        end = arrivals[-1]
        return end.data["output"]["began_ns"], results_of(arrivals)

    def _watch(self, call: dict[str, Any], is_direct: bool) -> list[Arrival]:
        return results_of(self._stream(call, is_direct).arrivals)

    def _stream(self, call: dict[str, Any], is_direct: bool) -> Answer:
        if is_direct:
            return self._request("POST", f"/run/{TASK}/stream", call)
        job = self._submit({"task": TASK, "input": call})
        return self._request("GET", f"/jobs/{job}/stream")

    def _submit(self, body: dict[str, Any]) -> str:
        raw = b"".join(data for _, data in self._exchange("POST", "/jobs", body))
        head, _, text = raw.partition(b"\r\n\r\n")
        if b" 202 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(raw.decode(errors="replace"))
        return str(json.loads(text)["job_id"])

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        recorded = self._exchange(method, path, body)
        answer = read_answer(recorded)
        if answer.status != 200:
            raise RuntimeError(b"".join(data for _, data in recorded).decode(errors="replace"))
        return answer

    def _exchange(self, method: str, path: str, body: dict[str, Any] | None) -> list[tuple[int, bytes]]:
        """One request on a fresh connection, recorded until the server closes it."""
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: */*\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        recorded = []
        with socket.create_connection(self._address, timeout=60) as connection:
            connection.sendall(head.encode() + content)
            while data := connection.recv(RECV_BYTES):
                recorded.append((time.monotonic_ns(), data))
        return recorded


def results_of(arrivals: list[Arrival]) -> list[Arrival]:
    """What rank 0 streamed: events of the default kind, without a direct stream's output at its end."""
    return [arrival for arrival in arrivals if arrival.kind == "" and "n" in arrival.data]


if __name__ == "__main__":
    reader = Reader(sys.argv[1], int(sys.argv[2]))
    serve([reader.first_events, reader.paced, reader.burst])
