"""Images are known by what the model sees of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from mllm.serve.request import by_content, prefix_key
from mllm.types import EncodedSample


def sample(*pixels: torch.Tensor, ids: tuple[int, ...] = (1, 7, 7, 5), end: int = 3) -> EncodedSample:
    images: Any = tuple(f"name {number}" for number in range(len(pixels)))
    tensors = tuple({"pixels": each, "frames": torch.tensor([1])} for each in pixels)
    ids_T = torch.tensor(ids)
    return EncodedSample(key="", index=0, input_ids=ids_T, labels=None, images=images, pixels=tensors, images_end=end)


def key(each: EncodedSample) -> Any:
    return prefix_key(by_content(each))


def test_a_prefix_key_follows_from_pixels_and_tokens_alone() -> None:
    red, blue = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    first = key(sample(red))
    assert first is not None
    assert key(replace(sample(red.clone(), ids=(1, 7, 7, 9, 9)), images=("another name",))) == first  # pyright: ignore[reportArgumentType]
    others = [
        sample(blue),
        sample(red.half()),
        sample(red.flatten(1)),
        sample(red, ids=(2, 7, 7, 5)),
        sample(red, blue),
    ]
    keys = {first, *map(key, others), key(sample(blue, red))}
    assert len(keys) == 7
    assert key(replace(sample(red), pixels=({"pixels": red, "frames": torch.tensor([2])},))) not in keys


def test_a_prompt_without_an_image_or_with_nothing_behind_it_has_no_prefix_key() -> None:
    assert key(sample(end=0)) is None
    assert key(sample(torch.zeros(1, 3, 4, 4), ids=(1, 7, 7), end=3)) is None


def test_by_content_knows_the_same_image_by_any_name() -> None:
    red = torch.zeros(1, 3, 4, 4)
    twice = by_content(sample(red, red.clone(), torch.ones(1, 3, 4, 4)))
    assert twice.images[0] == twice.images[1] != twice.images[2]
