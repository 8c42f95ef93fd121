"""The catalogue: what can break, where it is injected, and what must become of the job it hits.

A fault is injected while its probe is in a phase, one at a time; then the probe is let go, and whatever
was broken is started again. What must be true of *every* job, whatever broke, is the checker's affair.
"""

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from helpers import wait_until
from workers import kill

from chaos.clients import Clients
from chaos.parts import Host
from chaos.phases import PHASES, Probe
from chaos.system import System
from rankcast.tasks.celery_app import make_app, wake
from rankcast.tasks.settings import Settings

#: A lease, the grace and the sweep after it, and a busy machine.
TAKEOVER_TIMEOUT_S = 45.0
WITH_RANKS = PHASES[PHASES.index("setup") :]
IN_CALL = ("running", "collective", "publishing")
CLAIMED = PHASES[1:]
#: As long as a process keeps what it may have to tell Redis again.
REDO_S = 5.0
FORGOTTEN_JOBS = 6


@dataclass(kw_only=True)
class Hit:
    """A fault on its way: on which system, which probe, by which dice."""

    system: System
    clients: Clients
    probe: Probe
    rng: random.Random
    #: Found while it was injected, such as processes that outlived a kill.
    violations: list[str] = field(default_factory=list)

    @property
    def host(self) -> Host:
        assert self.probe.host is not None, f"no host has a job that is {self.probe.phase}"
        return self.probe.host


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`inject` breaks it. `ends_as` and `losses` are what the probe may come to; by phase where that
    differs."""

    name: str
    inject: Callable[[Hit], None]
    phases: tuple[str, ...] = PHASES
    ends_as: str = "succeeded"
    losses: frozenset[int] = frozenset({0})
    losses_in: Mapping[str, frozenset[int]] = field(default_factory=dict)
    #: The fault is one only if nobody died in the seconds before who might have to tell Redis again.
    needs_keepers: bool = False

    def expected(self, phase: str) -> tuple[str, frozenset[int]]:
        return self.ends_as, self.losses_in.get(phase, self.losses)


NONE, ONE, EITHER = frozenset({0}), frozenset({1}), frozenset({0, 1})


def _let_redis_write(hit: Hit) -> None:
    """For what needs a write itself: then it comes while the flush is under way."""
    if hit.probe.phase == "flush":
        hit.probe.release()


def _signal_rank(hit: Hit, rank: int, how: signal.Signals) -> None:
    pid = hit.probe.ranks[rank]
    for process in hit.host.family():
        if process.pid == pid:
            process.send_signal(how)


@contextlib.contextmanager
def _awaiting_another_attempt(hit: Hit) -> Iterator[None]:
    """What is done inside ends the attempt; returns when the job has another, or has ended."""
    before = hit.system.record(hit.probe.job.job_id)
    yield

    def has_moved_on() -> bool:
        record = hit.system.record(hit.probe.job.job_id)
        assert record is not None
        assert before is not None
        return record.fence != before.fence or record.state.is_terminal

    wait_until(has_moved_on, "another attempt at a job", timeout_s=TAKEOVER_TIMEOUT_S)


def _first_rank_killed(hit: Hit) -> None:
    _signal_rank(hit, 0, signal.SIGKILL)


def _last_rank_killed(hit: Hit) -> None:
    _signal_rank(hit, max(hit.probe.ranks), signal.SIGKILL)


def _rank_frozen(hit: Hit) -> None:
    """For good: it must be seen, or somebody would wait for it for ever."""
    with _awaiting_another_attempt(hit):
        _signal_rank(hit, hit.rng.choice(list(hit.probe.ranks)), signal.SIGSTOP)


def _forkserver_killed(hit: Hit) -> None:
    """Its ranks hear of it when it is gone, which takes a large process a moment."""
    kill(hit.host.forkserver().pid)


def _worker_killed(hit: Hit) -> None:
    hit.violations += [f"left by a killed worker: {line}" for line in hit.host.kill()]


def _worker_frozen(hit: Hit) -> None:
    """With its ranks, until another has its job; then it thaws and tries to go on."""
    with _awaiting_another_attempt(hit):
        hit.host.send_all(signal.SIGSTOP)
        if hit.probe.phase in ("queued", "flush"):
            # It waits for others that are held, or for a Redis that takes writes: the next attempt, too.
            hit.probe.release()
    hit.host.send_all(signal.SIGCONT)


def _worker_drained(hit: Hit, *, times: int = 1) -> None:
    """SIGTERM; if its parent stands still to hold the probe, it hears of it when it goes on."""
    for _ in range(times):
        hit.host.send(signal.SIGTERM)
    if hit.probe.phase in ("starting", "flush", "finish"):
        hit.probe.release()
    hit.violations += [f"after a drain: {line}" for line in hit.host.wait_end()]


def _worker_hurried(hit: Hit) -> None:
    """A second SIGTERM right behind the first: end now."""
    _worker_drained(hit, times=2)


def _web_killed(hit: Hit) -> None:
    web = hit.rng.choice(hit.system.webs)
    web.send_all(signal.SIGKILL)
    hit.violations += [f"left by a killed web tier: {line}" for line in web.kill()]


def _web_ended(hit: Hit) -> None:
    web = hit.rng.choice(hit.system.webs)
    hit.violations += [f"after a SIGTERM: {line}" for line in web.end()]


def _redis_killed(hit: Hit) -> None:
    hit.system.redis.kill()
    time.sleep(hit.rng.random())
    hit.system.redis.start()
    hit.system.redis.wait_ready()


def _redis_torn(hit: Hit) -> None:
    """Killed, and the last bytes of its log with it."""
    hit.system.redis.kill()
    hit.system.redis.tear_log(7)
    hit.system.redis.start()
    hit.system.redis.wait_ready()


def _redis_forgets(hit: Hit) -> None:
    """Killed on a slow disk: of the last jobs that it accepted nothing was written yet. Their clients are
    there when it comes back."""
    redis = hit.system.redis
    written = redis.log_size()
    for _ in range(FORGOTTEN_JOBS):
        hit.clients.watch(hit.clients.submit("chaos/steps", {"steps": 3, "delay_s": 0.0}), cuts=0.5)
    cancelled = hit.clients.submit("chaos/steps", {"steps": 3, "delay_s": 0.0})
    redis.kill()
    redis.tear_log(max(0, redis.log_size() - written))
    redis.start()
    hit.clients.cancel(cancelled)
    redis.wait_ready()


def _redis_stalled(hit: Hit) -> None:
    hit.system.redis.send(signal.SIGSTOP)
    time.sleep(2)
    hit.system.redis.send(signal.SIGCONT)


def _connections_cut(hit: Hit) -> None:
    for _ in range(3):
        for kind in ("normal", "pubsub"):
            hit.system.redis.client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        time.sleep(0.1)


def _messages_tripled(hit: Hit) -> None:
    _let_redis_write(hit)
    settings = Settings(redis_url=hit.system.redis.url, broker_url=hit.system.redis.url)
    app = make_app(settings)
    for _ in range(3):
        wake(app, task=hit.probe.job.task, job_id=hit.probe.job.job_id)
    app.close()


def _cancelled(hit: Hit) -> None:
    _let_redis_write(hit)
    hit.clients.cancel(hit.probe.job)


FAULTS = (
    Fault(
        name="rank 0 killed",
        inject=_first_rank_killed,
        phases=WITH_RANKS,
        losses=ONE,
        losses_in={"finish": NONE},
    ),
    Fault(
        name="last rank killed",
        inject=_last_rank_killed,
        phases=WITH_RANKS,
        losses=ONE,
        # It had come back from its call: the others may be quicker than the news of its end.
        losses_in={"flush": EITHER, "finish": NONE},
    ),
    Fault(name="rank frozen", inject=_rank_frozen, phases=IN_CALL, losses=ONE),
    Fault(
        name="forkserver killed",
        inject=_forkserver_killed,
        phases=CLAIMED,
        losses=ONE,
        losses_in={"starting": EITHER, "flush": EITHER, "finish": NONE},
    ),
    Fault(name="worker killed", inject=_worker_killed, losses=ONE, losses_in={"queued": NONE}),
    Fault(name="worker frozen, thawed", inject=_worker_frozen, losses=ONE, losses_in={"queued": NONE}),
    Fault(name="worker drained", inject=_worker_drained),
    Fault(name="worker told twice", inject=_worker_hurried),
    Fault(name="web tier killed", inject=_web_killed),
    Fault(name="web tier ended", inject=_web_ended),
    Fault(name="Redis killed", inject=_redis_killed, needs_keepers=True),
    Fault(name="Redis killed, log torn", inject=_redis_torn, needs_keepers=True),
    # Where nothing runs: what was submitted in the lost seconds begins anew, also if its end was seen.
    Fault(name="Redis killed, jobs lost", inject=_redis_forgets, phases=("queued",), needs_keepers=True),
    Fault(name="Redis stalled", inject=_redis_stalled),
    Fault(name="connections cut", inject=_connections_cut),
    Fault(name="wake-ups tripled", inject=_messages_tripled),
    Fault(name="cancel", inject=_cancelled, ends_as="cancelled"),
)
