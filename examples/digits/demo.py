"""The demo: starts Rankcast, trains a diffusion model on two ranks, and draws digits with it.

    python examples/digits/demo.py [--steps 1000] [--rows 6] [--out demo-output]

It does what a user would: `rankcast up` runs as processes of its own, and everything is asked for and
watched over HTTP with the public client. Pictures are left in the output folder; no process is left.
"""

import argparse
import contextlib
import io
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from demo_screen import JobView, bytes_of, image_of
from demo_server import NotUp, rankcast_up
from rich.console import Console
from rich.live import Live
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from rankcast import Client, Event, Job, RankcastError


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a model of digits on two ranks, then draw some.")
    parser.add_argument("--steps", type=int, default=1000, help="training steps (default: 1000)")
    parser.add_argument("--rows", type=int, default=6, help="rows of ten digits to draw (default: 6)")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder for the pictures")
    args = parser.parse_args()
    # A terminal that closes, or a `kill`, must end `rankcast up` too: leave through the same door.
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, frame: sys.exit(128 + signum))
    console = Console(highlight=False)
    try:
        run(console, folder=args.out, steps=args.steps, rows=args.rows)
    except (RankcastError, NotUp) as error:
        console.print(f"[red]The demo failed:[/red] {error}")
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    return 0


def run(console: Console, *, folder: Path, steps: int, rows: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    console.print("Starting Rankcast: Redis, the web tier, and a worker with two ranks …")
    with rankcast_up(log=folder / "rankcast-up.log", env={"DIGITS_DIR": str(folder.resolve())}) as address:
        clock.lap("start-up")
        console.print(f"Up at {address}; what it says is in {folder / 'rankcast-up.log'}.\n")
        with Client(address) as client:
            job = client.submit("examples/digits-train", steps=steps, name="digits")
            trained = watch(console, job, "training  ", folder / "train")
            clock.lap("training")
            job = client.submit("examples/digits-generate", steps=200, preview_every=20, rows=rows)
            drawn = watch(console, job, "generation", folder / "generate")
            clock.lap("generation")
    clock.lap("shutdown")
    image_of(drawn["grid"]).save(folder / "digits.png")
    console.print(summary(trained, drawn, clock, folder))


def watch(console: Console, job: Job, title: str, pictures: Path) -> dict[str, Any]:
    """Show a job until it ends, and keep its pictures; its output. JobFailed if it failed."""
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    view = JobView(title)
    try:
        with Live(view, console=console):
            for event in job.stream():
                show(event, view, pictures)
                if not console.is_terminal and "preview" in event.data:
                    console.print(f"{title.strip()}: step {event.data['step']} of {event.data['total']}")
    except BaseException:
        # Nobody watches any more, and `rankcast up` would wait for the job before it stops.
        with contextlib.suppress(RankcastError):
            job.cancel()
        raise
    console.print()
    output: dict[str, Any] = job.result()
    return output


def show(event: Event, view: JobView, pictures: Path) -> None:
    if event.kind in ("state", "end"):
        view.show_state(event.data["state"])
    elif event.is_result:
        picture = image_of(event.data["preview"]) if "preview" in event.data else None
        view.show_result(event.data, picture)
        if picture is not None:
            picture.save(pictures / f"step-{event.data['step']:05}.png")


def share_recognised(digits: np.ndarray, labels: list[int]) -> float:
    """Share of the drawn digits that a classifier, which knows only real scans, reads as was asked."""
    scans = load_digits()
    classifier = SVC(gamma=0.001).fit(scans.data, scans.target)
    return float(np.mean(classifier.predict(digits.reshape(-1, 64)) == labels))


def summary(trained: dict[str, Any], drawn: dict[str, Any], clock: "Clock", folder: Path) -> Table:
    digits = np.load(io.BytesIO(bytes_of(drawn["digits"])), allow_pickle=False)
    recognised = share_recognised(digits, drawn["labels"])
    laps = ", ".join(f"{seconds:.1f} {name}" for name, seconds in clock.laps.items())
    table = Table.grid(padding=(0, 2))
    table.add_row("time", f"{clock.total_s:.1f} s: {laps}")
    table.add_row("training", f"{trained['steps']} steps, final loss {trained['final_loss']:.3f}")
    for rank, digest in enumerate(trained["weights_sha256"]):
        table.add_row(f"rank {rank}", f"ended with weights {digest[:16]}…")
    table.add_row("drawn", f"{len(digits)} digits; a classifier of scans reads {recognised:.0%} as asked")
    table.add_row("pictures", f"digits.png, and train/, generate/ for how they came about, in {folder}")
    return table


class Clock:
    """Wall time of each part, in order, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = now - self._last, now

    @property
    def total_s(self) -> float:
        return sum(self.laps.values())


if __name__ == "__main__":
    sys.exit(main())
