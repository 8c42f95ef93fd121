"""What a job tells, as its watchers are given it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rankcast.tasks.event import END, GAP, RESET, RESULT, STATE


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a job's event log.

    `id` is its place there, opaque, and what `Job.stream(last_event_id=...)` takes. `kind` is "" for
    what the task streamed, else "state", "checkpoint" (the task saved one), "end" (exactly one, the
    last), "gap" (events that were asked for are no longer kept) or "reset" (the log was lost and begins
    anew). `data` is its JSON.
    """

    id: str
    kind: str
    data: Any

    @property
    def is_result(self) -> bool:
        """Whether the task's own code streamed it, with `add_streaming_result`."""
        return self.kind == RESULT

    @property
    def is_end(self) -> bool:
        """Whether it is the job's last; `state` says how it ended."""
        return self.kind == END

    @property
    def is_gap(self) -> bool:
        """Whether it stands for events that are no longer kept: those after `data["after"]`, up to
        and with `data["to"]`."""
        return self.kind == GAP

    @property
    def is_reset(self) -> bool:
        """Whether what was seen before is void: what follows is from the log's start."""
        return self.kind == RESET

    @property
    def state(self) -> str | None:
        """The job's new state, of the kinds "state" and "end": queued, starting, running, succeeded,
        failed, cancelled, or lost where the server no longer knows it."""
        told = self._members().get("state") if self.kind in (STATE, END) else None
        return None if told is None else str(told)

    @property
    def error(self) -> dict[str, Any] | None:
        """Why the job did not succeed, of its end: kind, message, and what else is known."""
        told = self._members().get("error") if self.is_end else None
        return dict(told) if isinstance(told, Mapping) else None

    def _members(self) -> Mapping[str, Any]:
        return self.data if isinstance(self.data, Mapping) else {}
