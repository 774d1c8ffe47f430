"""Images of all shapes through a batch."""

from __future__ import annotations

import torch

from mllm.models.native.tensors import flat, flat_names, join_images, split_images


def test_apart_gives_back_what_flat_made() -> None:
    images = [
        {"a": torch.arange(6.0).reshape(1, 2, 3), "b": torch.tensor([[2, 3]])},
        {"a": torch.ones(2, 1, 3), "b": torch.tensor([[1, 3]])},
    ]
    rows = [flat(image) for image in images]
    found = split_images({name: torch.cat([row[name] for row in rows]) for name in rows[0]})
    assert [image.keys() for image in found] == [image.keys() for image in images]
    assert all(torch.equal(one[name], other[name]) for one, other in zip(found, images, strict=True) for name in one)


def test_joined_fills_up_with_zeros_at_the_end() -> None:
    found = join_images([{"a": torch.ones(1, 1, 2)}, {"a": torch.ones(2, 2, 1)}])["a"]
    assert found.tolist() == [[[1, 1], [0, 0]], [[1, 0], [1, 0]], [[1, 0], [1, 0]]]


def test_what_some_images_lack_is_of_the_others_and_what_all_lack_is_left_out() -> None:
    none, two = torch.zeros(0, 3), torch.ones(2, 3)
    found = join_images([{"a": two, "tiles": none, "b": none}, {"a": two, "tiles": two, "b": none}])
    assert {name: len(tensor) for name, tensor in found.items()} == {"a": 4, "tiles": 2}


def test_names_of_flat_tensors_are_told_from_others() -> None:
    assert flat_names({**flat({"a": torch.ones(1, 2)}), "input_ids": torch.ones(1)}) == ["a", "a_shape"]
