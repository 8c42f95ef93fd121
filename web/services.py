"""What the routes of one web process share, made once by `app.create_app`."""

import os
from dataclasses import dataclass, field

import flask
import redis

from rankcast.tasks.catalog import Catalog
from rankcast.tasks.celery_app import make_app
from rankcast.tasks.connect import at_the_edge, connect
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.keyuse import KeyUse
from rankcast.tasks.logs import JobLogs
from rankcast.tasks.store import JobStore
from rankcast.tasks.submit import Submitter
from rankcast.tasks.sweep import Sweep, SweepThread
from rankcast.web.hub import SILENCE_S, Hub
from rankcast.web.keyring import Keyring, starter_key
from rankcast.web.lastused import LastUsed
from rankcast.web.settings import WebSettings

EXTENSION = "rankcast"
#: Of one process. A thousand viewers that come back at once would each open one, and Redis takes
#: ten thousand from everybody together.
MAX_REDIS_CONNECTIONS = 32


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
    sweep: SweepThread
    #: None: there are no keys, and nobody is asked for one.
    keyring: Keyring | None
    last_used: LastUsed
    _started_in: int | None = field(default=None, init=False)

    def start(self) -> None:
        """Begin to listen and to sweep, in the background; again does nothing."""
        if self._started_in != os.getpid():
            self._started_in = os.getpid()
            self.hub.start()
            self.sweep.start()

    def ping(self) -> None:
        """StoreUnavailable when Redis does not answer."""
        with at_the_edge():
            self.client.ping()

    def leave(self) -> None:
        """The process is about to end: send away the streams that can be resumed elsewhere."""
        self.hub.dismiss()


def make_services(settings: WebSettings) -> Services:
    """Connects to nothing yet."""
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
        sweep=SweepThread(Sweep(client, shared)),
        keyring=_keyring(settings),
        last_used=LastUsed(KeyUse(client)),
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
