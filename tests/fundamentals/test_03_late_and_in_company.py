"""Any number of viewers, and whenever they come: all see the same log."""

from concurrent.futures import ThreadPoolExecutor

from rankcast import Client


def test_everybody_sees_the_same_events(client: Client):
    """Viewers that come at once, in the middle and after the end."""
    job = client.submit("tutorial/countdown", start=30, pause_s=0.01)
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: list(job.stream()), range(4)))
    late = list(job.stream())
    assert all(events == late for events in seen)
    assert len(late) == 1 + 2 + 30 + 1
