"""What is running while rows are measured: ours and the peers, each started when a row first asks."""

import sys
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.actor import Actor
from benchmarks.crowd_web import CrowdWeb
from benchmarks.deployment import Deployment
from benchmarks.peers.bare_hub import BareHub
from benchmarks.peers.environment import fal_python
from benchmarks.peers.nchan import Nchan
from benchmarks.system import System

#: Ranks of all contenders compute on one thread each.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


class Bench:
    """Starts on first use, ends all of it on exit. Logs of all processes lie in `logs`."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._running = ExitStack()
        #: By the slots of their workers.
        self._submitters: dict[int, Actor] = {}
        self._celeries: dict[int, Actor] = {}

    @cached_property
    def system(self) -> System:
        return self._running.enter_context(System(self.logs))

    @cached_property
    def one_worker(self) -> Deployment:
        """For faults that a deployment of one worker outlives."""
        deployment = self._running.enter_context(Deployment(self.logs))
        deployment.workers("gpu-1")
        return deployment

    @cached_property
    def crowd_web(self) -> CrowdWeb:
        return self._running.enter_context(CrowdWeb(self.logs / "crowds"))

    @cached_property
    def bare_hub(self) -> BareHub:
        return self._running.enter_context(BareHub(self.logs / "bare_hub"))

    @cached_property
    def nchan(self) -> Nchan:
        return self._running.enter_context(Nchan(self.logs / "nchan"))

    @cached_property
    def reader(self) -> Actor:
        return self._actor("reader", "127.0.0.1", str(self.system.port))

    @cached_property
    def rank_group(self) -> Actor:
        return self._actor("rank_group")

    def submitter(self, slots: int) -> Actor:
        """To a deployment with so many slots."""
        if slots not in self._submitters:
            logs = self.logs / f"slots{slots}"
            logs.mkdir(exist_ok=True)
            system = self.system if slots == 1 else self._running.enter_context(System(logs, slots=slots))
            actor = self._actor("submitter", "127.0.0.1", str(system.port), role=str(slots))
            self._submitters[slots] = actor
        return self._submitters[slots]

    def celery(self, slots: int) -> Actor:
        if slots not in self._celeries:
            url = self.system.redis_url
            self._celeries[slots] = self._actor("peers.celery_noop", url, str(slots), role=str(slots))
        return self._celeries[slots]

    @cached_property
    def spawned_ranks(self) -> Actor:
        return self._actor("peers.spawned_ranks")

    @cached_property
    def redis_publisher(self) -> Actor:
        return self._actor("peers.redis_stream", self.system.redis_url, role="publisher")

    @cached_property
    def redis_subscriber(self) -> Actor:
        return self._actor("peers.redis_stream", self.system.redis_url, role="subscriber")

    @cached_property
    def floors(self) -> Actor:
        return self._actor("peers.floors", self.system.redis_url, str(self.logs))

    @cached_property
    def fal_distributed(self) -> Actor:
        return self._actor("peers.fal_distributed", python=fal_python())

    def _actor(self, module: str, *args: str, role: str = "", python: str = sys.executable) -> Actor:
        log = self.logs / f"{module}{role}.log"
        actor = Actor(f"benchmarks.{module}", *args, log=log, python=python, env=ONE_THREAD)
        return self._running.enter_context(actor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._running.close()
