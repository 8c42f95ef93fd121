"""Who submits many small jobs over HTTP and waits for the end of all: how many a second.

    python -m benchmarks.submitter HOST PORT

Keeps its connections, and submits from two threads, so that a slot never waits for a submit.
"""

import http.client
import json
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.actor import Reply, serve

TASK = "bench/noop"
THREADS = 2
#: More than any deployment here has slots: when the last so many jobs have ended, all have.
LAST = 16


class Submitter:
    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def jobs(self, count: int) -> Reply:
        """Jobs a second, from before the first submit to the end of the last job."""
        began = time.monotonic()
        with ThreadPoolExecutor(THREADS) as pool:
            parts = pool.map(self._submit, [range(first, count, THREADS) for first in range(THREADS)])
            ids = [job_id for pair in zip(*parts, strict=False) for job_id in pair]
        for job_id in ids[-LAST:]:
            self._wait(job_id)
        rate = len(ids) / (time.monotonic() - began)
        return {"rate": rate, "fault": self._fault(ids, count)}

    def output(self, task: str, input: dict[str, Any]) -> Reply:
        """What one job returns."""
        connection = http.client.HTTPConnection(*self._address, timeout=180)
        connection.request("POST", f"/run/{task}", json.dumps(input), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{task} answers {answer.status}: {told}")
        return {"output": told}

    def _submit(self, numbers: Iterable[int]) -> list[str]:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        ids = []
        for number in numbers:
            body = json.dumps({"task": TASK, "input": {"number": number}})
            connection.request("POST", "/jobs", body, {"Content-Type": "application/json"})
            ids.append(json.loads(connection.getresponse().read())["job_id"])
        connection.close()
        return ids

    def _wait(self, job_id: str) -> None:
        """Until its stream ends: it replays what was before."""
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        connection.request("GET", f"/jobs/{job_id}/stream")
        connection.getresponse().read()
        connection.close()

    def _fault(self, ids: list[str], count: int) -> str | None:
        """What is wrong with the outputs: each job returns the number that it was given."""
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        outputs = []
        for job_id in ids:
            connection.request("GET", f"/jobs/{job_id}/result")
            answer = connection.getresponse()
            outputs.append((answer.status, json.loads(answer.read())))
        connection.close()
        expected = [(200, number) for number in range(count)]
        wrong = sum(found != wanted for found, wanted in zip(sorted(outputs), expected, strict=False))
        if len(outputs) != count or wrong:
            return f"{wrong + abs(count - len(outputs))} of {count} jobs have no right output"
        return None


if __name__ == "__main__":
    submitter = Submitter(sys.argv[1], int(sys.argv[2]))
    serve([submitter.jobs, submitter.output])
