"""What one worker process is told at its start, by `rankcast worker` or by the environment alone."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rankcast.gpu_worker.fetch import Host
from rankcast.gpu_worker.files import (
    FETCH_TIMEOUT_S,
    MAX_FETCH_BYTES,
    MAX_INLINE_EVENT_BYTES,
    MAX_INLINE_OUTPUT_BYTES,
    FileRules,
)
from rankcast.tasks.job import Claim
from rankcast.tasks.settings import Settings, cache_folder, host_name
from rankcast.tasks.shared import SharedFolder

D = TypeVar("D", float, None)
W = TypeVar("W", int, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Tasks, devices and slots of a worker. Times in seconds."""

    #: Python files or modules with `@task` classes.
    tasks: tuple[str, ...]
    #: GPUs by the number torch gives them: None is all that are visible, () is none (CPU).
    gpus: tuple[int, ...] | None = None
    #: GPUs of one slot; None is the largest world size among the tasks.
    slot_gpus: int | None = None
    #: Slots of a worker that runs on the CPU.
    cpu_slots: int = 1
    #: Tasks to load before the first job.
    warm: tuple[str, ...] = ()
    #: How long an unused group stays loaded.
    idle_ttl_s: float = 600.0
    #: What a drain leaves running jobs, before they go back to their queue; None is all they need.
    drain_timeout_s: float | None = None
    #: Development: several ranks on one GPU, over gloo.
    is_sharing_gpus: bool = False
    #: The folder that all hosts of the deployment see; None: there is none, and checkpoints go to this
    #: user's own place here.
    shared: Path | None = None
    #: That place.
    cache: Path = field(default_factory=lambda: cache_folder(os.environ))
    #: What an event, and the output, hold of images, tensors, arrays and bytes, as base64.
    max_inline_event_bytes: int = MAX_INLINE_EVENT_BYTES
    max_inline_output_bytes: int = MAX_INLINE_OUTPUT_BYTES
    #: Hosts that tasks may fetch inputs from, as fetch.Host reads them; and the limits of one such file.
    fetch_hosts: tuple[str, ...] = ()
    max_fetch_bytes: int = MAX_FETCH_BYTES
    fetch_timeout_s: float = FETCH_TIMEOUT_S
    host: str = field(default_factory=host_name)
    deployment: Settings = field(default_factory=Settings)

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "WorkerSettings":
        """Read RANKCAST_*; ValueError, with the variable's name, for what cannot be meant."""
        tasks = tuple(part for part in env.get("RANKCAST_TASKS", "").split(os.pathsep) if part)
        if not tasks:
            raise ValueError("no tasks to serve: give --tasks (RANKCAST_TASKS) a Python file or module")
        return cls(
            tasks=tasks,
            gpus=_gpus(env.get("RANKCAST_GPUS", "")),
            slot_gpus=_whole(env, "RANKCAST_SLOT_GPUS", None),
            cpu_slots=_whole(env, "RANKCAST_SLOTS", 1),
            warm=tuple(name.strip() for name in env.get("RANKCAST_WARM", "").split(",") if name.strip()),
            idle_ttl_s=_seconds(env, "RANKCAST_IDLE_TTL_S", 600.0),
            drain_timeout_s=_seconds(env, "RANKCAST_DRAIN_TIMEOUT_S", None),
            max_inline_event_bytes=_whole(env, "RANKCAST_MAX_INLINE_EVENT_BYTES", MAX_INLINE_EVENT_BYTES),
            max_inline_output_bytes=_whole(env, "RANKCAST_MAX_INLINE_OUTPUT_BYTES", MAX_INLINE_OUTPUT_BYTES),
            fetch_hosts=_hosts(env.get("RANKCAST_FETCH_HOSTS", "")),
            max_fetch_bytes=_whole(env, "RANKCAST_MAX_FETCH_BYTES", MAX_FETCH_BYTES),
            fetch_timeout_s=_seconds(env, "RANKCAST_FETCH_TIMEOUT_S", FETCH_TIMEOUT_S),
            is_sharing_gpus=env.get("RANKCAST_SHARE_GPU") == "1",
            shared=Path(env["RANKCAST_SHARED"]).absolute() if env.get("RANKCAST_SHARED") else None,
            cache=cache_folder(env),
            host=host_name(env),
            deployment=Settings.from_env(env),
        )

    @property
    def folder(self) -> SharedFolder | None:
        """The shared one, if there is one."""
        return None if self.shared is None else SharedFolder(self.shared)

    def file_rules(self, claim: Claim) -> FileRules:
        """What the ranks of an attempt are told. Asked for each, as a web tier may have come since."""
        folder = self.folder
        is_served = folder is not None and folder.is_served
        return FileRules(
            artifacts=str(folder.artifacts(claim.deployment)) if folder and is_served else None,
            uploads=str(folder.uploads_root) if folder and is_served else None,
            scratch=str(self.scratch / claim.worker / f"{claim.job_id}-{claim.fence}"),
            owner=claim.owner,
            fetch_hosts=self.fetch_hosts,
            max_fetch_bytes=self.max_fetch_bytes,
            fetch_timeout_s=self.fetch_timeout_s,
            max_inline_event_bytes=self.max_inline_event_bytes,
            max_inline_output_bytes=self.max_inline_output_bytes,
        )

    @property
    def scratch(self) -> Path:
        """Folders of workers on this host, by their ids, with what their attempts fetched."""
        return self.cache / "scratch"

    def checkpoints(self, deployment: str) -> Path:
        """The folder for the checkpoints of a deployment."""
        return SharedFolder(self.shared or self.cache).checkpoints(deployment)


def _gpus(text: str) -> tuple[int, ...] | None:
    """`0-3`, `0,2,5` or both; empty is all, `none` is the CPU."""
    if not text.strip():
        return None
    if text.strip() == "none":
        return ()
    gpus: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            gpus.extend(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        gpus = []
    if not gpus or len(set(gpus)) < len(gpus):
        raise ValueError(f"RANKCAST_GPUS: {text!r} does not list GPUs, such as '0-3', '0,2' or 'none'")
    return tuple(gpus)


def _hosts(text: str) -> tuple[str, ...]:
    entries = tuple(entry.strip() for entry in text.split(",") if entry.strip())
    for entry in entries:
        try:
            Host.parse(entry)
        except ValueError as error:
            raise ValueError(f"RANKCAST_FETCH_HOSTS: {error}") from None
    return entries


def _whole(env: Mapping[str, str], name: str, default: W) -> int | W:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{name}: {text!r} is not a whole number from 1")
    return int(text)


def _seconds(env: Mapping[str, str], name: str, default: D) -> float | D:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name}: {text!r} is not a number of seconds")
    return seconds
