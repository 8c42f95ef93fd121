"""Crowds of SSE viewers: the load generator `sseload.c`, compiled here and asked as a function.

It opens the streams, has events published, and checks each stream for what is lost, doubled or out of
order. It runs on the same machine, so that a latency is on one clock, and reads the CPU time of the
servers from /proc.
"""

import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import NotInstalled, Sample

SOURCE = Path(__file__).with_name("sseload.c")
#: Beside the time in which events are published: connecting, waiting, and what is still to arrive.
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """`rate` is events/s a channel; instead of it `window` events are kept in flight. Times in seconds."""

    viewers: int
    channels: int = 1
    rate: float = 1.0
    window: int = 0
    seconds: float = 6.0
    payload_bytes: int = 200
    #: Streams dropped a second; each is back 150 ms later with its Last-Event-ID.
    drops: float = 0.0

    @property
    def options(self) -> Sequence[str]:
        pace = ["-w", self.window] if self.window else ["-r", self.rate]
        churn = ["-x", self.drops, "-g", 150] if self.drops else []
        told = ["-n", self.viewers, "-c", self.channels, *pace, "-d", self.seconds, "-s", self.payload_bytes]
        return [str(word) for word in [*told, *churn]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is measured. `{ch}` in `url` is a channel's number; `publish` is sseload's `-P`, None for none."""

    url: str
    #: Processes by name; the first is the server itself.
    pids: Mapping[str, int]
    publish: str | None = None


def put(crowd: Crowd, target: Target) -> Sample:
    """One run: CPU in µs, memory in KiB, latency in ms; with a fault where a stream was wrong."""
    counted = [f"{name}={pid}" for name, pid in target.pids.items()]
    publishing = ["-P", target.publish] if target.publish else []
    command = [_program(), "-u", target.url, *publishing, *crowd.options]
    done = subprocess.run(
        [*command, *(word for each in counted for word in ("-p", each))],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S + crowd.seconds,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"sseload exits with {done.returncode}: {done.stderr[-500:]}")
    told = json.loads(done.stdout)
    server = told["servers"][next(iter(target.pids))]
    figures = {
        "cpu": server["us_per_delivery"],
        "connect": server["connect_cpu_us_per_stream"],
        "memory": server["pss_kib_per_stream"],
        "rate": told["deliveries_per_s"],
        "p50": told["latency_ms"]["p50"],
        "p99": told["latency_ms"]["p99"],
    }
    return Sample(figures, fault_in(told, is_silent=target.publish is None), told)


#: What nobody's stream may have.
WRONG = ("lost", "duplicated", "out_of_order", "alien", "bad_status", "stalls", "disconnects")


def fault_in(told: Mapping[str, Any], *, is_silent: bool = False) -> str | None:
    """What was wrong with the streams of a run; None for nothing."""
    found = [f"{told[name]} {name.replace('_', ' ')}" for name in WRONG if told[name]]
    return ", ".join(found) or (None if is_silent or told["delivered"] else "nothing arrived")


@functools.cache
def _program() -> Path:
    """NotInstalled where there is no compiler."""
    if (compiler := shutil.which("cc")) is None:
        raise NotInstalled("not measured: sseload.c wants a C compiler (cc)")
    made = Path(tempfile.mkdtemp(prefix="rankcast-bench-")) / "sseload"
    subprocess.run([compiler, "-O2", "-w", "-o", made, SOURCE], check=True)
    return made
