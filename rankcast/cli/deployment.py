"""Redis, web tier and worker in one terminal: started in order, watched, and ended in reverse.

Everything that happens comes through the children's queue, and is handled by the main thread.
"""

import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import click
import httpx

from rankcast.cli.certificates import TRUST, Certificates
from rankcast.cli.children import Answered, Asked, Child, Children, Ended, Happening, Said
from rankcast.cli.embedded import PORT_TAKEN, READY, Embedded, data_folder
from rankcast.cli.options import Failure
from rankcast.cli.processes import (
    WORKER_READY,
    WebOptions,
    WorkerOptions,
    web_command,
    web_env,
    worker_command,
    worker_env,
)
from rankcast.cli.show import clean
from rankcast.cli.tunnel import tunnel
from rankcast.cli.web import address
from rankcast.client import Client
from rankcast.errors import RankcastError
from rankcast.tasks.settings import cache_folder
from rankcast.web.falhosts import SERVICES
from rankcast.web.keyring import draw_starter_key, hash_of

#: What running jobs get to end when stopping was asked for; then the worker gives them back to
#: their queue. RANKCAST_DRAIN_TIMEOUT_S says otherwise.
DRAIN_S = 5.0
#: How long each child may take to end by itself, beside that.
STOP_S = 5.0
STOP_AFTER_FAILURE_S = 3.0
#: A web process that has not answered its first request by then never will.
ANSWER_S = 120.0
#: The embedded server's port was free when it was drawn; somebody may be quicker.
PORT_TRIES = 3

#: What they write once they take work.
READY_WORDS = {"redis": READY, "worker": WORKER_READY}
COLOURS = {"redis": "magenta", "web": "cyan", "worker": "green"}


class StopAsked(Exception):
    """Ctrl-C, SIGTERM or a closed terminal: not an error."""


class ChildEnded(Exception):
    """A part of the deployment ended by itself."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(str(ended))
        self.ended = ended


@dataclass(frozen=True, kw_only=True)
class Tls:
    """What `--tls` adds: certificates, and where the proxy for fal's clients listens."""

    certificates: Certificates
    proxy: socket


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to run. `redis_url` None brings a Redis along, with its data in `data` or nowhere for long."""

    sock: socket
    worker: WorkerOptions
    web: WebOptions
    redis_url: str | None
    data: Path | None
    tls: Tls | None = None


def _show(child: Child, line: str) -> None:
    """On stderr, with the name of the part."""
    if not child.is_quiet:
        prefix = click.style(f"{child.name:<6} |", fg=COLOURS[child.name])
        click.echo(f"{prefix} {clean(line, keeps_lines=True)}", err=True)


class Deployment:
    """Runs a plan from start to end; use once, from the main thread.

    The parts get the environment `env`. What they write is given to `tell`, line by line.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        env: Mapping[str, str] = os.environ,
        tell: Callable[[Child, str], None] = _show,
    ) -> None:
        self.url = f"{'http' if plan.tls is None else 'https'}://{address(plan.sock)}"
        #: Of the Redis that was named, or of the one that was started.
        self.redis_url = plan.redis_url
        self._plan = plan
        self._env = env
        self._tell = tell
        self._drain_s = _drain_s(env)
        #: With keys: one of its own, which goes with it.
        self._key = None if plan.web.keys is None else draw_starter_key()
        self._children = Children()
        self._waits_for: set[str] = set()

    def run(self) -> int:
        """Run until it is told to stop (0) or a part ends by itself (1)."""
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, lambda number, _: self._children.happenings.put(Asked(number)))
        try:
            with self.running():
                with self._client() as client:
                    click.echo(up_line(self.url, client))
                if self._plan.tls is not None:
                    click.echo(fal_lines(self._plan.tls, self.url, self._env, has_keys=self._key is not None))
                while True:
                    self.look(timeout_s=None)
        except StopAsked:
            return 0
        except ChildEnded as error:
            _tell_end(error.ended)
            return 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """All parts take work inside the block; at its end they are stopped, in good order.

        Failure or ChildEnded if one does not start.
        """
        with ExitStack() as stack:
            env = {**self._env, "RANKCAST_DRAIN_TIMEOUT_S": f"{self._drain_s:g}", "PYTHONUNBUFFERED": "1"}
            start_redis = self._prepare_redis(stack, env)
            # Behind Redis' folder, so that it runs first: nobody is left when the folder goes.
            stack.callback(self._children.kill_all)
            if (tls := self._plan.tls) is not None:
                server = self._plan.sock.getsockname()[:2]
                stack.enter_context(tunnel(tls.proxy, names=SERVICES, server=server))
            try:
                self.redis_url = env["RANKCAST_REDIS_URL"] = start_redis()
                self._start_web(env)
                self._start_worker(env)
                self._wait_for("web", "worker")
                yield
            except ChildEnded:
                self._stop(STOP_AFTER_FAILURE_S)
                raise
            except StopAsked:
                click.echo(
                    f"stopping: running jobs have {self._drain_s:g} s to end; Ctrl-C again stops at once",
                    err=True,
                )
                self._stop(STOP_S, drain_s=self._drain_s)
                raise
            else:
                self._stop(STOP_S, drain_s=self._drain_s)

    def look(self, timeout_s: float | None) -> bool:
        """Deal with the next thing that happens; whether one did within `timeout_s`. ChildEnded."""
        happening = self._children.next(timeout_s)
        self._handle(happening)
        return happening is not None

    def _prepare_redis(self, stack: ExitStack, env: dict[str, str]) -> Callable[[], str]:
        """What gives the URL of a Redis that runs: the one that was named, or a new one of our own."""
        if (shared := self._plan.worker.shared) is not None:
            env["RANKCAST_SHARED"] = shared
        if (url := self._plan.redis_url) is not None:
            # Jobs stay there when this ends, and so does what they stored.
            env.setdefault("RANKCAST_SHARED", str(cache_folder(env)))
            return lambda: url
        env.pop("RANKCAST_BROKER_URL", None)
        folder, descriptors = stack.enter_context(data_folder(self._plan.data))
        # Files stay as long as the jobs that they are of.
        env.setdefault("RANKCAST_SHARED", str(folder))
        return lambda: self._start_redis(folder, descriptors, env)

    def _start_redis(self, folder: Path, descriptors: Sequence[int], env: Mapping[str, str]) -> str:
        for tries_left in reversed(range(PORT_TRIES)):
            server = Embedded.draw(folder)
            child = self._children.start(
                "redis",
                server.command,
                env=env,
                # Its own good end: the log on disk is complete.
                death_signal=signal.SIGTERM,
                stdin=server.config,
                pass_fds=descriptors,
                is_quiet=True,
            )
            try:
                self._wait_for("redis")
                return server.url
            except ChildEnded:
                if not tries_left or not any(PORT_TAKEN in line for line in child.tail):
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    def _start_web(self, env: Mapping[str, str]) -> None:
        fd = self._plan.sock.fileno()
        env = web_env(self._plan.web, env)
        if self._key is not None:
            env["RANKCAST_STARTER_KEY_HASH"] = hash_of(self._key)
        self._children.start(
            "web",
            web_command(fd, self._plan.web),
            env=env,
            death_signal=signal.SIGTERM,
            pass_fds=[fd],
        )
        # From here on the socket is gunicorn's alone: if that dies, connections to it break.
        self._plan.sock.close()
        threading.Thread(target=self._ask_web, name="ask-web", daemon=True).start()

    def _ask_web(self) -> None:
        """One request, which waits in the socket's backlog until gunicorn serves."""
        try:
            headers = {} if self._key is None else {"Authorization": f"Key {self._key}"}
            response = httpx.get(
                f"{self.url}/readyz",
                headers=headers,
                timeout=ANSWER_S,
                trust_env=False,
                verify=True if self._plan.tls is None else self._plan.tls.certificates.context,
            )
        except httpx.ReadTimeout:
            self._children.happenings.put(Answered(f"the web tier did not answer for {ANSWER_S:g} s"))
        except httpx.TransportError:
            return  # It ended, and that is told by the child itself.
        else:
            is_good = response.status_code == 200
            self._children.happenings.put(Answered("" if is_good else f"the web tier says: {response.text}"))

    def _start_worker(self, env: Mapping[str, str]) -> None:
        self._children.start(
            "worker",
            worker_command(self._plan.worker.host_name),
            env=worker_env(self._plan.worker, env, os.getcwd()),
            # Told politely it would first finish its jobs, without the Redis that they need.
            death_signal=signal.SIGKILL,
        )

    def _wait_for(self, *names: str) -> None:
        self._waits_for = set(names)
        while self._waits_for:
            self.look(timeout_s=None)

    def _handle(self, happening: Happening | None) -> None:
        match happening:
            case Said(child, line):
                self._tell(child, line)
                if child.name in READY_WORDS and READY_WORDS[child.name] in line:
                    self._waits_for.discard(child.name)
            case Answered(problem):
                if problem:
                    raise Failure(problem)
                self._waits_for.discard("web")
            case Ended():
                raise ChildEnded(happening)
            case Asked():
                raise StopAsked

    def _stop(self, patience_s: float, drain_s: float = 0.0) -> None:
        """End worker, web and Redis, in this order: what a job still says reaches its viewers.

        Asked a second time, or out of patience, it leaves the rest to `kill_all`.
        """
        for child in reversed(self._children.alive[:]):
            if child.name == "web" and self._forgets_jobs:
                self._cancel_queued()
            self._children.signal(child, signal.SIGTERM)
            give_up = time.monotonic() + patience_s + (drain_s if child.name == "worker" else 0.0)
            while child in self._children.alive:
                happening = self._children.next(timeout_s=max(0.0, give_up - time.monotonic()))
                if happening is None or isinstance(happening, Asked):
                    return
                if isinstance(happening, Said):
                    self._tell(happening.child, happening.line)

    def _client(self) -> Client:
        return Client(self.url, key=self._key)

    @property
    def _forgets_jobs(self) -> bool:
        """Whether all jobs go when this ends."""
        return self._plan.redis_url is None and self._plan.data is None

    def _cancel_queued(self) -> None:
        """Nobody will run what is still queued: say so to who waits for it."""
        with suppress(RankcastError), self._client() as client:
            while queued := client.jobs(state="queued"):
                for record in queued:
                    client.job(record["job_id"]).cancel()


def _drain_s(env: Mapping[str, str]) -> float:
    text = env.get("RANKCAST_DRAIN_TIMEOUT_S")
    if not text:
        return DRAIN_S
    with suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return float(text)
    raise Failure(f"RANKCAST_DRAIN_TIMEOUT_S: {text!r} is not a number of seconds")


def up_line(url: str, client: Client) -> str:
    """The one line that says where everything is: address, tasks, slots."""
    tasks, workers = client.tasks(), client.workers()
    names = [f"{task['name']} ({_count(task['world_size'], 'rank')})" for task in tasks if task["workers"]]
    slots = [slot for worker in workers for slot in worker["slots"]]
    devices = sum(len(slot["devices"]) for slot in slots)
    where = _count(devices, "GPU") if devices else "CPU"
    slots_told = f"{_count(len(slots), 'slot')} ({where})"
    return f"rankcast is up at {url} | tasks: {', '.join(names)} | {slots_told} | Ctrl-C stops it"


def fal_lines(tls: Tls, url: str, env: Mapping[str, str], *, has_keys: bool) -> str:
    """What a shell is told so that fal's clients, started in it, come here; to be pasted whole."""
    others = filter(None, env.get("NO_PROXY", "").split(","))
    here, bundle = url.partition("://")[2], tls.certificates.bundle
    said = {
        "FAL_RUN_HOST": f"{here}/run",
        "FAL_QUEUE_RUN_HOST": f"{here}/queue",
        "FAL_KEY": "any:KEY" if has_keys else "any:thing",
        TRUST: bundle,
        "REQUESTS_CA_BUNDLE": bundle,
        "NODE_EXTRA_CA_CERTS": tls.certificates.authority,
        "HTTPS_PROXY": f"http://{address(tls.proxy)}",
        # What is asked of this server itself needs no proxy.
        "NO_PROXY": ",".join(dict.fromkeys([*others, httpx.URL(url).host, "127.0.0.1", "localhost"])),
    }
    exports = [f"export {name}={shlex.quote(str(value))}" for name, value in said.items()]
    note = "; KEY is one that `rankcast keys create` made" if has_keys else ""
    return "\n".join([f"# fal's clients come here in a shell with this{note}:", *exports])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _tell_end(ended: Ended) -> None:
    lines = [f"  {clean(line, keeps_lines=True)}" for line in ended.child.tail]
    click.secho(f"error: {ended}; its last lines:", fg="red", err=True)
    click.echo("\n".join(lines), err=True)
