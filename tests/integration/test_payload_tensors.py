"""Tensors in what a model produces: the part of the payload that takes torch to test."""

import json

import numpy as np
import pytest
import torch
from payloads import array_of, decoded

from rankcast.gpu_worker.payload import Draft, draft, encode
from rankcast.tasks.errors import EventTooLarge


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
