"""Saving on real ranks: rank 0 announces, every rank has the same folder, a full disk ends the job."""

import json
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.usefixtures("forkserver")


def test_rank_zero_saves_and_every_rank_writes_in_one_folder(hold):
    """Each announced in its turn, with what was said of it; the record has the last."""
    held = hold("t/saves")
    told = held.value()
    claim = held.claim
    folder = held.checkpoints / claim.job_id / str(claim.fence)
    assert [each["dir"] for each in told] == [str(folder)] * 2
    assert told[1]["saved"] == [None, None, None]
    value, bytes_, shards = map(Path, told[0]["saved"])
    assert not value.exists()
    assert bytes_.read_bytes() == b"two"
    assert sorted(path.read_text() for path in shards.iterdir()) == ["0", "1"]

    events = [(event.kind, json.loads(event.data)) for event in held.events()[3:]]
    assert events[0] == ("", "before")
    assert events[-1] == ("", "after")
    assert [kind for kind, _ in events[1:-1]] == ["checkpoint"] * 3
    paths = [path.relative_to(held.checkpoints).as_posix() for path in (value, bytes_, shards)]
    assert [data for _, data in events[1:-1]] == [
        {"path": paths[0], "attempt": 1, "step": 1},
        {"path": paths[1], "attempt": 1, "step": 2, "loss": 0.5},
        {"path": paths[2], "attempt": 1, "step": 3},
    ]
    assert held.store.record(claim.job_id).checkpoint == events[-2][1]


def test_a_full_disk_ends_the_job_by_that_name(hold):
    """The checkpoint before it stays, whole, and stays announced; the rank takes the next job."""
    held = hold("t/fills")
    outcome = held.run()
    assert (outcome.error.kind, outcome.error.rank) == ("storage_full", 0)
    assert "checkpoint.pt" in outcome.error.message
    kept = held.store.record(held.claim.job_id).checkpoint
    assert kept["step"] == 1
    assert (held.checkpoints / kept["path"]).read_bytes() == b"small"
    left = [path for path in (held.checkpoints / held.claim.job_id).rglob("*") if path.is_file()]
    assert left == [held.checkpoints / kept["path"]]
    assert held.value(is_caught=True) == "File too large, and it goes on"


def test_a_value_can_be_read_back_as_torch_has_it(hold):
    """Without running any code that is in the file."""
    held = hold("t/climbs")
    assert held.value(steps=2) == {"began_at": 0, "total": 6}
    told = held.store.record(held.claim.job_id).checkpoint
    assert torch.load(held.checkpoints / told["path"], weights_only=True) == {"step": 2, "total": 6}
