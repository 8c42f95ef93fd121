"""Jobs wait in the queue of their task, in the order of priority and age."""

from rankcast import Client


def test_a_waiting_job_knows_its_place(client: Client):
    running = client.submit("tutorial/patient")
    next(event for event in running.stream() if event.data == "working")
    first, second = client.submit("tutorial/patient"), client.submit("tutorial/patient")
    urgent = client.submit("tutorial/patient", options={"priority": 0})

    places = [job.record()["queue_position"] for job in (urgent, first, second)]
    assert places == [0, 1, 2]
    for job in (first, second, urgent, running):
        job.cancel()


def test_status_shows_workers_slots_and_queues(client: Client):
    job = client.submit("tutorial/patient")
    next(event for event in job.stream() if event.data == "working")
    status = client.status()
    assert any(queue["task"] == "tutorial/patient" for queue in status["queues"])
    [worker] = status["workers"]
    assert worker["slots"]
    job.cancel()
