"""The rows of the table, in the issue's order: one file a fault."""

from benchmarks.faults import (
    cancelled,
    last_worker_killed,
    left_behind,
    rank_frozen,
    rank_killed,
    redis_killed,
    redis_restarted,
    viewers_stalled,
    worker_frozen,
    worker_killed,
)

ROWS = (
    redis_killed.ROW,
    worker_frozen.ROW,
    rank_killed.ROW,
    rank_frozen.ROW,
    *worker_killed.ROWS,
    last_worker_killed.ROW,
    *cancelled.ROWS,
    redis_restarted.ROW,
    left_behind.ROW,
    viewers_stalled.ROW,
)
