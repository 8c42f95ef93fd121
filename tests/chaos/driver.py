"""The driver: faults one after the other into a system under load, and the table of what came of it.

    make chaos SECONDS=600 SEED=1        the whole catalogue, as often as there is time for

Every cell, a fault in a phase, is planned; a run in which one stayed empty is red, as is one with a
violation.
"""

import contextlib
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers import wait_until

from chaos.checker import Job, story, violations
from chaos.clients import Accepted, Clients, Load
from chaos.faults import FAULTS, REDO_S, Fault, Hit
from chaos.phases import PHASES, NotEntered, enter
from chaos.system import System

#: Jobs of the load at a time.
WIDTH = 4
#: By then whatever was accepted has ended, since nothing breaks any more.
SETTLE_TIMEOUT_S = 90.0
#: Tries to get a probe into its phase.
TRIES = 5
#: What the first round may take longer than was asked for, on a slow machine.
LONGEST_OVERTIME_S = 600.0

Cell = tuple[Fault, str]

log = logging.getLogger(__name__)


@dataclass
class Report:
    """What a run came to."""

    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: How probes ended, by fault.
    seen: dict[str, Counter[str]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    #: All that is known of the jobs among them.
    stories: list[str] = field(default_factory=list)
    #: Of the violations, which fault had been injected.
    blamed: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    jobs: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)

    @property
    def is_green(self) -> bool:
        return not self.violations and not self.empty

    def blame(self, fault: str, found: Sequence[str]) -> None:
        self.violations += [f"{fault}: {line}" for line in found]
        self.blamed[fault] += len(found)


class Driver:
    """One run. `faults` by name; all of them unless told otherwise."""

    def __init__(
        self,
        system: System,
        *,
        seconds: float,
        seed: int,
        faults: Sequence[Fault] = FAULTS,
        settle_timeout_s: float = SETTLE_TIMEOUT_S,
    ) -> None:
        self._system = system
        self._seconds = seconds
        self._settle_timeout_s = settle_timeout_s
        self._rng = random.Random(seed)
        self._plan: list[Cell] = [(fault, phase) for fault in faults for phase in fault.phases]
        self._clients = Clients([web.url for web in system.webs], self._rng)
        self.report = Report()
        self._died_at = 0.0

    def run(self) -> Report:
        """Break things for `seconds`, but each cell at least once; then wait for the end of every job,
        and check."""
        load = Load(self._clients, self._rng, width=WIDTH)
        self._system.heal()
        load.start()
        try:
            self._break_things()
        finally:
            load.stop()
        self._system.heal()
        self._settle()
        self._clients.close()
        self._check()
        return self.report

    def _break_things(self) -> None:
        began = time.monotonic()
        rounds = 0
        while rounds == 0 or time.monotonic() < began + self._seconds:
            self._rng.shuffle(self._plan)
            for fault, phase in self._plan:
                late_s = time.monotonic() - began - self._seconds
                if late_s > (LONGEST_OVERTIME_S if rounds == 0 else 0):
                    break
                self._fill(fault, phase)
            rounds += 1
        self.report.empty = [
            f"{fault.name} × {phase}"
            for fault, phase in self._plan
            if not self.report.hits[fault.name, phase]
        ]

    def _fill(self, fault: Fault, phase: str) -> None:
        for _ in range(TRIES):
            try:
                return self._hit(fault, phase)
            except NotEntered as error:
                log.info("%s × %s: %s", fault.name, phase, error)
                self._system.release_all()

    def _hit(self, fault: Fault, phase: str) -> None:
        system = self._system
        if fault.needs_keepers:
            time.sleep(max(0.0, self._died_at + REDO_S - time.monotonic()))
        probe = enter(phase, system, self._clients)
        hit = Hit(system=system, clients=self._clients, probe=probe, rng=self._rng)
        try:
            fault.inject(hit)
        except AssertionError as error:
            hit.violations.append(f"in {phase}, {probe.job.job_id}: {error}")
        self.report.hits[fault.name, phase] += 1
        probe.release()
        if any(not part.is_up for part in (*system.hosts, *system.webs)):
            self._died_at = time.monotonic()
        system.heal()
        self.report.blame(fault.name, [*hit.violations, *self._judge(fault, phase, probe.job)])

    def _judge(self, fault: Fault, phase: str, job: Accepted) -> list[str]:
        """What is wrong with how the probe itself ended."""
        state, losses = fault.expected(phase)
        try:
            self._wait_ended(job.job_id, self._settle_timeout_s)
        except AssertionError:
            return [f"the probe in {phase}, {job.job_id}, did not end"]
        record = self._system.record(job.job_id)
        assert record is not None
        told = f"{record.state}, {record.losses} lost"
        self.report.seen.setdefault(fault.name, Counter())[told] += 1
        if record.state != state or record.losses not in losses:
            wanted = " or ".join(map(str, sorted(losses)))
            return [f"the probe in {phase}, {job.job_id}: {told} where {state}, {wanted} lost was due"]
        return []

    def _wait_ended(self, job_id: str, timeout_s: float) -> None:
        def is_over() -> bool:
            record = self._system.record(job_id)
            return record is None or record.state.is_terminal

        wait_until(is_over, f"the end of job {job_id}", timeout_s=timeout_s)

    def _settle(self) -> None:
        """Until every job has ended and every viewer knows; what has not by then is the checker's find."""
        give_up = time.monotonic() + self._settle_timeout_s
        with contextlib.suppress(AssertionError):
            for job_id in self._clients.accepted:
                self._wait_ended(job_id, max(0.0, give_up - time.monotonic()))
        for viewer in self._clients.viewers:
            viewer.join(max(0.0, give_up - time.monotonic()))
            viewer.leave()

    def _check(self) -> None:
        report, clients = self.report, self._clients
        jobs: list[Job] = list(self._system.evidence(list(clients.accepted.values()), clients.viewers))
        for job in jobs:
            if found := violations([job]):
                report.blame("any", found)
                report.stories.append(story(job))
        report.blame("any", [viewer.fault for viewer in clients.viewers if viewer.fault])
        report.blame("any", clients.faults)
        report.blame("any", self._system.inconsistencies())
        report.jobs.update(job.state or "missing" for job in jobs)
        report.totals.update(
            jobs=len(jobs),
            viewers=len(clients.viewers),
            connections=sum(viewer.connections for viewer in clients.viewers),
            events=sum(len(job.log) for job in jobs),
            resets=sum(frame.kind == "reset" for viewer in clients.viewers for frame in viewer.frames),
            faults=sum(report.hits.values()),
        )


def table(report: Report, faults: Sequence[Fault] = FAULTS) -> str:
    """The run as a table in Markdown, with what was wrong below it."""
    lines = [
        f"| fault | {' | '.join(PHASES)} | expected | seen | violations |",
        f"|{' --- |' * (len(PHASES) + 4)}",
    ]
    for fault in faults:
        cells = [str(report.hits[fault.name, phase]) if phase in fault.phases else "–" for phase in PHASES]
        seen = ", ".join(
            f"{told} ×{times}" for told, times in report.seen.get(fault.name, Counter()).most_common()
        )
        columns = [fault.name, *cells, _expectation(fault), seen, str(report.blamed[fault.name])]
        lines.append(f"| {' | '.join(columns)} |")
    totals = ", ".join(f"{count:,} {what}" for what, count in report.totals.items())
    ends = ", ".join(f"{count:,} {state}" for state, count in report.jobs.most_common())
    lines += ["", f"{totals}; jobs: {ends}; violations of what must always hold: {report.blamed['any']}."]
    lines += [f"- empty: {cell}" for cell in report.empty]
    lines += [f"- VIOLATION {line}" for line in report.violations]
    lines += ["", *report.stories]
    return "\n".join(lines)


def _expectation(fault: Fault) -> str:
    losses = " or ".join(str(count) for count in sorted(fault.losses))
    others = [
        f"{' or '.join(map(str, sorted(allowed)))} in {phase}" for phase, allowed in fault.losses_in.items()
    ]
    return f"{fault.ends_as}, {', '.join([losses, *others])} lost"


def run(
    folder: Path, *, env: Mapping[str, str] | None = None, faults: Sequence[Fault] = FAULTS, **options: Any
) -> Report:
    """A whole run in a system of its own, which is gone afterwards. `options` are the Driver's; `env`
    is in the environment of web tiers and workers."""
    system = System(folder, env)
    try:
        report = Driver(system, faults=faults, **options).run()
    finally:
        left = system.stop()
    report.blame("any", [f"left after the end: {line}" for line in left])
    return report


def main(seconds: float, seed: int) -> int:
    """Run, print, and say with the exit code whether it was green."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        report = run(Path(folder), seconds=seconds, seed=seed)
    print(f"{seconds:g} s, seed {seed}\n\n{table(report)}")
    return 0 if report.is_green else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
