"""Images of all shapes through a batch."""

from __future__ import annotations

import torch

from mllm.models.native.tensors import apart, flat, joined


def test_apart_gives_back_what_flat_made() -> None:
    images = [
        {"a": torch.arange(6.0).reshape(1, 2, 3), "b": torch.tensor([[2, 3]])},
        {"a": torch.ones(2, 1, 3), "b": torch.tensor([[1, 3]])},
    ]
    rows = [flat(image) for image in images]
    found = apart({name: torch.cat([row[name] for row in rows]) for name in rows[0]})
    assert [image.keys() for image in found] == [image.keys() for image in images]
    assert all(torch.equal(one[name], other[name]) for one, other in zip(found, images, strict=True) for name in one)


def test_joined_fills_up_with_zeros_at_the_end() -> None:
    found = joined([{"a": torch.ones(1, 1, 2)}, {"a": torch.ones(2, 2, 1)}])["a"]
    assert found.tolist() == [[[1, 1], [0, 0]], [[1, 0], [1, 0]], [[1, 0], [1, 0]]]
