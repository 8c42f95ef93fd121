"""How a worker gets back to its broker."""

import kombu.utils.functional
import pytest
from helpers import free_port
from kombu.exceptions import OperationalError

from rankcast.tasks.celery_app import RETRY_S, make_app
from rankcast.tasks.settings import Settings


def test_a_broker_that_is_away_is_tried_at_a_steady_pace(monkeypatch: pytest.MonkeyPatch):
    """However long it has been away: it is not missed for long when it is back. The log has it once."""
    pauses_s: list[float] = []
    told: list[Exception] = []
    monkeypatch.setattr(kombu.utils.functional, "sleep", pauses_s.append)
    app = make_app(Settings(broker_url=f"redis://127.0.0.1:{free_port()}/0"))
    with app.connection_for_read() as connection, pytest.raises(OperationalError):
        connection.ensure_connection(lambda error, pause_s: told.append(error), 20)
    app.close()
    assert pauses_s == [RETRY_S] * 20
    assert len(told) == 1


def test_a_broker_is_waited_for_without_end():
    """Celery by itself ends a worker after a hundred tries."""
    with make_app(Settings()) as app:
        assert app.conf.broker_connection_max_retries is None
