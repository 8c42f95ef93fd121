"""Ids, tokens and the small records around a job."""

import re

from rankcast.tasks.job import JobErrorInfo, Outcome, new_job_id, new_token
from rankcast.tasks.state import JobState


def test_ids_and_tokens_are_random_and_fit_everywhere():
    """URL, file name and command line; 128 and 64 bits."""
    ids, tokens = {new_job_id() for _ in range(1000)}, {new_token() for _ in range(1000)}
    assert len(ids) == len(tokens) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{32}", job_id) for job_id in ids)
    assert all(re.fullmatch(r"[0-9a-f]{16}", token) for token in tokens)


def test_an_error_tells_what_is_known_and_nothing_else():
    """Rank 0 and exit code 0 are known; None is not."""
    assert JobErrorInfo(kind="exited", message="rank 0 left", rank=0, exitcode=0).as_dict() == {
        "kind": "exited",
        "message": "rank 0 left",
        "rank": 0,
        "exitcode": 0,
    }


def test_outcomes_do_not_share_their_metrics():
    """A default that one attempt fills would show in the next."""
    first, second = Outcome(state=JobState.FAILED), Outcome(state=JobState.FAILED)
    first.metrics["steps"] = 1
    assert second.metrics == {}
