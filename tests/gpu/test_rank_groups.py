"""What only a GPU can show: CUDA after the forkserver's preload, NCCL, and memory that comes back."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs import running

from rankcast.gpu_worker.forkserver import ForkServer, TaskDescription
from rankcast.gpu_worker.group import Outcome, RankGroup
from rankcast.gpu_worker.messages import Call
from rankcast.gpu_worker.supervision import Control
from rankcast.tasks.event import START
from rankcast.tasks.job import Claim
from rankcast.tasks.job import Outcome as JobOutcome
from rankcast.tasks.state import JobState

Start = Callable[..., RankGroup]


@pytest.fixture
def claim(store) -> Iterator[Claim]:
    """A running job for rank 0 to publish to."""
    claim = running(store)
    yield claim
    with contextlib.suppress(Exception):
        store.finish(claim, JobOutcome(state=JobState.FAILED), 0)


@pytest.fixture
def start(settings) -> Iterator[Start]:
    groups: list[RankGroup] = []

    def start(server: ForkServer, name: str, devices: tuple[int, ...]) -> RankGroup:
        group = RankGroup.start(
            described(server, name), forkserver=server, settings=settings, on_log=print, devices=devices
        )
        groups.append(group)
        return group

    yield start
    for group in groups:
        group.kill()


def described(server: ForkServer, name: str) -> TaskDescription:
    return next(task for task in server.tasks if task.name == name)


def run(group: RankGroup, claim: Claim, control: Control | None = None) -> Outcome:
    call = Call(claim.job_id, claim.fence, claim.token, claim.attempt, "{}")
    with control or Control() as control:
        return group.run(call, control=control)


def output(outcome: Outcome) -> dict[str, object]:
    assert outcome.error is None, outcome.error
    assert outcome.output is not None
    told: dict[str, object] = json.loads(outcome.output)
    return told


def test_the_worker_counts_the_gpus_without_using_one(forkserver):
    """A child asks; neither worker nor forkserver initialises CUDA."""
    assert forkserver.device_count >= 1


def test_cuda_works_in_a_rank_forked_from_the_preloaded_server(forkserver, start, claim):
    """NCCL with one rank; the device is current in every thread that runs user code."""
    group = start(forkserver, "gpu/one", (0,))
    assert group.is_preloaded
    assert output(run(group, claim)) == {
        "sum": 1.0,
        "backend": "nccl",
        "device": "cuda:0",
        "current": 0,
        "current_in_loop_thread": 0,
        "is_bad_fork": False,
    }


def test_two_ranks_share_one_gpu_over_gloo(forkserver, start, claim):
    """NCCL refuses two ranks on one GPU; for development they talk over gloo."""
    told = output(run(start(forkserver, "gpu/two", (0, 0)), claim))
    assert (told["sum"], told["backend"], told["device"]) == (3.0, "gloo", "cuda:0")


def test_a_tensor_on_the_gpu_can_be_streamed(forkserver, start, claim, event_log):
    run(start(forkserver, "gpu/streams", (0,)), claim)
    latents = json.loads(event_log.read(claim.job_id, START)[-1].data)["latents"]
    assert latents["shape"] == [4]


def test_the_memory_of_a_killed_group_comes_back(
    forkserver, start, claim, event_log, memory_used_mib, wait_until
):
    """A group that does not heed a cancel is killed, and its device is free again."""
    before = memory_used_mib()
    group = start(forkserver, "gpu/hog", (0,))
    control = Control()

    def cancel_once_it_holds() -> None:
        wait_until(lambda: event_log.position(claim.job_id).last.seq >= 3, "the task holds memory")
        held.append(memory_used_mib())
        control.request_cancel()

    held: list[int] = []
    canceller = threading.Thread(target=cancel_once_it_holds)
    canceller.start()
    outcome = run(group, claim, control)
    canceller.join()
    assert outcome.error is not None
    assert outcome.error.kind == "cancelled"
    assert held[0] >= before + 2048
    wait_until(lambda: memory_used_mib() <= before + 64, "the device's memory is back")


def test_a_module_that_touches_cuda_at_import_is_started_afresh(start, claim):
    """Its ranks are new interpreters instead of forks, and the worker's log says why."""
    server = ForkServer.start([str(Path(__file__).with_name("touches_cuda.py"))])
    try:
        assert "CUDA" in (described(server, "gpu/eager").unforkable or "")
        assert output_number(run(start(server, "gpu/eager", (0,)), claim)) == 1.0
    finally:
        server.stop()


def output_number(outcome: Outcome) -> float:
    assert outcome.error is None, outcome.error
    return float(json.loads(outcome.output or b"null"))
