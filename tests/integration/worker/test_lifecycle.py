"""How a worker begins and ends: nothing is lost with it, and nothing of it is left."""

import signal
from pathlib import Path

import orjson
from helpers import wait_until
from workers import Site, Worker, is_alive, kill, worker

from rankcast.tasks.state import JobState


def running_pid(site: Site, job_id: str) -> int:
    pid: int = orjson.loads(site.wait_event(job_id, "pid").data)["pid"]
    return pid


def test_a_killed_worker_leaves_no_rank(site: Site, tmp_path: Path):
    """kill -9 in the middle of a job: the forkserver and every rank go with it."""
    with worker(site.url, "steady.py", folder=tmp_path) as host:
        rank = running_pid(site, site.submit("acme/deaf"))
        kill(host.pid)
        host.wait_gone()
        assert not is_alive(rank)
    site.forget_jobs()


def test_a_worker_that_is_told_to_stop_ends_its_job_first(site: Site, tmp_path: Path):
    """SIGTERM takes nothing new, lets what runs come to its end, and leaves no process and no entry."""
    with worker(site.url, "steady.py", folder=tmp_path) as host:
        job_id = site.submit("acme/steps", {"steps": 5, "delay_s": 0.1})
        site.wait_event(job_id, "total")
        late = site.submit("acme/other")
        assert host.stop(signal.SIGTERM) == 0
        host.wait_gone()
    assert site.store.record(job_id).state is JobState.SUCCEEDED
    assert site.store.record(late).state is JobState.QUEUED
    assert site.catalog.workers() == []
    site.forget_jobs()


def test_a_worker_that_must_stop_now_gives_its_job_back(site: Site, tmp_path: Path):
    """SIGQUIT (or a second Ctrl+C) ends the group; the job is queued again at once, and that is no loss."""
    with worker(site.url, "steady.py", folder=tmp_path) as host:
        job_id = site.submit("acme/deaf")
        rank = running_pid(site, job_id)
        host.stop(signal.SIGQUIT)
        host.wait_gone()
        assert not is_alive(rank)
    assert site.catalog.workers() == []
    record = site.store.record(job_id)
    assert (record.state, record.losses) == (JobState.QUEUED, 0)
    site.forget_jobs()


def given_back(site: Site, job_id: str) -> bool:
    """Whether it is queued again, at no cost: no loss is counted, and no attempt failed."""
    record = site.store.record(job_id)
    [attempt] = record.attempts
    return (record.state, record.losses, attempt.error) == (JobState.QUEUED, 0, None)


def test_a_second_sigterm_is_a_stop_now(site: Site, tmp_path: Path):
    """As an impatient supervisor sends it; Celery itself would wait for the job all the same."""
    with worker(site.url, "steady.py", folder=tmp_path) as host:
        job_id = site.submit("acme/deaf")
        rank = running_pid(site, job_id)
        host.process.send_signal(signal.SIGTERM)
        host.wait_log("Warm shutdown")
        assert is_alive(rank)
        assert host.stop(signal.SIGTERM) == 0
        host.wait_gone()
    assert given_back(site, job_id)
    site.forget_jobs()


def test_a_drain_may_be_given_a_limit(site: Site, tmp_path: Path):
    """What still runs then goes back to its queue, uncounted, and the stream says why."""
    with worker(site.url, "steady.py", folder=tmp_path, env={"RANKCAST_DRAIN_TIMEOUT_S": "0.3"}) as host:
        job_id = site.submit("acme/deaf")
        running_pid(site, job_id)
        assert host.stop(signal.SIGTERM) == 0
        host.wait_gone()
    assert given_back(site, job_id)
    assert "its worker had to stop" in (site.events(job_id)[-1].data or b"").decode()
    site.forget_jobs()


def test_ctrl_c_twice_is_a_stop_now(site: Site, tmp_path: Path):
    """As everybody does it who is in a hurry."""
    with worker(site.url, "steady.py", folder=tmp_path) as host:
        job_id = site.submit("acme/deaf")
        running_pid(site, job_id)
        host.process.send_signal(signal.SIGINT)
        host.wait_log("Hitting Ctrl+C again")
        host.stop(signal.SIGINT)
        host.wait_gone()
    assert site.store.record(job_id).state is JobState.QUEUED
    site.forget_jobs()


def test_a_hangup_is_ignored_and_said_so(site: Site, tmp_path: Path):
    """Celery would start itself anew under the same pid, beside ranks that live on."""
    with worker(site.url, "steady.py", folder=tmp_path) as host:
        family = host.family()
        host.process.send_signal(signal.SIGHUP)
        host.wait_log("SIGHUP is ignored")
        assert site.wait_ended(site.submit("acme/other")).state is JobState.SUCCEEDED
        assert set(family) <= set(host.family())


def test_a_group_that_nobody_uses_is_unloaded(site: Site, tmp_path: Path):
    """Its memory is somebody else's again after the idle time; the next job loads it anew."""
    with worker(site.url, "steady.py", folder=tmp_path, env={"RANKCAST_IDLE_TTL_S": "0.2"}) as host:
        first = site.submit("acme/other")
        site.wait_ended(first)
        host.wait_log("acme/other unloaded")
        second = site.submit("acme/other")
        site.wait_ended(second)
        outputs = [orjson.loads(site.store.output(job_id) or b"null") for job_id in (first, second)]
        assert outputs[0]["pid"] != outputs[1]["pid"]


def test_a_task_can_be_loaded_before_its_first_job(site: Site, tmp_path: Path):
    """`--warm`: nobody waits for the weights; with two slots both tasks stay."""
    env = {"RANKCAST_WARM": "acme/other,acme/steps", "RANKCAST_SLOTS": "2"}
    with worker(site.url, "steady.py", folder=tmp_path, env=env) as host:
        wait_until(lambda: host.log.count(" loaded in ") == 2, "both groups")
        for task in ("acme/other", "acme/steps"):
            assert not site.wait_ended(site.submit(task)).metrics["cold"]


def test_two_slots_run_two_jobs_at_once(site: Site, tmp_path: Path):
    """Each has its own group; a third job waits."""
    with worker(site.url, "steady.py", folder=tmp_path, env={"RANKCAST_SLOTS": "2"}):
        jobs = [site.submit("acme/patient") for _ in range(3)]
        pids = {running_pid(site, job_id) for job_id in jobs[:2]}
        assert len(pids) == 2
        assert site.store.record(jobs[2]).state is JobState.QUEUED
        site.store.cancel(jobs[0])
        assert running_pid(site, jobs[2]) in pids
        for job_id in jobs:
            site.store.cancel(job_id)
            assert site.wait_ended(job_id).state is JobState.CANCELLED


def test_a_task_whose_module_leaves_threads_running_is_served_all_the_same(site: Site, tmp_path: Path):
    """No fork survives that: its ranks start as new interpreters, and the log says why."""
    source = """
import threading, time
threading.Thread(target=time.sleep, args=(10**6,), daemon=True).start()
from rankcast import DistributedWorker, task

@task("acme/threads")
class Threads(DistributedWorker):
    def __call__(self) -> int:
        return 1
"""
    (tmp_path / "threads.py").write_text(source)
    with worker(site.url, "threads.py", "steady.py", folder=tmp_path) as host:
        host.wait_log("acme/threads starts slowly")
        assert site.wait_ended(site.submit("acme/threads")).state is JobState.SUCCEEDED
        assert site.wait_ended(site.submit("acme/other")).metrics["load_ms"] < 1000


def refusal(host: Worker) -> str:
    """The one line of a worker that does not start."""
    assert host.process.wait(60) == 1
    [line] = [line for line in host.log.splitlines() if line.startswith("rankcast worker:")]
    assert "Traceback" not in host.log
    return line


def test_a_worker_that_could_never_run_a_job_says_why_and_ends(site: Site, tmp_path: Path):
    """One line, exit code 1, before anything is taken from a queue."""
    (tmp_path / "broken.py").write_text("import rankcast\n\nimport no_such_module\n")
    cases = [
        (("steady.py",), {"RANKCAST_SLOT_GPUS": "1"}, (), "task 'acme/steps' has 2 ranks, and a slot 1"),
        (("steady.py",), {"RANKCAST_WARM": "acme/nope"}, (), "--warm acme/nope"),
        (("no_such_file.py",), {}, (), "no_such_file.py': there is no such file"),
        (("broken.py",), {}, (), "broken.py:3: ModuleNotFoundError: No module named 'no_such_module'"),
        ((), {}, (), "no tasks to serve: give --tasks"),
        (
            ("steady.py",),
            {"RANKCAST_SHARED": str(tmp_path / "broken.py" / "x")},
            (),
            "broken.py/x: Not a dir",
        ),
        (("steady.py",), {}, ("-P", "prefork"), "--pool prefork does not go with rankcast"),
        (("steady.py",), {}, ("-Q", "other"), "--queues does not go with rankcast"),
    ]
    for specs, env, options, words in cases:
        with worker(site.url, *specs, folder=tmp_path, env=env, options=options, is_ready=False) as host:
            assert words in refusal(host)
            host.wait_gone()


def test_a_worker_that_meets_an_error_nobody_expects_ends_too(site: Site, tmp_path: Path):
    """Here the forkserver's socket gets too long a name. Celery by itself would go on, and serve nothing."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    env = {"TMPDIR": str(deep)}
    with worker(site.url, "steady.py", folder=tmp_path, env=env, is_ready=False) as host:
        assert host.process.wait(60) == 1
        assert "AF_UNIX path too long" in host.log
        assert "rankcast worker: it could not start" in host.log
