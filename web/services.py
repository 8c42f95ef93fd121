"""What the routes of one web process share, made once by `app.create_app`."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import flask
import redis

from rankcast.tasks import broker
from rankcast.tasks.catalog import Catalog, WorkerInfo
from rankcast.tasks.celery_app import make_app
from rankcast.tasks.connect import at_the_edge, connect
from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.keyuse import KeyUse
from rankcast.tasks.logs import JobLogs
from rankcast.tasks.settings import host_name
from rankcast.tasks.shared import SharedFolder
from rankcast.tasks.store import JobStore
from rankcast.tasks.submit import Submitter
from rankcast.tasks.sweep import Sweep, SweepThread
from rankcast.web.hangup import Hangups
from rankcast.web.hub import SILENCE_S, Hub
from rankcast.web.keyring import Keyring, starter_key
from rankcast.web.lastused import LastUsed
from rankcast.web.places import Places
from rankcast.web.settings import WebSettings

EXTENSION = "rankcast"
#: Of one process. A thousand viewers that come back at once would each open one, and Redis takes
#: ten thousand from everybody together.
MAX_REDIS_CONNECTIONS = 32

logger = logging.getLogger(__name__)


def _call(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


@dataclass(kw_only=True)
class Services:
    """Safe to share between threads. `start` after any fork, `leave` before the process ends."""

    settings: WebSettings
    client: redis.Redis
    store: JobStore
    event_log: EventLog
    logs: JobLogs
    catalog: Catalog
    submitter: Submitter
    hub: Hub
    places: Places
    hangups: Hangups
    sweep: SweepThread
    #: None: there are no keys, and nobody is asked for one.
    keyring: Keyring | None
    last_used: LastUsed
    #: What all hosts see; None where this tier was given none.
    folder: SharedFolder | None = None
    #: Makes a call that waits for a disk, so that nobody else waits: gunicorn_conf puts a thread here.
    blocking: Callable[..., Any] = _call
    #: gunicorn's logger, which has the access log; gunicorn_conf puts it here.
    access_log: Any = None
    #: Takes streams over, and lets in who asks for them; gunicorn's worker puts it here, if one does.
    door: Any = None
    folder_id: str | None = field(default=None, init=False)
    _told: set[str] = field(default_factory=set, init=False)
    _started_in: int | None = field(default=None, init=False)

    def start(self) -> None:
        """Begin to listen and to sweep, in the background; again does nothing."""
        if self._started_in != os.getpid():
            self._started_in = os.getpid()
            self.hub.start()
            self.sweep.start()
            if self.folder is not None:
                self.folder.serve()
                self.folder_id = self.folder.id()
                threading.Thread(target=self._look_around, name="rankcast-folders", daemon=True).start()

    def strangers(self) -> Sequence[WorkerInfo]:
        """Live workers that store in another folder than this tier reads; none where it reads none.

        Each is told of in the log, once.
        """
        if self.folder is None or self.folder_id is None:
            return ()
        found = [worker for worker in self.catalog.workers() if worker.folder_id != self.folder_id]
        for worker in found:
            if worker.worker_id not in self._told:
                self._told.add(worker.worker_id)
                logger.warning(
                    "the worker on %s does not see this web tier's folder (--shared %s on %s): what it "
                    "stores cannot be fetched here; give both one folder that both hosts mount",
                    worker.host, self.folder.path, host_name(),
                )  # fmt: skip
        return found

    def _look_around(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            self.strangers()

    def ping(self) -> None:
        """StoreUnavailable when Redis does not answer."""
        with at_the_edge():
            self.client.ping()

    def leave(self, *, is_last_call: bool = False) -> None:
        """The process is about to end: send away the streams that can be resumed elsewhere; at the last call
        all others as well."""
        self.hub.dismiss(is_last_call=is_last_call)


def make_services(settings: WebSettings) -> Services:
    """Connects to nothing yet."""
    broker.repair()
    shared = settings.shared
    client = connect(shared.redis_url, max_connections=MAX_REDIS_CONNECTIONS)
    store, catalog = JobStore(client, shared), Catalog(client, shared)
    event_log = EventLog(client, shared)
    return Services(
        settings=settings,
        client=client,
        store=store,
        event_log=event_log,
        logs=JobLogs(client),
        catalog=catalog,
        submitter=Submitter(store=store, catalog=catalog, app=make_app(shared)),
        hub=Hub(url=shared.redis_url, event_log=event_log, silence_s=min(SILENCE_S, settings.keepalive_s)),
        places=Places(settings.max_streams, per_key=settings.max_streams_per_key),
        hangups=Hangups(),
        sweep=SweepThread(Sweep(client, shared)),
        keyring=_keyring(settings),
        last_used=LastUsed(KeyUse(client)),
        folder=None if settings.folder is None else SharedFolder(settings.folder),
    )


def _keyring(settings: WebSettings) -> Keyring | None:
    if settings.keys is None:
        return None
    own = settings.starter_key_hash
    return Keyring(settings.keys, standing=None if own is None else starter_key(own))


def services() -> Services:
    """Those of the app that handles this request."""
    found: Services = flask.current_app.extensions[EXTENSION]
    return found
