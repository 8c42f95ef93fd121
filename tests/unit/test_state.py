"""The table of a job's life."""

from rankcast.tasks.state import TERMINAL, TRANSITIONS, JobState, may_move


def test_every_state_has_a_row():
    """A state without a row would be an error at its first move."""
    assert set(TRANSITIONS) == set(JobState)


def test_nothing_leaves_an_end():
    """Succeeded, failed and cancelled are final, and they alone."""
    assert {state for state in JobState if not TRANSITIONS[state]} == TERMINAL
    assert {state for state in JobState if state.is_terminal} == TERMINAL


def test_every_job_can_end():
    """From every state each end but a success is one move away."""
    for state in set(JobState) - TERMINAL:
        assert may_move(state, JobState.FAILED)
        assert may_move(state, JobState.CANCELLED)


def test_only_a_running_job_succeeds():
    """Only a group that was ready can have returned something."""
    assert {state for state in JobState if may_move(state, JobState.SUCCEEDED)} == {JobState.RUNNING}


def test_work_begins_at_a_claim_and_nowhere_else():
    """Queued leads to starting, never straight to running."""
    assert not may_move(JobState.QUEUED, JobState.RUNNING)
    assert {state for state in JobState if may_move(state, JobState.STARTING)} == {JobState.QUEUED}


def test_states_are_written_as_their_names():
    """Redis, JSON and Python show the same word."""
    assert [f"{state}" for state in JobState] == [
        "queued",
        "starting",
        "running",
        "succeeded",
        "failed",
        "cancelled",
    ]
