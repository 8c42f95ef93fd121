"""The command lines and environments that `up`, `web` and `worker` start."""

import os
from pathlib import Path

import pytest

from rankcast.cli.options import did_you_mean
from rankcast.cli.processes import WorkerOptions, redis_config, resolve_tasks, worker_env
from rankcast.gpu_worker.settings import WorkerSettings


def test_what_a_worker_is_told_is_what_its_settings_read(tmp_path):
    """Every option reaches the worker; the environment is the only way between them."""
    options = WorkerOptions(
        tasks=["/a/steps.py", "/b/more.py"],
        redis_url="redis://:pw@host:1/0",
        gpus="0-3",
        slot_gpus=2,
        slots=3,
        warm=["acme/steps", "acme/more"],
        host_name="gpu-1",
        shared="/mnt/all",
        fetch_host=["files.example.com", "minio:9000=10.0.0.7"],
    )
    settings = WorkerSettings.from_env(worker_env(options, {}, str(tmp_path)))
    assert settings.tasks == ("/a/steps.py", "/b/more.py")
    assert (settings.gpus, settings.slot_gpus, settings.cpu_slots) == ((0, 1, 2, 3), 2, 3)
    assert (settings.warm, settings.host) == (("acme/steps", "acme/more"), "gpu-1")
    assert settings.shared == Path("/mnt/all")
    assert settings.fetch_hosts == ("files.example.com", "minio:9000=10.0.0.7")
    assert settings.deployment.redis_url == settings.deployment.broker_url == "redis://:pw@host:1/0"


def test_what_a_worker_is_not_told_is_left_to_the_environment(tmp_path):
    """An option that was not given does not hide the variable."""
    env = {"RANKCAST_SLOTS": "4", "PATH": "/bin"}
    assert worker_env(WorkerOptions(tasks=["/a.py"]), env, str(tmp_path)) == {
        **env,
        "RANKCAST_TASKS": "/a.py",
    }


def test_a_module_is_found_by_the_ranks_in_the_folder_where_the_worker_was_started(tmp_path):
    """Ranks come from a fork server that reads PYTHONPATH and nothing else."""
    env = worker_env(WorkerOptions(tasks=["steps"]), {"PYTHONPATH": "/lib"}, str(tmp_path))
    assert env["PYTHONPATH"] == os.pathsep.join([str(tmp_path), "/lib"])


def test_a_file_is_named_by_its_whole_path_and_a_module_by_its_name(tmp_path):
    """The worker's children may stand in another folder."""
    (tmp_path / "steps.py").touch()
    assert resolve_tasks("steps.py", str(tmp_path)) == str(tmp_path / "steps.py")
    assert resolve_tasks("./steps.py", str(tmp_path)) == str(tmp_path / "steps.py")
    assert resolve_tasks("steps", str(tmp_path)) == "steps"
    assert resolve_tasks("json.tool", str(tmp_path)) == "json.tool"


@pytest.mark.parametrize("task", ["nothing.py", "no/thing", "nothing_here", "steps-2", "a..b", ""])
def test_tasks_that_are_not_there_are_refused_before_anything_starts(task, tmp_path):
    """A slip on the command line is told at once, not by a worker that dies."""
    with pytest.raises(ValueError):
        resolve_tasks(task, str(tmp_path))


def test_the_embedded_redis_keeps_what_it_accepted_and_forgets_nothing_under_pressure(tmp_path):
    """Append-only file, synced every second, no eviction; and nobody else gets in."""
    lines = redis_config(port=7, folder=tmp_path, password="secret").splitlines()
    assert {"appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"} <= set(lines)
    assert {"bind 127.0.0.1", "port 7", "requirepass secret"} <= set(lines)


def test_an_unknown_task_comes_with_the_name_that_was_meant():
    """A slip of a letter, or a forgotten owner."""
    known = ["acme/steps", "acme/train"]
    assert did_you_mean("acme/step", known) == "; did you mean acme/steps?"
    assert did_you_mean("train", known) == "; did you mean acme/train?"
    assert did_you_mean("zzz", known) == "; there are: acme/steps, acme/train"
    assert "start a worker" in did_you_mean("zzz", [])
