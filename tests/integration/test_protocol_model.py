"""Random walks through a deployment whose Redis, workers, replies and messages fail."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from protocol_model import ORDER, World
from protocol_parts import OUTCOMES, Viewer
from rewinding_redis import RewindingRedis

WORKERS = st.sampled_from([0, 1])
ORDERS = st.permutations(ORDER)


class LifeOfADeployment(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        redis = RewindingRedis()
        self.ticking = redis.ticking()
        self.ticking.__enter__()
        self.world = World(redis)
        # Older than what a restart can take from it.
        self.world.tick()
        self.world.tick(4)
        self.world.submit()

    def teardown(self) -> None:
        try:
            self.world.heal()
        finally:
            self.ticking.__exit__(None, None, None)

    @precondition(lambda self: len(self.world.job_ids) < 2)
    @rule(is_lost=st.booleans())
    def submit(self, is_lost: bool) -> None:
        self.world.webs[0].client.loses_reply = is_lost
        self.world.submit()

    @rule(data=st.data(), is_lost=st.booleans())
    def cancel(self, data: st.DataObject, is_lost: bool) -> None:
        self.world.webs[1].client.loses_reply = is_lost
        self.world.cancel(data.draw(st.sampled_from(self.world.job_ids)))

    @rule(index=WORKERS, is_lost=st.booleans(), times=st.integers(1, 3))
    def work(self, index: int, is_lost: bool, times: int) -> None:
        worker = self.world.workers[index]
        if not worker.is_frozen:
            worker.client.loses_reply = is_lost
            for _ in range(times):
                worker.step()

    @rule(index=WORKERS, count=st.integers(0, 3), is_lost=st.booleans(), is_sent=st.booleans())
    def stream(self, index: int, count: int, is_lost: bool, is_sent: bool) -> None:
        worker = self.world.workers[index]
        if worker.is_calling and not worker.is_frozen:
            for _ in range(count):
                worker.emit()
            if is_sent:
                worker.rank.loses_reply = is_lost
                worker.publisher.step()

    @rule(index=WORKERS, order=st.sampled_from(sorted(OUTCOMES)))
    def end(self, index: int, order: str) -> None:
        worker = self.world.workers[index]
        if worker.is_calling and not worker.is_frozen:
            worker.order = order

    @rule(seconds=st.sampled_from([1, 1, 4]), times=st.sampled_from([1, 2, 5]), order=ORDERS)
    def tick(self, seconds: float, times: int, order: list[int]) -> None:
        for _ in range(times):
            self.world.tick(seconds, order)

    @rule(seconds=st.sampled_from([1, 20]), order=ORDERS)
    def outage(self, seconds: float, order: list[int]) -> None:
        self.world.outage(seconds, order)

    @rule(lost=st.integers(0, 8))
    def crash(self, lost: int) -> None:
        self.world.crash(lost)

    @rule(index=WORKERS)
    def freeze_or_thaw(self, index: int) -> None:
        worker = self.world.workers[index]
        (self.world.thaw if worker.is_frozen else self.world.freeze)(worker)

    @rule(index=WORKERS)
    def kill(self, index: int) -> None:
        self.world.kill(index)

    @rule(data=st.data(), web=st.integers(0, 1))
    def view(self, data: st.DataObject, web: int) -> None:
        self.world.viewers.append(
            Viewer(self.world.webs[web], data.draw(st.sampled_from(self.world.job_ids)))
        )
        self.world.viewers[-1].read()

    @rule(web=st.integers(0, 1), lost=st.lists(st.booleans(), max_size=4))
    def hear(self, web: int, lost: list[bool]) -> None:
        losses = iter(lost)
        self.world.webs[web].hear(lambda: next(losses, False))

    @rule(web=st.integers(0, 1), comes_back=st.booleans())
    def read(self, web: int, comes_back: bool) -> None:
        for viewer in self.world.viewers:
            if comes_back:
                viewer.come(self.world.webs[web])
            viewer.read()

    @invariant()
    def the_promises_hold(self) -> None:
        self.world.check()


LifeOfADeployment.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLifeOfADeployment = LifeOfADeployment.TestCase
