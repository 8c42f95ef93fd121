"""The rows of the table, in its order: one file a row, or a few of a kind."""

from itertools import chain

from benchmarks.rows import burst, crowds, first_event, growth, jobs, leave, start, step, throughput, way

#: Those that share a picture, by its name.
GROUPS = {
    "events": (start.ROW, first_event.ROW, way.ROW, burst.ROW, throughput.ROW),
    "jobs": (*jobs.ROWS, *step.ROWS),
    "crowds": (*crowds.ROWS, leave.ROW),
    "growth": growth.ROWS,
}
ROWS = tuple(chain.from_iterable(GROUPS.values()))
