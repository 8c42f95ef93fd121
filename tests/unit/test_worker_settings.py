"""What a worker reads from its environment, and how it refuses what cannot be meant."""

import os
import tempfile
from pathlib import Path

import pytest

from rankcast.gpu_worker.settings import WorkerSettings

TASKS = {"RANKCAST_TASKS": "steps.py"}


def test_the_environment_says_it_all():
    """`celery -A rankcast.gpu_worker.worker worker` needs nothing else."""
    settings = WorkerSettings.from_env(
        {
            "RANKCAST_TASKS": os.pathsep.join(["steps.py", "acme.models"]),
            "RANKCAST_GPUS": "0-2, 5",
            "RANKCAST_SLOT_GPUS": "2",
            "RANKCAST_SLOTS": "3",
            "RANKCAST_WARM": "acme/a, acme/b",
            "RANKCAST_IDLE_TTL_S": "1.5",
            "RANKCAST_DRAIN_TIMEOUT_S": "30",
            "RANKCAST_SHARE_GPU": "1",
            "RANKCAST_HOST": "gpu-7",
            "RANKCAST_SHARED": "/mnt/all",
            "RANKCAST_REDIS_URL": "redis://r:1/0",
        }
    )
    assert settings.tasks == ("steps.py", "acme.models")
    assert settings.gpus == (0, 1, 2, 5)
    assert (settings.slot_gpus, settings.cpu_slots, settings.idle_ttl_s) == (2, 3, 1.5)
    assert settings.drain_timeout_s == 30.0
    assert WorkerSettings.from_env(TASKS).drain_timeout_s is None
    assert settings.warm == ("acme/a", "acme/b")
    assert settings.is_sharing_gpus
    assert settings.host == "gpu-7"
    assert settings.checkpoints("d1") == Path("/mnt/all/checkpoints/d1")
    assert settings.deployment.broker_url == "redis://r:1/0"


def test_no_gpu_list_means_all_and_none_means_the_cpu():
    """The two must not be mixed up: one uses every GPU, the other none."""
    assert WorkerSettings.from_env(TASKS).gpus is None
    assert WorkerSettings.from_env({**TASKS, "RANKCAST_GPUS": "none"}).gpus == ()


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/rankcast"),
        ({"HOME": "/h"}, "/h/.cache/rankcast"),
        ({}, f"{tempfile.gettempdir()}/rankcast-{os.getuid()}"),
        ({"HOME": "/h", "RANKCAST_SHARED": "here"}, f"{os.getcwd()}/here"),
    ],
)
def test_checkpoints_lie_in_the_users_cache_unless_there_is_a_shared_folder(env, folder):
    """Deployments are kept apart in either."""
    assert WorkerSettings.from_env({**TASKS, **env}).checkpoints("d1") == Path(folder, "checkpoints", "d1")


@pytest.mark.parametrize(
    ("env", "refusal"),
    [
        ({"RANKCAST_TASKS": ""}, "no tasks to serve: give --tasks"),
        ({"RANKCAST_GPUS": "a"}, "RANKCAST_GPUS: 'a' does not list GPUs"),
        ({"RANKCAST_GPUS": "3-1"}, "RANKCAST_GPUS: '3-1' does not list GPUs"),
        ({"RANKCAST_GPUS": "0,0"}, "RANKCAST_GPUS: '0,0' does not list GPUs"),
        ({"RANKCAST_GPUS": "-1"}, "RANKCAST_GPUS: '-1' does not list GPUs"),
        ({"RANKCAST_SLOT_GPUS": "0"}, "RANKCAST_SLOT_GPUS: '0' is not a whole number from 1"),
        ({"RANKCAST_SLOTS": "two"}, "RANKCAST_SLOTS: 'two' is not a whole number from 1"),
        ({"RANKCAST_DRAIN_TIMEOUT_S": "-1"}, "RANKCAST_DRAIN_TIMEOUT_S: '-1' is not a number of seconds"),
        ({"RANKCAST_IDLE_TTL_S": "nan"}, "RANKCAST_IDLE_TTL_S: 'nan' is not a number of seconds"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_name(env: dict[str, str], refusal: str):
    """One line that says which variable and what it takes."""
    with pytest.raises(ValueError, match=refusal):
        WorkerSettings.from_env({**TASKS, **env})
