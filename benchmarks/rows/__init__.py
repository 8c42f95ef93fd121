"""The rows of the table, in the issue's order: one file a row."""

from benchmarks.rows import burst, crowds, first_event, growth, jobs, leave, start, step, throughput, way

ROWS = (
    start.ROW,
    first_event.ROW,
    way.ROW,
    burst.ROW,
    throughput.ROW,
    *jobs.ROWS,
    *step.ROWS,
    *crowds.ROWS,
    leave.ROW,
    *growth.ROWS,
)
