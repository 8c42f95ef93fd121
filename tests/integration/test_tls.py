"""`rediss://`: both connections to Redis, ours and Celery's, check whom they talk to."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from tls_proxy import TlsProxy

from rankcast.tasks.celery_app import make_app
from rankcast.tasks.connect import connect
from rankcast.tasks.settings import Settings


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(ca: trustme.CA, tmp_path: Path) -> str:
    """What a URL says to trust this CA."""
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return f"ssl_ca_certs={tmp_path / 'ca.pem'}"


@pytest.fixture
def proxy(request: pytest.FixtureRequest, redis, ca: trustme.CA) -> Iterator[TlsProxy]:
    """In front of the tests' Redis, with a certificate for the name that the test gives, or its own."""
    port = redis.connection_pool.connection_kwargs["port"]
    proxy = TlsProxy(port, ca, getattr(request, "param", "127.0.0.1"))
    yield proxy
    proxy.close()


def reaches_redis(url: str) -> tuple[bool, bool]:
    """Whether our connection does, and whether Celery's does."""
    return _is_reached(lambda: connect(url).ping()), _is_reached(lambda: _knock(url))


def _is_reached(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except Exception as error:
        if "certificate" not in str(error).lower():
            raise
        return False
    return True


def _knock(url: str) -> None:
    app = make_app(Settings(redis_url=url, broker_url=url))
    with app, app.connection() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        connection.default_channel.client.ping()


def test_a_server_of_a_trusted_authority_is_talked_to(proxy: TlsProxy, trusted: str):
    assert reaches_redis(f"rediss://127.0.0.1:{proxy.port}/0?{trusted}") == (True, True)


def test_a_server_that_nobody_vouches_for_is_refused(proxy: TlsProxy):
    """Before it has seen the password."""
    assert reaches_redis(f"rediss://:secret@127.0.0.1:{proxy.port}/0") == (False, False)


@pytest.mark.parametrize("proxy", ["another.example"], indirect=True)
def test_a_certificate_for_another_name_is_refused(proxy: TlsProxy, trusted: str):
    assert reaches_redis(f"rediss://127.0.0.1:{proxy.port}/0?{trusted}") == (False, False)


def test_who_wants_no_check_says_so_in_the_url(proxy: TlsProxy):
    """For a private network with certificates that nobody signed."""
    told = "ssl_cert_reqs=none&ssl_check_hostname=false"
    assert reaches_redis(f"rediss://127.0.0.1:{proxy.port}/0?{told}") == (True, True)
