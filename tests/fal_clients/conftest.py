"""A web tier over TLS and a worker, both real, for fal's own clients."""

from collections.abc import Iterator

import pytest
import trustme
from web_tier import Tls, web_tier
from workers import Site, worker

from fal_clients.programs import System


@pytest.fixture(autouse=True)
def no_process_is_left() -> None:
    """Ranks stay warm between the tests of a module; its worker sees to it that none outlives it."""


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate for this machine and for fal's hosts, from an authority of the tests' own."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    names = ("fal.run", "queue.fal.run", "rest.fal.ai", "v3.fal.media")
    leaf = ca.issue_cert("localhost", "127.0.0.1", *names)
    found = Tls(folder / "leaf.pem", folder / "leaf.key", folder / "ca.pem")
    leaf.private_key_pem.write_to_path(found.key)
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(found.certificate, append=True)
    ca.cert_pem.write_to_path(found.authority)
    return found


@pytest.fixture(scope="module")
def system(valkey_url: str, tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything that a client of fal's meets, with the tasks of fixtures/tasks/for_fal.py."""
    folder = tmp_path_factory.mktemp("system")
    shared = str(folder / "shared")
    site = Site(valkey_url)
    site.redis.flushall()
    env = {"RANKCAST_SLOTS": "4", "RANKCAST_SHARED": shared}
    with (
        web_tier(valkey_url, tls=tls, RANKCAST_SHARED=shared, RANKCAST_KEEPALIVE_S="5") as web,
        worker(valkey_url, "for_fal.py", folder=folder, env=env),
    ):
        yield System(web, site, shared)
    site.close()
