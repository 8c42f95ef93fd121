"""Random lives of one job's log, against a list.

Whatever batches, repeats, drains, losses and cancels come: what was acknowledged is in the log once
and in order, what was refused is not, and what the live channel carried is the log.
"""

import fakeredis
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from jobs import SUCCESS, append, claim_next, let_lease_run_out, submit

from rankcast.tasks.errors import Behind, StaleAttempt
from rankcast.tasks.event import START, Event
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.live import decode_batch
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep


class LifeOfALog(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.redis = fakeredis.FakeRedis()
        settings = Settings(max_losses=100)
        self.store, self.log = JobStore(self.redis, settings), EventLog(self.redis, settings)
        self.sweep = Sweep(self.redis, settings)
        self.job_id = submit(self.store)
        self.live = self.redis.pubsub(ignore_subscribe_messages=True)
        self.live.subscribe(JobKeys(self.job_id).live)
        #: (attempt, number) of each result that was acknowledged; every claim, oldest first.
        self.told: list[bytes] = []
        self.claims: list[Claim] = []
        self.heard: list[Event] = []
        #: How far the rank 0 of the newest claim has got.
        self.seq = 1

    def teardown(self) -> None:
        self.live.close()
        self.redis.close()

    @property
    def state(self) -> JobState:
        return self.store.record(self.job_id).state

    @precondition(lambda self: self.state is JobState.QUEUED)
    @rule()
    def claim(self) -> None:
        claim = claim_next(self.store, self.job_id)
        assert claim is not None
        self.store.start(claim)
        self.claims.append(claim)
        self.seq = 1

    @precondition(lambda self: self.state is JobState.RUNNING)
    @rule(repeated=st.integers(0, 5), new=st.integers(0, 5))
    def send(self, repeated: int, new: int) -> None:
        """A batch with some events that the log has; its last reply may have been lost."""
        first = max(2, self.seq + 1 - repeated)
        batch = [b"[%d,%d]" % (self.claims[-1].attempt, seq) for seq in range(first, self.seq + 1 + new)]
        assert append(self.log, self.claims[-1], first, *batch).last == self.seq + new
        self.told += batch[len(batch) - new :] if new else []
        self.seq += new

    @precondition(lambda self: self.state is JobState.RUNNING)
    @rule(skipped=st.integers(1, 3))
    def send_too_far(self, skipped: int) -> None:
        """What would leave a hole is refused, with the place to begin at."""
        with pytest.raises(Behind) as behind:
            append(self.log, self.claims[-1], self.seq + 1 + skipped, b"0")
        assert behind.value.last == self.seq

    @precondition(lambda self: len(self.claims) > 1 or (self.claims and self.state is not JobState.RUNNING))
    @rule(data=st.data(), first=st.integers(1, 10))
    def send_from_the_past(self, data: st.DataObject, first: int) -> None:
        """An attempt that is over writes nothing."""
        over = self.claims[:-1] if self.state is JobState.RUNNING else self.claims
        with pytest.raises(StaleAttempt):
            append(self.log, data.draw(st.sampled_from(over)), first, b"0", b"0")

    @precondition(lambda self: self.state is JobState.RUNNING)
    @rule(is_loss=st.booleans())
    def release(self, is_loss: bool) -> None:
        self.store.release(self.claims[-1], is_loss=is_loss, reason="drain")

    @precondition(lambda self: self.state is JobState.RUNNING)
    @rule()
    def lose_the_worker(self) -> None:
        let_lease_run_out(self.redis, self.job_id)
        assert self.sweep.run_once().leases == 1

    @precondition(lambda self: self.state is JobState.RUNNING)
    @rule()
    def finish(self) -> None:
        self.store.finish(self.claims[-1], SUCCESS, self.seq)

    @rule()
    def cancel(self) -> None:
        self.store.cancel(self.job_id)

    @invariant()
    def the_log_is_what_was_told(self) -> None:
        events = self.log.read(self.job_id, START)
        assert [event.data for event in events if event.kind == ""] == self.told
        assert [event.prev for event in events] == [START, *(event.id for event in events[:-1])]
        assert sorted(set(events)) == events
        ends = [event for event in events if event.kind == "end"]
        assert ends == (events[-1:] if self.state.is_terminal else [])

    @invariant()
    def the_channel_carried_the_log(self) -> None:
        while message := self.live.get_message():
            self.heard += decode_batch(message["data"]).events
        assert self.heard == self.log.read(self.job_id, START)[1:]


LifeOfALog.TestCase.settings = hypothesis_settings(max_examples=30, stateful_step_count=25, deadline=None)
TestLifeOfALog = LifeOfALog.TestCase
