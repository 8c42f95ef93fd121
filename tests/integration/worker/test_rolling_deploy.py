"""Everything is replaced, one process after the other, while jobs come in: nobody notices."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from helpers import wait_until
from web_tier import Watch, WebTier, web_tier
from workers import Site, worker

from rankcast.tasks.event import END
from rankcast.tasks.state import JobState

INPUT = {"steps": 5, "delay_s": 0.05}


class Load:
    """Submits one job after the other, at the web processes that are there, as behind a load balancer:
    what nobody answered is sent again, under its key, to the next."""

    def __init__(self, webs: Sequence[WebTier]) -> None:
        #: Replaced, and never changed: another thread reads it.
        self.webs = tuple(webs)
        self._turn = 0
        self.jobs: list[str] = []
        self.statuses: Counter[int] = Counter()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._submit_all)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            self._thread.join()

    def _submit_all(self) -> None:
        while not self._is_over.wait(0.2):
            key = {"Idempotency-Key": f"deploy {len(self.jobs)}"}
            body = {"task": "acme/steps", "input": INPUT}
            answer = self._insist(lambda web, b=body, k=key: httpx.post(f"{web.url}/jobs", json=b, headers=k))
            self.statuses[answer.status_code] += 1
            self.jobs.append(answer.json()["job_id"])

    def _insist(self, call: Callable[[WebTier], httpx.Response]) -> httpx.Response:
        while True:
            self._turn += 1
            webs = self.webs
            try:
                return call(webs[self._turn % len(webs)])
            except httpx.TransportError:
                continue

    def has_more(self, count: int) -> Callable[[], bool]:
        """Whether so many jobs came in since this was called."""
        before = len(self.jobs)
        return lambda: len(self.jobs) >= before + count


def followed(webs: Sequence[WebTier], job_id: str, watch: Watch) -> list[Any]:
    """What a viewer has seen by the end, who goes on elsewhere when his process says goodbye."""
    frames = watch.to_end()
    while frames[-1].kind != END:
        again = Watch(webs[0].url, f"/jobs/{job_id}/stream", headers={"Last-Event-ID": frames[-1].id})
        frames = frames + again.to_end()
    return frames


def test_a_rolling_deploy_loses_no_job_and_answers_nobody_with_an_error(site: Site, tmp_path: Path):
    """SIGTERM to each web process and each worker in turn, its replacement being up; and somebody watches
    from the first process to the last."""
    with ExitStack() as running:
        workers = [running.enter_context(worker(site.url, "steady.py", folder=tmp_path)) for _ in range(2)]
        webs = [running.enter_context(web_tier(site.url)) for _ in range(2)]
        load = Load(webs)
        job_id = site.submit("acme/steps", {"steps": 60, "delay_s": 0.1})
        watch = Watch(webs[0].url, f"/jobs/{job_id}/stream")
        with load.running():
            for old in webs:
                new = running.enter_context(web_tier(site.url))
                load.webs = (*(web for web in load.webs if web is not old), new)
                old.process.terminate()
                wait_until(load.has_more(3), "jobs come in")
            for leaving in workers:
                running.enter_context(worker(site.url, "steady.py", folder=tmp_path))
                assert leaving.stop() == 0
                wait_until(load.has_more(3), "jobs come in")
        records = [site.wait_ended(each) for each in (job_id, *load.jobs)]
        frames = followed(load.webs, job_id, watch)
    assert load.statuses.keys() == {202}
    assert len(set(load.jobs)) == len(load.jobs)
    assert {(record.state, record.losses) for record in records} == {(JobState.SUCCEEDED, 0)}
    assert all([event.kind for event in site.events(each)].count(END) == 1 for each in load.jobs)
    assert [frame.id for frame in frames] == [str(event.id) for event in site.events(job_id)]
