"""Memory of the web tier while 500 viewers of a job that streams never read.  See stalled.py."""

from benchmarks import stalled
from benchmarks.bench import Bench
from benchmarks.measure import Contender, Figure, Row, Sample


def never_read(bench: Bench) -> Sample:
    found = stalled.measure()
    return Sample({"growth": found.growth}, found.fault or None)


ROW = Row(
    key="viewers-stalled",
    title="web memory with 500 stalled viewers, more than with none",
    figures=[Figure("growth", "MiB", must=50)],
    contenders=[Contender("40 MB streamed to viewers that never read", never_read, is_ours=True)],
    rounds=3,
    warm_ups=0,
)
