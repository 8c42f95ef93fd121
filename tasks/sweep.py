"""What ran out or is too much: somebody must notice, also when the last worker has died.

Every worker and every web process sweeps. Each sweep is a Lua script over an index by time, so
any number of them may run at once, and finding nothing costs four short calls.

Nobody is blamed for an outage. Each sweep leaves its time and the server's `run_id`; where the one
before it is long ago, or of another run, Redis was away, and nobody could renew or start a job: then
nothing is taken for the length of a lease.
"""

import logging
import threading
from typing import NamedTuple

import redis

from rankcast.tasks.connect import Scripts
from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.settings import Settings

log = logging.getLogger(__name__)

#: Jobs that one script call handles; it blocks Redis for so long and no longer.
BATCH = 100
#: The same for logs that are trimmed: one of 64 MiB takes 10 ms.
LOGS_BATCH = 10
INTERVAL_S = 1.0
#: Sweeps of the only process may be late by so many intervals before that counts as an outage.
LATE_INTERVALS = 3


class Swept(NamedTuple):
    """What one sweep found: leases taken, start deadlines over, ended jobs forgotten, logs trimmed."""

    leases: int
    deadlines: int
    ended: int
    logs: int


class Sweep:
    """Ends or queues again what outlived its time, by Redis' clock."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._scripts = Scripts(client)
        self._max_losses = settings.max_losses
        self._max_log_bytes = "" if settings.max_ended_log_bytes is None else settings.max_ended_log_bytes
        longest_pause_s = max(settings.lease_s / 3, LATE_INTERVALS * INTERVAL_S)
        self._grace = (round(settings.lease_s * 1000), round(longest_pause_s * 1000))

    def run_once(self) -> Swept:
        """Sweep all that is due; of leases and start deadlines nothing in the grace after an outage.
        StoreUnavailable.
        """
        return Swept(
            leases=self._drain("sweep_leases", *self._grace, self._max_losses),
            deadlines=self._drain("sweep_deadlines", *self._grace),
            ended=self._drain("sweep_ended"),
            logs=self._drain("sweep_logs", self._max_log_bytes, batch=LOGS_BATCH),
        )

    def _drain(self, script: str, *args: int | str, batch: int = BATCH) -> int:
        total = handled = int(self._scripts.run(script, batch, *args))
        while handled == batch:
            handled = int(self._scripts.run(script, batch, *args))
            total += handled
        return total


class SweepThread:
    """Runs a sweep every second until stopped; lives through outages of Redis.

    A thread like any other, so gevent's monkeypatching turns it into a greenlet.
    """

    def __init__(self, sweep: Sweep, interval_s: float = INTERVAL_S) -> None:
        self._sweep = sweep
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rankcast-sweep", daemon=True)

    def start(self) -> None:
        """Begin; call it in the process that sweeps, after any fork."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread, and wait for the sweep under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        is_away = False
        while not self._stopping.wait(self._interval_s):
            try:
                swept = self._sweep.run_once()
            except StoreUnavailable as error:
                if not is_away:
                    log.warning("sweep waits for Redis: %s", error)
                is_away = True
            except Exception:
                # Whatever it is, the next second may be better, and a job without a sweep waits for ever.
                log.exception("sweep failed")
            else:
                is_away = False
                if any(swept):
                    log.info(
                        "swept %d leases, %d start deadlines, %d ended jobs, %d logs of ended jobs", *swept
                    )
