"""`@task`: what it accepts, and what it leaves on the class."""

from typing import Any

import pytest

from rankcast.tasks.declare import TaskDeclaration, declaration_of, is_file, task


def test_a_declared_class_is_still_that_class():
    """Nothing is wrapped: it can be made, called and tested as before."""

    class Steps:
        pass

    assert task("acme/steps", world_size=2, timeout_s=600)(Steps) is Steps
    assert declaration_of(Steps) == TaskDeclaration(name="acme/steps", world_size=2, timeout_s=600)


def test_a_subclass_is_not_declared_by_its_base():
    """Two classes under one name would be one task with two bodies."""

    @task("acme/base")
    class Base:
        pass

    class Child(Base):
        pass

    assert declaration_of(Child) is None


@pytest.mark.parametrize("name", ["a/b", "acme/steps-2", "A.b_c/D-1.e", "0/1", "a" * 100 + "/" + "b" * 100])
def test_owner_and_name_make_a_name(name: str):
    assert task(name)(type("T", (), {})) is not None


@pytest.mark.parametrize("name", ["a/b/c", "acme/stream/fast", "a/b/c/d/e/f"])
def test_a_longer_name_is_one_too(name: str):
    """Clients of fal's know such a task as another endpoint of `owner/name`."""
    assert task(name)(type("T", (), {})) is not None


@pytest.mark.parametrize(
    "name",
    [
        "steps",
        "a/b/",
        "a//c",
        "a/b/c/d/e/f/g",
        "/b",
        "a/",
        "a b/c",
        "a/b\n",
        "ä/b",
        ".a/b",
        "a/-b",
        "a" * 101 + "/b",
        "",
        None,
        5,
    ],
)
def test_any_other_name_is_refused_at_import(name: Any):
    with pytest.raises(ValueError, match="owner/name"):
        task(name)


@pytest.mark.parametrize("name", ["a/b/stream", "a/b/requests", "a/b/realtime/c"])
def test_what_urls_have_behind_a_name_is_no_part_of_one(name: str):
    with pytest.raises(ValueError, match="no part of a task's name"):
        task(name)


@pytest.mark.parametrize("world_size", [0, -1, 1.0, "2", True, None])
def test_a_world_size_is_a_whole_number_of_ranks(world_size: Any):
    with pytest.raises(ValueError, match="world_size"):
        task("a/b", world_size=world_size)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "5", True])
@pytest.mark.parametrize(
    "limit", ["timeout_s", "total_timeout_s", "setup_timeout_s", "cancel_grace_s", "stall_s", "silence_s"]
)
def test_a_limit_is_a_number_of_seconds(limit: str, seconds: Any):
    with pytest.raises(ValueError, match=limit):
        task("a/b", **{limit: seconds})


@pytest.mark.parametrize("retries", [-1, 1.0, "1", True, None])
def test_retries_are_a_whole_number(retries: Any):
    with pytest.raises(ValueError, match="retries"):
        task("a/b", retries=retries)


def test_only_a_run_may_be_without_limit():
    """None is "no limit" for the run; a start without limit would hold a slot for ever."""
    task("a/b", timeout_s=None, total_timeout_s=None, stall_s=None)
    with pytest.raises(ValueError, match="setup_timeout_s"):
        task("a/b", setup_timeout_s=None)  # type: ignore[arg-type]


def test_a_function_cannot_be_a_task():
    with pytest.raises(TypeError, match="DistributedWorker class"):
        task("a/b")(lambda: None)  # type: ignore[type-var]


@pytest.mark.parametrize("spec", ["steps.py", "./steps.py", "/srv/steps", "folder/steps.py"])
def test_tasks_in_a_file_are_told_from_a_module(spec):
    """One rule for the command line, the worker and its ranks."""
    assert is_file(spec)
    assert not is_file("steps")
    assert not is_file("package.steps")
