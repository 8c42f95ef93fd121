"""Rank groups in a test's hands; `from ranks import ...`."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from helpers import wait_until

from rankcast.gpu_worker.files import FileRules
from rankcast.gpu_worker.group import Outcome, RankGroup
from rankcast.gpu_worker.messages import Call
from rankcast.gpu_worker.supervision import Control
from rankcast.tasks.event import START, Event
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim, JobOptions, new_token
from rankcast.tasks.store import JobStore

TASKS = Path(__file__).parents[0] / "fixtures" / "tasks"
#: What can be forked; the rest is for tests that start a forkserver of their own.
FORKABLE = (
    "echoes",
    "draws",
    "fails_on_one_rank",
    "raises_everywhere",
    "cannot_start",
    "prints",
    "cannot_be_encoded",
    "is_async",
    "stops",
    "leaves_children",
    "leaves_threads",
    "returns_much",
    "saves",
    "stores",
)


def specs_of(*names: str) -> list[str]:
    return [str(TASKS / f"{name}.py") for name in names]


@dataclass
class Held:
    """A group in a test's hands."""

    group: RankGroup
    store: JobStore
    event_log: EventLog
    lines: list[tuple[int, str, str]]
    checkpoints: Path
    files: FileRules = field(default_factory=FileRules)
    #: Of the newest job.
    claim: Claim | None = None

    def run(
        self, control: Control | None = None, limits: dict[str, Any] | None = None, **given: Any
    ) -> Outcome:
        """Run a job with this input to its end."""
        text = json.dumps(given)
        task = self.group.task.name
        job_id = self.store.create(task=task, input=text.encode(), options=JobOptions()).job_id
        claim = self.store.claim(task=task, token=new_token(), worker="w", job_id=job_id, is_warm=True)
        assert claim is not None
        self.claim = claim
        self.store.start(claim)
        call = Call(
            job_id,
            claim.fence,
            claim.token,
            claim.attempt,
            text,
            str(self.checkpoints),
            files=asdict(self.files),
        )
        with control or Control() as heeded:
            return self.group.run(call, control=heeded, **(limits or {}))

    def value(self, **given: Any) -> Any:
        """What a call returns that succeeds."""
        outcome = self.run(**given)
        assert outcome.error is None
        assert outcome.output is not None
        return json.loads(outcome.output)

    @contextlib.contextmanager
    def running(self, **given: Any) -> Iterator["Going"]:
        """A call that has cast its first event, in a thread of its own."""
        going = Going(self, given)
        going.thread.start()
        wait_until(lambda: going.results(), "the first event")
        yield going
        going.thread.join()

    def events(self) -> list[Event]:
        assert self.claim is not None
        return self.event_log.read(self.claim.job_id, START, 100_000)

    def results(self) -> list[Any]:
        """What the newest job has cast so far."""
        return [json.loads(event.data or b"") for event in self.events() if not event.kind]


class Going:
    """A call that runs while the test does something to it."""

    def __init__(self, held: Held, given: dict[str, Any]) -> None:
        self.control = Control()
        self.outcome: Outcome | None = None
        self._held = held
        self.thread = threading.Thread(target=self._run, kwargs=given)

    def results(self) -> list[Any]:
        return self._held.results() if self._held.claim else []

    def _run(self, **given: Any) -> None:
        self.outcome = self._held.run(self.control, **given)
