"""The command lines and environments of the three kinds of process a deployment has.

The one place for them: `up`, `web` and `worker` start what stands here, and Procfile and
docker-compose.yml are tested against it.
"""

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from rankcast.tasks.declare import is_file

#: How Redis must be set: keep what was accepted over a crash, and refuse rather than forget.
REDIS_SETTINGS: Mapping[str, str] = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
}

#: A line with these words in the worker's output says that it takes jobs.
WORKER_READY = "rankcast worker ready"

#: -P: a file of the user's, in the folder where they stand, must not pass for a library.
PYTHON = (sys.executable, "-P", "-m")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What can be told to a worker; None leaves it to the environment or the default."""

    tasks: Sequence[str]
    redis_url: str | None = None
    gpus: str | None = None
    slot_gpus: int | None = None
    slots: int | None = None
    warm: Sequence[str] = ()
    host_name: str | None = None
    shared: str | None = None
    fetch_host: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WebOptions:
    """What can be told to the web tier; None leaves it to the environment or the default."""

    workers: int = 1
    redis_url: str | None = None
    shared: str | None = None
    keys: Path | None = None
    cors: Sequence[str] = ()
    is_open: bool = False
    #: A file with the server's certificate and its key; None: plain HTTP.
    certificate: Path | None = None


def worker_command(host_name: str | None = None) -> list[str]:
    """A stock Celery worker: pool, slots and queues are set in the app's configuration.

    Its node name is drawn, because Celery's default is the host's, and two workers on one host would
    answer to it both. Workers have nothing to say to each other, and asking around costs a second.
    """
    node = f"rankcast-{secrets.token_hex(3)}@{host_name or '%h'}"
    alone = ("--without-mingle", "--without-gossip")
    app = ("-A", "rankcast.gpu_worker.worker")
    return [*PYTHON, "celery", *app, "worker", "--loglevel", "INFO", "-n", node, *alone]


def web_command(fd: int, options: WebOptions) -> list[str]:
    """gunicorn with gevent workers, on a socket that is bound already and inherited as `fd`."""
    conf = ("--config", "python:rankcast.web.gunicorn_conf")
    bind = ("--bind", f"fd://{fd}", "--workers", str(options.workers))
    file = str(options.certificate)
    tls = () if options.certificate is None else ("--certfile", file, "--keyfile", file)
    return [*PYTHON, "gunicorn", *conf, *bind, *tls, "rankcast.web.app:create_app()"]


def redis_config(*, port: int, folder: Path, password: str) -> str:
    """A config file for Redis or Valkey, on loopback. The password keeps other users of this
    machine out, and stands in no command line, where they could read it."""
    settings = {
        **REDIS_SETTINGS,
        "bind": "127.0.0.1",
        "port": str(port),
        "requirepass": password,
        "dir": f'"{folder}"',
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def web_env(options: WebOptions, env: Mapping[str, str]) -> dict[str, str]:
    """`env` with what `options` say, as the web tier's settings read it."""
    said = {
        "RANKCAST_REDIS_URL": options.redis_url,
        "RANKCAST_SHARED": options.shared,
        "RANKCAST_KEYS": options.keys,
        "RANKCAST_CORS": " ".join(options.cors) or None,
        "RANKCAST_OPEN": "1" if options.is_open else None,
    }
    return {**env, **{name: str(value) for name, value in said.items() if value is not None}}


def worker_env(options: WorkerOptions, env: Mapping[str, str], folder: str) -> dict[str, str]:
    """`env` with what `options` say, as the worker's settings read it; modules may lie in `folder`."""
    said = {
        "RANKCAST_TASKS": os.pathsep.join(options.tasks) or None,
        "RANKCAST_REDIS_URL": options.redis_url,
        "RANKCAST_GPUS": options.gpus,
        "RANKCAST_SLOT_GPUS": options.slot_gpus,
        "RANKCAST_SLOTS": options.slots,
        "RANKCAST_WARM": ",".join(options.warm) or None,
        "RANKCAST_HOST": options.host_name,
        "RANKCAST_SHARED": options.shared,
        "RANKCAST_FETCH_HOSTS": ",".join(options.fetch_host) or None,
    }
    told = {**env, **{name: str(value) for name, value in said.items() if value is not None}}
    if any(not is_file(task) for task in options.tasks):
        # Ranks come from a fork server, which knows PYTHONPATH and not its parent's sys.path.
        told["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, env.get("PYTHONPATH")]))
    return told


def resolve_tasks(task: str, folder: str) -> str:
    """A `--tasks` value, given in `folder`, as it means the same everywhere; ValueError if there is none.

    Nothing is imported: that happens in the worker, and only there.
    """
    if is_file(task):
        path = Path(folder, task).expanduser()
        if not path.is_file():
            raise ValueError(f"there is no file {task}")
        return str(path.resolve())
    if not all(part.isidentifier() for part in task.split(".")):
        raise ValueError(f"{task!r} is neither a file (steps.py) nor a module (package.steps)")
    if PathFinder.find_spec(task.partition(".")[0], [folder, *sys.path]) is None:
        raise ValueError(f"there is no module {task}, neither here nor installed")
    return task
