"""The probe of the chaos runs as a plain Celery task; it writes down what it tells, as tasks.py does.

`celery -A chaos.plain_tasks worker`
"""

import os
import time
import uuid
from typing import Any

from benchmarks.peers.celery_plain import Telling, app
from chaos import notes

HOLD_S = 60.0

__all__ = ["app"]


@app.task(bind=True, base=Telling, name="chaos/probe")
def probe(self: Telling, hold: str, phase: str) -> dict[str, Any]:
    """Tells a step each 30 ms until the driver lets it go."""
    job, call, told = self.request.id, uuid.uuid4().hex, 0

    def note(what: str, detail: str = "") -> None:
        notes.write(notes.Note(what, "Probe", 0, os.getpid(), job, 0, call, told, detail))

    def tell() -> None:
        nonlocal told
        note("telling")
        self.tell(notes.result(job, call, told))
        note("told")
        told += 1

    note("called")
    for _ in range(3):
        tell()
    note("phase", phase)
    give_up = time.monotonic() + HOLD_S
    while notes.is_held(hold) and time.monotonic() < give_up:
        tell()
        time.sleep(0.03)
    tell()
    note("returned")
    return {"job": job, "call": call, "told": told}
