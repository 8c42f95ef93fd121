"""Tensors in what a model produces: the part of the payload that takes torch to test."""

import json

import numpy as np
import pytest
import torch
from payloads import array_of, decoded
from slow_gpu import SlowGpu

from rankcast.gpu_worker.payload import Draft, draft, encode
from rankcast.tasks.errors import EventTooLarge, NotEncodable


@pytest.mark.parametrize("value", [1.5, True, 3])
def test_a_tensor_without_dimensions_is_a_number(value):
    """A loss, an accuracy: what is plotted."""
    assert decoded({"at": [torch.tensor(value)]}) == {"at": [value]}


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (torch.arange(6).reshape(2, 3), "torch.int64"),
        (torch.ones(2, requires_grad=True), "torch.float32"),
        (torch.ones(4)[::2], "torch.float32"),
        (torch.tensor([1 + 2j]).conj(), "torch.complex64"),
        (torch.eye(2).to_sparse(), "torch.float32"),
    ],
    ids=repr,
)
def test_a_tensor_carries_its_values_without_pickle(value, dtype):
    """`numpy.load(allow_pickle=False)` reads them back."""
    told = decoded(value)
    assert (told["content_type"], told["dtype"], told["data"]) == ("application/tensor", dtype, None)
    assert told["shape"] == list(value.shape)
    dense = (value.detach().to_dense() if value.is_sparse else value.detach()).resolve_conj()
    np.testing.assert_array_equal(array_of(told), dense.numpy())


def test_a_tensor_of_a_type_that_numpy_lacks_travels_as_float32():
    """`dtype` still says what it was."""
    told = decoded(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    assert told["dtype"] == "torch.bfloat16"
    assert array_of(told).tolist() == [1.5, -2.0]


def test_an_event_shows_a_tensor_at_the_moment_of_its_call():
    """Changing it in place afterwards, as an optimizer does, changes nothing."""
    value = torch.zeros(2)
    data = encode(value)
    value += 1
    assert array_of(json.loads(data)).tolist() == [0, 0]


@pytest.mark.parametrize(
    "value", [torch.ones(200, 200, requires_grad=True), torch.ones(200, 200).to_sparse()]
)
def test_a_large_tensor_shows_the_moment_of_its_call_whenever_it_is_encoded(value):
    event = draft({"t": value})
    with torch.no_grad():
        value.mul_(3)
    told = json.loads(event.finish() if isinstance(event, Draft) else event)["t"]
    assert (array_of(told) == 1).all()


def test_a_tensor_past_the_limit_of_an_event_is_refused():
    """By its encoded size, as everything else."""
    with pytest.raises(EventTooLarge, match=r"more than the 900 .* in parts"):
        encode(torch.zeros(1000), max_bytes=900)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SlowGpu:
    return SlowGpu(monkeypatch)


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(0.5),
        torch.tensor(3),
        torch.tensor(True),
        torch.tensor(torch.nan),
        torch.tensor(2**64 - 1, dtype=torch.uint64),
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.ones(3, requires_grad=True),
        torch.arange(6).reshape(2, 3).T,
        torch.arange(24).reshape(4, 6)[::2, 1:5].T,
        torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        torch.tensor([1 + 2j]).conj(),
        torch.zeros(0),
        torch.ones(200, 200),
    ],
    ids=lambda value: f"{value.dtype} {list(value.shape)}",
)
def test_a_tensor_on_a_gpu_is_waited_for_by_whoever_finishes_its_event(gpu, value):
    """Of any size; it is the same text in the end as from the CPU."""
    kept = encode({"before": 1, "list": [value, value], "after": b"x"})
    far = gpu.tensor(value)
    event = draft({"before": 1, "list": [far, far], "after": b"x"})
    assert isinstance(event, Draft)
    assert gpu.stalls == 0
    assert event.finish() == kept


def test_a_loss_on_a_gpu_shows_the_moment_of_its_call(gpu):
    """Behind what its stream had to do by then, before what came later; numbers side by side wait once."""
    loss, accuracy = gpu.tensor(0.0), gpu.tensor(0.0)
    raw = loss.as_subclass(torch.Tensor)
    gpu.launch(lambda: raw.fill_(2.5))
    event = draft({"loss": loss, "accuracy": accuracy, "step": 3})
    gpu.launch(lambda: raw.fill_(7.0))
    assert isinstance(event, Draft)
    assert json.loads(event.finish()) == {"loss": 2.5, "accuracy": 0.0, "step": 3}
    assert (gpu.events, gpu.stalls) == (1, 0)


def test_what_has_no_json_form_on_a_gpu_is_refused_at_once(gpu):
    """It waits for the GPU, as there is nothing else to come."""
    with pytest.raises(NotEncodable) as caught:
        draft({"losses": [gpu.tensor(0.5), gpu.tensor(1j)]})
    assert caught.value.path == "$.losses[1]"


def test_the_failure_of_a_gpu_is_told_by_whoever_finishes_the_event(gpu):
    """The publisher's thread, which tells the next call."""
    event = draft({"loss": gpu.tensor(0.5)})
    gpu.error = RuntimeError("CUDA error: an illegal memory access was encountered")
    assert isinstance(event, Draft)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        event.finish()


def test_small_tensors_on_a_gpu_count_what_they_take(gpu):
    """A page each, so that no more is kept than is allowed; what has no room is waited for."""
    losses = [gpu.tensor(0.5) for _ in range(10)]
    event = draft(losses, max_held_bytes=10 * 4096)
    assert isinstance(event, Draft)
    assert event.size > 10 * 4096
    assert gpu.stalls == 0
    event = draft(losses, max_held_bytes=9 * 4096)
    assert isinstance(event, Draft)
    assert gpu.stalls == 1
    assert json.loads(event.finish()) == [0.5] * 10
