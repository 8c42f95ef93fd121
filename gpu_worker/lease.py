"""Leases: the right to work on a job, renewed from a thread of its own over a connection of its own.

Neither a busy interpreter nor a blocked socket elsewhere in the worker may cost a job its lease.
An attempt hears from here that its job was cancelled or is lost, whichever way the news came: with
a renewal, or on the worker's control channel.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from rankcast.gpu_worker.ticker import Ticker
from rankcast.tasks.connect import connect
from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.job import Claim, Renewal
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore

#: So often in the time of one lease.
RENEWALS_PER_LEASE = 15
#: A socket that is stuck for longer than this part of a lease is given up.
TIMEOUTS_PER_LEASE = 5

logger = logging.getLogger(__name__)


class Told(Protocol):
    """What hears of a job's fate. Called from other threads; must return at once, may be repeated."""

    def cancel(self) -> None:
        """Somebody asked for the job to end."""

    def lose(self) -> None:
        """The job is another attempt's, or has ended: stop and write nothing more."""


class LeaseKeeper:
    """Renews what it was told to keep. Safe to use from any thread."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        timeout_s = settings.lease_s / TIMEOUTS_PER_LEASE
        self._redis = connect(settings.redis_url, socket_timeout_s=timeout_s)
        self._store = JobStore(self._redis, settings)
        self._lease_s = settings.lease_s
        self._clock = clock
        self._kept: dict[str, tuple[Claim, Told]] = {}
        self._lock = threading.Lock()
        self._renewed_at = clock()
        self._ticker = Ticker("lease", settings.lease_s / RENEWALS_PER_LEASE, self.renew)

    def start(self) -> None:
        self._ticker.start()

    def stop(self) -> None:
        self._ticker.stop()
        self._redis.close()

    def keep(self, claim: Claim, told: Told) -> None:
        """Renew this claim from now on, and tell `told` what is heard of its job."""
        with self._lock:
            # The thread only needs the claim's identity, and inputs may be large.
            self._kept[claim.job_id] = replace(claim, input=b""), told

    def drop(self, claim: Claim) -> None:
        """Let go of a job that has ended or was given back."""
        with self._lock:
            kept = self._kept.get(claim.job_id)
            if kept is not None and kept[0].token == claim.token:
                del self._kept[claim.job_id]

    def cancel(self, job_id: str) -> None:
        """Pass on that a cancel was asked for, if the job is here."""
        with self._lock:
            kept = self._kept.get(job_id)
        if kept is not None:
            kept[1].cancel()

    def renew(self) -> None:
        """Renew every lease in one call, and tell the attempts what came of it."""
        with self._lock:
            kept = list(self._kept.values())
        if not kept:
            self._renewed_at = self._clock()
            return
        try:
            renewals = self._store.renew([claim for claim, _ in kept])
        except StoreUnavailable:
            self._warn_if_late(kept)
            raise
        self._renewed_at = self._clock()
        for claim, told in kept:
            match renewals[claim.job_id]:
                case Renewal.CANCEL_REQUESTED:
                    told.cancel()
                case Renewal.LOST if self._still_keeps(claim):
                    logger.warning("job %s: attempt %d is no longer ours", claim.job_id, claim.attempt)
                    told.lose()

    def _still_keeps(self, claim: Claim) -> bool:
        """Whether a loss is news: a job that ended here while the renewal was under way is LOST too."""
        with self._lock:
            kept = self._kept.get(claim.job_id)
        return kept is not None and kept[0].token == claim.token

    def _warn_if_late(self, kept: Sequence[tuple[Claim, Told]]) -> None:
        silent_s = self._clock() - self._renewed_at
        if silent_s > self._lease_s / 2:
            logger.error("no lease renewed for %.1f s; %d jobs may be taken over", silent_s, len(kept))
