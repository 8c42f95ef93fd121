"""What ranks print is in the job's logs, and not among its events."""

from rankcast import Client


def test_every_line_has_its_rank_stream_and_host(client: Client):
    job = client.submit("tutorial/chatty")
    job.result(timeout_s=60)
    lines = job.logs()
    assert {(line.rank, line.stream, line.text) for line in lines} == {
        (0, "stdout", "hello from 0"),
        (1, "stdout", "hello from 1"),
        (0, "stderr", "a warning from 0"),
        (1, "stderr", "a warning from 1"),
    }
    assert all(line.host for line in lines)
    assert not any(event.is_result for event in job.stream())
