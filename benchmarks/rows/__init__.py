"""The rows of the table, in the issue's order: one file a row."""

from benchmarks.rows import burst, crowds, first_event, start, throughput, way

ROWS = (start.ROW, first_event.ROW, way.ROW, burst.ROW, throughput.ROW, *crowds.ROWS)
