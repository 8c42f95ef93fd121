"""Procfile, docker-compose.yml and the rest say the same as `rankcast up` does."""

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from rankcast.cli import main
from rankcast.cli.processes import REDIS_SETTINGS
from rankcast.gpu_worker.settings import WorkerSettings
from rankcast.web.settings import WebSettings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())


def expanded(text: str, **env: str) -> str:
    """`${NAME:-default}` and `${NAME:?message}` as a shell and compose read them."""
    inner = re.compile(r"\$\{(\w+)(?::[-?]([^${}]*))?\}")
    while inner.search(text):
        text = inner.sub(lambda match: env.get(match[1]) or match[2] or "", text)
    return text


def rankcast_commands() -> Iterator[Any]:
    for name, line in PROCFILE.items():
        if line.startswith("rankcast"):
            yield pytest.param(shlex.split(expanded(line)), id=f"Procfile {name}")
    for name, service in SERVICES.items():
        if name != "redis":
            # The volume that the service mounts there.
            command = [expanded(word).replace("/tasks/", "examples/") for word in service["command"]]
            yield pytest.param(command, id=f"compose {name}")


@pytest.mark.parametrize("command", list(rankcast_commands()))
def test_each_command_line_is_one_that_rankcast_takes(command, monkeypatch):
    """The command exists, and so does every option, with a value of its type."""
    monkeypatch.chdir(ROOT)
    assert command[0] == "rankcast"
    context = main.make_context("rankcast", command[1:])
    _, subcommand, rest = main.resolve_command(context, [*context._protected_args, *context.args])
    assert isinstance(subcommand, click.Command)
    assert subcommand.make_context(subcommand.name, rest).params


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(shlex.split(PROCFILE["redis"].partition("&& ")[2]), id="Procfile"),
        pytest.param(SERVICES["redis"]["command"], id="compose"),
    ],
)
def test_redis_is_set_as_up_sets_it(command: Sequence[str]):
    """What was accepted survives a crash, and nothing is evicted."""
    pairs = zip(command[1::2], command[2::2], strict=True)
    assert {name.removeprefix("--"): value for name, value in pairs}.items() >= REDIS_SETTINGS.items()


class Recorded(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__(env)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def test_every_variable_that_a_container_is_given_is_one_that_is_read():
    """A misspelt name would silently leave the default."""
    web, worker = Recorded({}), Recorded({"RANKCAST_TASKS": "x.py"})
    WebSettings.from_env(web)
    WorkerSettings.from_env(worker)
    for name, service in SERVICES.items():
        given = {each for each in service["environment"] if each.startswith("RANKCAST_")}
        assert given <= web.asked | worker.asked, name


def test_redis_has_a_password_and_the_others_know_it():
    """In compose every container of the network could reach it."""
    assert SERVICES["redis"]["command"][1:3] == [
        "--requirepass",
        "${RANKCAST_REDIS_PASSWORD:?set it in .env}",
    ]
    for name in ("web", "gpu_worker", "cpu_worker"):
        url = expanded(SERVICES[name]["environment"]["RANKCAST_REDIS_URL"], RANKCAST_REDIS_PASSWORD="pw")
        assert url == "redis://:pw@redis:6379/0"
    assert "ports" not in SERVICES["redis"]


def test_only_this_host_reaches_the_web_tier():
    """Until somebody makes keys, and publishes it."""
    assert SERVICES["web"]["ports"] == ["127.0.0.1:8700:8700"]


def test_keys_lie_where_the_web_tier_may_write_them_and_nobody_else_sees_them():
    """A file of them is named in .env; without one there are none. The probe asks what needs no key."""
    web = SERVICES["web"]
    assert "keys:/keys" in web["volumes"]
    assert "keys" in COMPOSE["volumes"]
    assert (
        "/keys" in re.search(r"install -d -o \S+ -g \S+ (.+)", (ROOT / "Dockerfile").read_text())[1].split()
    )
    told = web["environment"]["RANKCAST_KEYS"]
    none, named = (
        WebSettings.from_env({"RANKCAST_KEYS": expanded(told, **env)}).keys
        for env in ({}, {"RANKCAST_KEYS": "/keys/keys"})
    )
    assert (none, named) == (None, Path("/keys/keys"))
    assert all("keys:/keys" not in SERVICES[name]["volumes"] for name in ("gpu_worker", "cpu_worker"))
    assert web["healthcheck"]["test"][-1].endswith("/healthz')")


def test_two_hosts_never_go_by_one_name():
    """Unless somebody names them, each container goes by its own name."""
    for name in ("gpu_worker", "cpu_worker"):
        told = SERVICES[name]["environment"]["RANKCAST_HOST"]
        unnamed, named = (
            WorkerSettings.from_env({"RANKCAST_TASKS": "x.py", "RANKCAST_HOST": text}).host
            for text in (expanded(told), expanded(told, RANKCAST_HOST="gpu-1"))
        )
        assert (unnamed, named) == (socket.gethostname(), "gpu-1")


def test_a_gpu_worker_has_its_devices_shared_memory_and_time_to_drain():
    """What a rank group needs of a container, and a running job of a stop."""
    gpu, cpu = SERVICES["gpu_worker"], SERVICES["cpu_worker"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert (gpu["profiles"], cpu["profiles"]) == (["gpu"], ["cpu"])
    for service in (gpu, cpu):
        assert service["ipc"] == "host"
        assert service["init"] is True
        assert service["stop_grace_period"] == "10m"
    assert "deploy" not in cpu


def test_web_tier_and_workers_share_a_folder_that_they_may_write_in():
    """A volume takes the owner that its place has in the image."""
    user = re.search(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    made = re.search(r"install -d -o (\S+) -g \S+ (\S+)", (ROOT / "Dockerfile").read_text())
    assert user is not None
    assert made is not None
    assert made[1] == user[1]
    for name in ("web", "gpu_worker", "cpu_worker"):
        volumes = dict(expanded(each).split(":")[:2] for each in SERVICES[name]["volumes"])
        assert volumes["shared"] == made[2]
        command = SERVICES[name]["command"]
        assert command[command.index("--shared") + 1] == made[2]
    assert "shared" in COMPOSE["volumes"]
    for name in ("web", "gpu_worker"):
        assert PROCFILE[name].endswith("--shared rankcast-data")


def test_the_image_holds_all_that_is_installed_and_nothing_else():
    """.dockerignore lets in what the Dockerfile copies."""
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    named = {word for line in copied for word in line.split()}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert named == let_in
    assert all((ROOT / name).exists() for name in named)


def test_the_locked_releases_are_ones_that_pyproject_allows_and_name_no_place():
    """A constraints file that works everywhere: releases only, no local builds, paths or indexes."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert "torch==2.13.0" in lines
    for line in lines:
        assert re.fullmatch(r"[a-z0-9._-]+==[0-9][a-z0-9.]*(; \S.*)?", line), line


def test_ci_runs_what_readme_names():
    """Nothing but the commands that a newcomer is shown."""
    script = (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=False).returncode == 0
    lines = [line for line in script.splitlines() if re.match(r"\s*make\b", line)]
    # No option but how many at a time: another could let a failure pass.
    told = [re.fullmatch(r"make(?: -j\d+)?((?: [a-z-]+)+)", line) for line in lines]
    assert all(told), lines
    targets = [word for line in told if line for word in line[1].split()]
    assert not any(word.startswith("-") for word in targets)
    readme = (ROOT / "README.md").read_text()
    assert {"check", "test"} <= set(targets)
    assert all(re.search(rf"\bmake {target}\b", readme) for target in targets)
