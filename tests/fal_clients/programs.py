"""fal's own clients, in programs of their own, as whoever has code for fal runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from clients.programs import ALL, NODE
from helpers import clean_env
from web_tier import WebTier
from workers import Site

from benchmarks.measure import NotInstalled
from benchmarks.peers.environment import fal_python

DRIVERS = Path(__file__).parent / "drivers"
#: A program that has not ended by then hangs.
PROGRAM_TIMEOUT_S = 90


class System(NamedTuple):
    """A deployment, and what a test may ask of it beside its clients."""

    web: WebTier
    site: Site
    #: The folder of its worker, for another web tier beside it.
    shared: str

    @property
    def env(self) -> dict[str, str]:
        """What docs/fal.md tells people to export."""
        here = f"127.0.0.1:{self.web.port}"
        assert self.web.tls is not None
        authority = str(self.web.tls.authority)
        return {
            "FAL_RUN_HOST": f"{here}/run",
            "FAL_QUEUE_RUN_HOST": f"{here}/queue",
            "FAL_KEY": "any:thing",
            "SSL_CERT_FILE": authority,
            "NODE_EXTRA_CA_CERTS": authority,
            "RANKCAST_TEST_URL": self.web.url,
        }

    def start(
        self, driver: str, *args: Any, python: str = sys.executable, **env: str
    ) -> subprocess.Popen[str]:
        """A program of drivers/, `.py` or `.js`, at work; it gets the arguments as JSON."""
        program = str(DRIVERS / driver)
        command = [python if driver.endswith(".py") else str(NODE), program]
        return subprocess.Popen(
            [*command, *map(json.dumps, args)],
            env=clean_env(**{**self.env, **env}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, driver: str, *args: Any, python: str = sys.executable, **env: str) -> Any:
        """The same to its end: what it printed, one JSON value a line; it must exit with 0."""
        return told(self.start(driver, *args, python=python, **env))


def told(process: subprocess.Popen[str], timeout_s: float = PROGRAM_TIMEOUT_S) -> list[Any]:
    """What a program printed until its end."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"it goes on and on; it said {out!r} {err!r}") from None
    assert process.returncode == 0, (process.returncode, out, err)
    return [json.loads(line) for line in out.splitlines()]


def fal_package() -> str:
    """The interpreter that has fal's own package. Without it the test is skipped, or fails where nothing may
    be left out."""
    try:
        return fal_python()
    except NotInstalled as missing:
        (pytest.fail if os.environ.get(ALL) else pytest.skip)(str(missing))
