"""A module that initialises CUDA when it is imported, which no fork survives."""

TASKS = "touches_cuda.py"


def test_its_ranks_are_new_interpreters_and_work(forkserver, hold):
    """The task falls back to the slow start, and says why."""
    [task] = forkserver.tasks
    assert task.start_method == "spawn"
    assert "CUDA" in (task.unforkable or "")
    assert hold("gpu/eager", 0).value() == 1.0
