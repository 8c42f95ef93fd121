"""Who submits many small jobs over HTTP and waits for the end of all.

    python -m benchmarks.submitter HOST PORT

Keeps its connections, and submits from two threads, so that a slot never waits for a submit.
"""

import http.client
import json
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from benchmarks.actor import Reply, serve

TASK = "bench/noop"
#: Before all that wait.
FIRST = {"priority": 0}
THREADS = 2
#: More than any deployment here has slots: when the last so many jobs have ended, all have.
LAST = 16
LOOK_EVERY_S = 0.02


class Submitter:
    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        #: The job that holds the slot.
        self._holder = ""

    def jobs(self, count: int) -> Reply:
        """Jobs a second, from before the first submit to the end of the last job."""
        began = time.monotonic()
        ids = self._submit_all(count)
        for job_id in ids[-LAST:]:
            self._wait(job_id)
        rate = len(ids) / (time.monotonic() - began)
        return {"rate": rate, "fault": self._fault(ids, count)}

    def hold(self) -> Reply:
        """Keep the one slot busy: what is submitted from now on waits."""
        self._holder = self._submit_holder()
        self._wait_until_held()
        return {}

    def jobs_before_others(self, count: int) -> Reply:
        """Milliseconds that a job takes which goes before all that wait: to submit it, and to run it.

        The slot is held while they are submitted and again behind the last of them, so nothing else runs
        meanwhile, and those that wait go on waiting.
        """
        began = time.monotonic()
        ids = self._submit_all(count, options=FIRST)
        submit_ms = (time.monotonic() - began) * 1000 / count
        before, self._holder = self._holder, self._submit_holder()
        self._cancel(before)
        for job_id in ids[-LAST:]:
            self._wait(job_id)
        self._wait_until_held()
        run_ms = self._span_s(ids) * 1000 / count
        return {"submit_ms": submit_ms, "run_ms": run_ms, "fault": self._fault(ids, count)}

    def release(self) -> Reply:
        """Let the slot go."""
        self._cancel(self._holder)
        return {}

    def output(self, task: str, input: dict[str, Any]) -> Reply:
        """What one job returns."""
        return {"output": self._ask("POST", f"/run/{task}", input)}

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON. RuntimeError where it is a refusal."""
        connection = http.client.HTTPConnection(*self._address, timeout=180)
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        if answer.status not in (200, 202):
            raise RuntimeError(f"{path} answers {answer.status}: {told}")
        return told

    def _submit_holder(self) -> str:
        job = {"task": TASK, "input": {"number": 0, "holds": True}, "options": FIRST}
        return str(self._ask("POST", "/jobs", job)["job_id"])

    def _wait_until_held(self) -> None:
        while self._ask("GET", f"/jobs/{self._holder}")["state"] != "running":
            time.sleep(LOOK_EVERY_S)

    def _cancel(self, job_id: str) -> None:
        self._ask("POST", f"/jobs/{job_id}/cancel")

    def _span_s(self, ids: list[str]) -> float:
        """From the first claim to the last end, on Redis' clock."""
        jobs = [self._ask("GET", f"/jobs/{job_id}") for job_id in ids]
        claimed = min(datetime.fromisoformat(job["claimed_at"]) for job in jobs)
        return (max(datetime.fromisoformat(job["ended_at"]) for job in jobs) - claimed).total_seconds()

    def _submit_all(self, count: int, **more: Any) -> list[str]:
        """Their ids, about in order."""
        with ThreadPoolExecutor(THREADS) as pool:
            shares = [range(first, count, THREADS) for first in range(THREADS)]
            parts = pool.map(lambda numbers: self._submit(numbers, **more), shares)
            return [job_id for pair in zip(*parts, strict=False) for job_id in pair]

    def _submit(self, numbers: Iterable[int], **more: Any) -> list[str]:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        ids = []
        for number in numbers:
            body = json.dumps({"task": TASK, "input": {"number": number}, **more})
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
    serve(
        [
            *(submitter.jobs, submitter.output),
            *(submitter.hold, submitter.jobs_before_others, submitter.release),
        ]
    )
