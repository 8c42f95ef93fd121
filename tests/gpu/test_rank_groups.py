"""What only a GPU can show: CUDA after the forkserver's preload, NCCL, and memory that comes back."""

import pytest
import torch
from safetensors.torch import load_file

from rankcast.gpu_worker.files import FileRules
from rankcast.gpu_worker.gpu_memory import memory_holders

TASKS = "tasks.py"


def test_the_worker_counts_the_gpus_without_using_one(forkserver):
    """A child asks; neither worker nor forkserver initialises CUDA."""
    assert forkserver.device_count >= 1


def test_cuda_works_in_a_rank_forked_from_the_preloaded_server(hold):
    """NCCL with one rank; the device is current in every thread that runs user code."""
    held = hold("gpu/one", 0)
    assert held.group.is_preloaded
    assert held.value() == {
        "sum": 1.0,
        "backend": "nccl",
        "device": "cuda:0",
        "current": 0,
        "current_in_loop_thread": 0,
        "is_bad_fork": False,
    }


def test_two_ranks_share_one_gpu_over_gloo(hold):
    """NCCL refuses two ranks on one GPU; for development they talk over gloo."""
    told = hold("gpu/two", 0, 0).value()
    assert (told["sum"], told["backend"], told["device"]) == (3.0, "gloo", "cuda:0")


def test_a_tensor_on_the_gpu_can_be_streamed(hold):
    held = hold("gpu/streams", 0)
    held.run()
    assert held.results()[0]["latents"]["shape"] == [4]


def test_a_large_tensor_on_the_gpu_is_stored_bit_for_bit(hold, tmp_path):
    held = hold("gpu/streams", 0)
    held.files = FileRules(artifacts=str(tmp_path / "artifacts"))
    held.run(size=200_000)
    told = held.results()[0]["latents"]
    assert (told["content_type"], told["dtype"]) == ("application/safetensors", "torch.bfloat16")
    path = tmp_path / "artifacts" / held.claim.job_id / told["url"].rpartition("/")[2]
    assert torch.equal(load_file(path)["tensor"], torch.arange(200_000).to(torch.bfloat16))


def test_a_slot_is_clean_once_the_memory_of_its_killed_group_is_back(hold, wait_until):
    """By what nvidia-smi tells of each process; not in a container that does not see the host's pids."""
    held = hold("gpu/hog", 0)
    with held.running() as going:
        if not memory_holders() & set(held.group.pids):
            going.control.abandon()
            pytest.skip("nvidia-smi tells no pid of this process' namespace")
        going.control.request_cancel()
    wait_until(lambda: not held.group.remains.left(has_gpus=True), "processes and memory are gone")


def test_the_memory_of_a_killed_group_comes_back(hold, memory_used_mib, wait_until):
    """A group that does not heed a cancel is killed, and its device is free again."""
    before = memory_used_mib()
    held = hold("gpu/hog", 0)
    with held.running() as going:
        assert memory_used_mib() >= before + 2048
        going.control.request_cancel()
    wait_until(lambda: memory_used_mib() <= before + 64, "the device's memory is back")
