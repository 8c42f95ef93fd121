"""A task under test, warm: loaded at its first run, kept for the next ones.

What the two ways of running it have in common: how an input is checked, what a call is made of. The
ways themselves are in `here.py` (one rank, in this process) and `ranks.py` (a group of processes).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from rankcast.errors import NotATask
from rankcast.gpu_worker.files import FileRules
from rankcast.gpu_worker.load import TaskClass, task_class
from rankcast.gpu_worker.rehearsal import RehearsedCall
from rankcast.tasks.declare import declaration_of
from rankcast.tasks.disk import remove
from rankcast.tasks.job import new_job_id, new_token
from rankcast.tasks.schema import Validator
from rankcast.tasks.submit import encode_input
from rankcast.testing.ran import Ear, Folder, Ran


class Rehearsal(ABC):
    """A task under test; made by `warm`. Use it as a context manager: at the end it runs `teardown`."""

    def __init__(self, cls: type) -> None:
        if declaration_of(cls) is None:
            raise NotATask(cls)
        self._task: TaskClass = task_class(cls.__module__, cls)
        self._validator = Validator(self._task.input_schema)
        self._folder = Folder()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        last_checkpoint: Path | str | None = None,
        cancel_after: int | None = None,
        **fields: Any,
    ) -> Ran:
        """Run the task once with this input, one mapping or keywords; `rankcast.testing.run` has the rest."""
        if input is not None and fields:
            raise TypeError("give the task's input as one mapping or as keywords, not both")
        if cancel_after is not None and cancel_after < 0:
            raise ValueError(f"cancel_after is a number of events, not {cancel_after}")
        text = self._checked(fields if input is None else dict(input))
        call = self._call(text, last_checkpoint, cancel_after)
        ear = Ear(call)
        try:
            return ear.ran(self._play(call, ear), self._folder)
        finally:
            remove(self._folder.scratch)

    @abstractmethod
    def close(self) -> None:
        """Run `teardown` and let go of all that runs. Does no harm twice."""

    @abstractmethod
    def _play(self, call: RehearsedCall, ear: Ear) -> bytes | None:
        """Load the task if it is not, make the call; its output, None if it was cancelled. RunFailed."""

    def _checked(self, input: dict[str, Any]) -> str:
        """As a submit does it."""
        text = encode_input(input)
        self._validator.check(orjson.loads(text))
        return text.decode()

    def _call(self, text: str, last_checkpoint: Path | str | None, cancel_after: int | None) -> RehearsedCall:
        # A job with a checkpoint has had an attempt that saved it.
        attempt, resumes_from = 1, None
        if last_checkpoint is not None:
            attempt, resumes_from = 2, {"path": str(Path(last_checkpoint).resolve(strict=True)), "attempt": 1}
        return RehearsedCall(
            job_id=new_job_id(),
            fence=attempt,
            token=new_token(),
            attempt=attempt,
            input=text,
            checkpoints=str(self._folder.path),
            resumes_from=resumes_from,
            files=asdict(FileRules(artifacts=str(self._folder.artifacts), scratch=str(self._folder.scratch))),
            cancel_after=cancel_after,
        )
