"""The forkserver: what it tells of the tasks, what cannot be forked, and that it leaves no orphan."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ranks import specs_of

from rankcast.gpu_worker.forkserver import ForkServer, ForkServerLost, TasksNotLoadable

Serve = Callable[..., ForkServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve("echoes")` starts a forkserver for these fixture files."""
    started: list[ForkServer] = []

    def serve(*names: str) -> ForkServer:
        started.append(ForkServer.start(specs_of(*names)))
        return started[-1]

    yield serve
    for server in started:
        server.stop()


def test_tasks_are_described_without_importing_them_here(serve):
    """The worker's own process stays free of torch and of users' code."""
    code = """
        import json, sys
        from rankcast.gpu_worker.forkserver import ForkServer
        server = ForkServer.start(sys.argv[1:])
        print(json.dumps([[t.name, t.world_size, t.start_method] for t in server.tasks]))
        print(server.device_count, "torch" in sys.modules, [m for m in sys.modules if "echoes" in m])
        server.stop()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *specs_of("echoes")],
        capture_output=True,
        text=True,
        check=True,
    )
    tasks, here = done.stdout.splitlines()
    assert json.loads(tasks) == [["t/echo", 2, "fork"], ["t/alone", 1, "fork"]]
    assert here.endswith("False []")


def test_a_description_has_what_the_catalog_needs(serve):
    (task,) = serve("stops").tasks[:1]
    assert (task.name, task.world_size, task.cancel_grace_s) == ("t/stops", 2, 30.0)
    assert task.input_schema["properties"]["when"]["default"] == "should_stop"
    assert task.spec == specs_of("stops")[0]
    assert "stops.py" in task.place
    assert task.warnings == ()


def test_a_module_that_does_not_import_is_a_clear_error(serve):
    """File, line and reason of each; nothing keeps running."""
    with pytest.raises(TasksNotLoadable) as caught:
        serve("echoes", "does_not_import")
    (fault,) = caught.value.faults
    assert str(caught.value) == (
        f"cannot load the tasks of '{fault['spec']}': {fault['spec']}:5: "
        "ModuleNotFoundError: No module named 'no_such_module'"
    )
    assert "Traceback" in fault["traceback"]


def test_a_module_that_ends_the_process_is_told(serve):
    """With the exit code, and what was being imported."""
    with pytest.raises(ForkServerLost, match=r"imports .*ends_at_import\.py, ended with exit code 6"):
        serve("echoes", "ends_at_import")


def test_an_import_that_hangs_is_given_up():
    """With the time that it had; nothing keeps importing."""
    with pytest.raises(ForkServerLost, match="does not answer within 2 s"):
        ForkServer.start(specs_of("imports_slowly"), timeout_s=2)


def test_two_files_may_not_claim_one_name(serve, tmp_path):
    """Whose would run?"""
    copy = tmp_path / "again.py"
    copy.write_text(Path(specs_of("stops")[0]).read_text())
    with pytest.raises(TasksNotLoadable, match=r"'t/stops' is declared twice, by .*stops\.py.*again\.py"):
        ForkServer.start([*specs_of("stops"), str(copy)])


def test_what_cannot_be_forked_runs_in_a_fresh_interpreter(serve, hold):
    """A thread that its import left running would be missing in a fork. Other tasks still fork."""
    server = serve("leaves_a_thread", "echoes")
    by_name = {task.name: task for task in server.tasks}
    threaded = by_name["t/threaded"]
    assert threaded.start_method == "spawn"
    assert "leaves threads running (beat)" in threaded.unforkable
    assert by_name["t/echo"].start_method == "fork"
    held = hold("t/threaded", server)
    assert not held.group.is_preloaded
    assert held.value() == {"is_alive": True, "is_own": True}
    forked = hold("t/echo", server)
    assert forked.group.is_preloaded
    assert forked.value()["sum"] == 1.0


def test_it_starts_from_the_main_thread_only():
    """It dies with the thread that started it, and pool threads come and go."""
    errors: list[Exception] = []

    def start() -> None:
        try:
            ForkServer.start(specs_of("echoes"))
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


def test_there_is_one_in_a_process(serve):
    """multiprocessing has no more."""
    serve("echoes")
    with pytest.raises(RuntimeError, match="has a forkserver already"):
        serve("stops")


def test_the_environment_is_as_it_was(serve, monkeypatch):
    """What the start needed there is taken back, here and in the ranks."""
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    before = dict(os.environ)
    server = serve("echoes")
    assert dict(os.environ) == before
    assert psutil.Process(server.pid).environ()["PYTHONPATH"].startswith(sys.path[0])


def test_a_forkserver_that_was_killed_is_started_again(serve, hold, wait_until):
    """Its ranks died with it; the next group finds a new one, preloaded as the first."""
    server = serve("echoes")
    held = hold("t/echo", server)
    ranks = [psutil.Process(pid) for pid in held.group.pids]
    first = server.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not held.group.is_usable(), "the ranks' end is seen")
    assert not any(is_alive(rank) for rank in ranks)
    again = hold("t/echo", server)
    assert server.pid != first
    assert again.group.is_preloaded
    assert again.value()["sum"] == 1.0


WORKER = """
    import os, sys, threading
    from rankcast.gpu_worker.forkserver import ForkServer
    from rankcast.gpu_worker.group import RankGroup
    from rankcast.gpu_worker.messages import Call
    from rankcast.gpu_worker.supervision import Control
    from rankcast.tasks.settings import Settings

    server = ForkServer.start(sys.argv[2:], counts_devices=False)
    task = next(task for task in server.tasks if task.name == sys.argv[1])
    group = RankGroup.start(task, forkserver=server, settings=Settings(), on_log=lambda *line: None)
    print(server.pid, *group.pids, flush=True)
    sys.stdin.read()
"""


#: Each with its own file alone: what cannot be forked starts the forkserver of all others twice.
THREADED = pytest.param("t/threaded", "leaves_a_thread", id="t/threaded")
CHILDREN = pytest.param("t/children", "leaves_children", id="t/children")


@pytest.mark.parametrize(
    ("name", "file"), [pytest.param("t/echo", "echoes", id="t/echo"), THREADED, CHILDREN]
)
def test_nothing_outlives_a_worker_that_is_killed(name, file, wait_until):
    """kill -9 of the process that owns a forkserver and a live group: both forks and fresh
    interpreters die, and what they started."""
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), name, *specs_of(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    told = [int(pid) for pid in worker.stdout.readline().split()]
    family = psutil.Process(worker.pid).children(recursive=True)
    assert set(told) <= {process.pid for process in family}
    worker.kill()
    worker.communicate()
    wait_until(lambda: not any(is_alive(process) for process in family), "everything below it is gone")


@pytest.mark.parametrize(("name", "file"), [THREADED, CHILDREN])
def test_what_a_rank_started_goes_with_it_while_its_worker_stands_still(name, file, wait_until):
    """Neither has time to see to it: the rank is killed, the worker is stopped."""
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), name, *specs_of(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    boss = psutil.Process(worker.pid)
    try:
        ranks = [psutil.Process(int(pid)) for pid in worker.stdout.readline().split()[1:]]
        started = [process for rank in ranks for process in rank.children(recursive=True)]
        assert started
        boss.suspend()
        for rank in ranks:
            rank.kill()
        wait_until(lambda: not any(is_alive(process) for process in started), "all that they started is gone")
    finally:
        worker.kill()
        worker.communicate()


def test_nothing_outlives_a_worker_that_is_killed_while_it_boots(wait_until):
    """The forkserver has not even imported torch by then."""
    command = [sys.executable, "-c", textwrap.dedent(WORKER), "t/none", *specs_of("imports_slowly")]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    boss = psutil.Process(worker.pid)
    wait_until(lambda: any("forkserver" in " ".join(p.cmdline()) for p in boss.children()), "it has begun")
    family = boss.children(recursive=True)
    worker.kill()
    worker.communicate()
    wait_until(lambda: not any(is_alive(process) for process in family), "nothing of it is left")


def test_a_rank_goes_when_the_worker_lets_go_of_it(serve, hold, wait_until):
    """Where no signal says that the parent died, the end of the pipe does."""
    held = hold("t/echo", serve("echoes"))
    ranks = [psutil.Process(pid) for pid in held.group.pids]
    for member in held.group._members:
        member._pipe.close()
    wait_until(lambda: not any(is_alive(rank) for rank in ranks), "the ranks end by themselves")


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
