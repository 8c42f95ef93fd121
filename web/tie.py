"""Jobs that belong to a connection: who submits one by `/run` or `/stream` waits there for what comes of it,
and a client that hangs up wants it no more.

That the server ends, or loses Redis, is no hang-up: the job goes on, as it does with `?detach=1`.
"""

import contextlib
import logging
import threading
from typing import Any

import flask

from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.web.services import services

log = logging.getLogger(__name__)


class Tie:
    """Between a job and the connection of this request, from the submit to the end of the answer.

    A hang-up is seen at once under gunicorn with gevent and HTTP/1.1; elsewhere at the next write, and
    while nothing is written not at all.
    """

    def __init__(self, job_id: str, *, is_detached: bool) -> None:
        self._job_id, self._services = job_id, services()
        self._is_tied = not is_detached
        self._fd = None if is_detached else _descriptor(flask.request.environ)
        if self._fd is not None:
            self._services.hangups.watch(self._fd, self._cut)

    def loosen(self) -> None:
        """From here on the job is left alone. May be called more than once."""
        self._is_tied = False
        if self._fd is not None:
            self._services.hangups.forget(self._fd)
            self._fd = None

    def close(self) -> None:
        """The answer is over. If nobody loosened the tie before, its client did not take all of it."""
        if self._services.hub.is_closing:
            self.loosen()
        elif self._is_tied:
            self._cut()

    def _cut(self) -> None:
        self.loosen()
        # Redis may be slow, and whoever noticed has other connections to look after.
        threading.Thread(target=self._cancel, name="rankcast-cancel", daemon=True).start()

    def _cancel(self) -> None:
        with contextlib.suppress(UnknownJob):
            try:
                self._services.store.cancel(self._job_id)
            except StoreUnavailable as error:
                log.warning("the client of job %s is gone, but the job goes on: %s", self._job_id, error)


def _descriptor(environ: dict[str, Any]) -> int | None:
    """The client's end, where this request has it to itself and gunicorn serves with gevent."""
    if environ["SERVER_PROTOCOL"] not in ("HTTP/1.0", "HTTP/1.1"):
        return None
    connection = environ.get("gunicorn.socket")
    is_gevents = type(connection).__module__.startswith("gevent.")
    return int(connection.fileno()) if connection is not None and is_gevents else None
