"""The name of every key and channel in Redis.

The Lua scripts compose the same names from the same prefix (`lua/prelude.lua`); a test compares
the two. A deployment's jobs live on one Redis primary, so no name carries a cluster hash tag.
"""

#: All keys begin with it.
PREFIX = "rankcast:"


class JobKeys:
    """The keys of one job. All of them get one EXPIREAT when the job ends."""

    __slots__ = ("events", "live", "logs", "marks", "record")

    def __init__(self, job_id: str) -> None:
        #: HASH, the record; its fields are listed in store.py.
        self.record = f"{PREFIX}job:{job_id}"
        #: STREAM, the event log.
        self.events = f"{self.record}:events"
        #: LIST of `event id,bytes`: where the log may be cut, oldest first.
        self.marks = f"{self.record}:marks"
        #: STREAM of printed lines.
        self.logs = f"{self.record}:logs"
        #: Channel of live.py's messages.
        self.live = f"{self.record}:live"


#: Counter: the order in which jobs were submitted.
ORDER = f"{PREFIX}order"
#: ZSET of claimed job ids by the end of their lease, in ms.
RUNNING = f"{PREFIX}running"
#: ZSET of job ids never started yet, by start deadline in ms.
DEADLINES = f"{PREFIX}deadlines"
#: ZSET of `task job_id`, and ` owner` where there is one, of ended jobs by expiry in ms; task and owner
#: are there to clean JOBS_OF and OWNED.
ENDED = f"{PREFIX}ended"
#: ZSET of all job ids by order of submission.
JOBS = f"{PREFIX}jobs"
#: HASH of the sweeps: `at`, ms of the newest; `run_id`, the server's then; `grace`, ms until which nothing
#: is taken for having run out; `met_run`, the newest run that any script has met, `met`, when, in ms.
SWEEPS = f"{PREFIX}sweeps"
#: String, no TTL: a random name, by which jobs' files are told from those of other deployments.
DEPLOYMENT = f"{PREFIX}deployment"
#: ZSET of ended jobs whose logs may be trimmed, by their end in ms; HASH of what each takes; the sum.
KEPT = f"{PREFIX}kept"
KEPT_BYTES = f"{KEPT}:bytes"
KEPT_TOTAL = f"{KEPT}:total"
#: HASH of API key id to its last use, in ms.
KEYS_USED = f"{PREFIX}keys:used"
#: HASH of task name to JSON of its TaskInfo. No TTL.
TASKS = f"{PREFIX}tasks"
#: ZSET of worker ids by last heartbeat, in ms.
WORKERS = f"{PREFIX}workers"


def QUEUED(task: str) -> str:
    """ZSET of queued job ids by `priority * 1e13 + order`, so a queue position is a ZRANK."""
    return f"{PREFIX}queued:{task}"


def JOBS_OF(task: str) -> str:
    """ZSET of one task's job ids by order of submission."""
    return f"{PREFIX}jobs:{task}"


def OWNED(owner: str) -> str:
    """ZSET of the job ids that one API key submitted, by order of submission."""
    return f"{PREFIX}owned:{owner}"


def SERVING(task: str) -> str:
    """ZSET of the workers that serve a task, by last heartbeat in ms."""
    return f"{PREFIX}serving:{task}"


def WORKER(worker_id: str) -> str:
    """String with TTL: JSON of a live worker's WorkerInfo."""
    return f"{PREFIX}worker:{worker_id}"


def CONTROL(worker_id: str) -> str:
    """Channel on which a worker hears `cancel <job_id>`."""
    return f"{PREFIX}worker:{worker_id}:control"


def IDEMPOTENCY(digest: str) -> str:
    """String: `job_id digest of the body`. Without a TTL while the job lives; then it goes with it."""
    return f"{PREFIX}idempotency:{digest}"


def CLAIM(token: str) -> str:
    """String with a short TTL: the job that this claim token got, for a claim that is asked again."""
    return f"{PREFIX}claim:{token}"
