"""Batches worked out by hand; what models make of them is in tests/runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mllm.conversation.collator import Collator
from mllm.conversation.rendering import IGNORE
from mllm.errors import ConfigError
from mllm.types import EncodedSample

X = IGNORE


def sample(*ids: int, learned: int | None, images: str = "", **given: Any) -> EncodedSample:
    """Of these tokens the last `learned` are labelled, None: it is a prompt; each image, a letter, is a token of 9."""
    labels = None if learned is None else torch.tensor([X] * (len(ids) - learned) + [*ids[len(ids) - learned :]])
    starts = tuple(place for place, token in enumerate(ids) if token == 9)
    return EncodedSample(
        **{"key": "a", "index": 0, "images_end": starts[-1] + 1 if starts else 0, "image_starts": starts} | given,
        input_ids=torch.tensor(ids),
        labels=labels,
        images=tuple(images),  # pyright: ignore[reportArgumentType]  # they are only compared here
        pixels=tuple({"pixels": torch.full((1, 2), float(ord(image)))} for image in images),
    )


def collated(*entries: Any, **options: Any) -> dict[str, Any]:
    batch = Collator(pad_token_id=7, **options)(entries)
    return {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def test_prompts_are_padded_on_the_left() -> None:
    assert collated(sample(1, 2, 3, learned=None, index=5), sample(4, learned=None, index=6)) == {
        "input_ids": [[1, 2, 3], [7, 7, 4]],
        "attention_mask": [[1, 1, 1], [0, 0, 1]],
        "index": [5, 6],
    }


def test_labelled_examples_are_padded_on_the_right_and_count_by_their_source() -> None:
    found = collated(sample(1, 2, 3, learned=2, source=4), sample(5, 6, learned=1, source=3, skipped=("b: gone",)))
    assert found == {
        "input_ids": [[1, 2, 3], [5, 6, 7]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "labels": [[X, 2, 3], [X, 6, X]],
        "label_sources": [4, 4, 3],
        "index": [0, 0],
        "skipped": ["b: gone"],
    }


def test_a_label_that_nothing_predicts_is_none_of_a_source() -> None:
    assert collated(sample(1, 2, learned=2, source=1))["label_sources"] == [1]


@pytest.mark.parametrize(("multiple", "length"), [(1, 3), (2, 4), (3, 3), (8, 8)])
def test_rows_are_as_long_as_the_longest_or_a_multiple(multiple: int, length: int) -> None:
    found = collated(sample(1, 2, 3, learned=1), sample(4, 5, learned=1), pad_to_multiple_of=multiple)
    assert found["input_ids"] == [[1, 2, 3] + [7] * (length - 3), [4, 5] + [7] * (length - 2)]


def test_each_distinct_image_is_there_once() -> None:
    entries = [sample(9, 9, 1, learned=1, images="ab"), sample(9, 2, learned=1, images="b"), sample(3, learned=0)]
    found = collated(*entries)
    assert found["pixels"] == [[97, 97], [98, 98]]
    assert found["image_index"] == [0, 1, 1]
    assert "pixels" not in collated(entries[2])
    assert "skipped" not in found


def test_rows_hold_examples_one_after_the_other_as_they_fit() -> None:
    entries = [sample(1, 2, 3, learned=1, index=4), sample(4, 5, learned=1, index=5), sample(6, learned=0, index=6)]
    assert collated(*entries, packing="rows", max_tokens=4) == {
        "input_ids": [[1, 2, 3], [4, 5, 6]],
        "labels": [[X, X, 3], [X, 5, X]],
        "position_ids": [[0, 1, 2], [0, 1, 0]],
        "segment_ids": [[0, 0, 0], [0, 0, 1]],
        "prefix_ids": [[-1] * 3] * 2,
        "label_sources": [0, 0],
        "index": [4, 5, 6],
    }
    found = collated(*entries[:2], packing="rows", max_tokens=3)
    assert (found["input_ids"], found["labels"]) == ([[1, 2, 3], [4, 5, 7]], [[X, X, 3], [X, 5, X]])
    assert (found["position_ids"][1], found["segment_ids"][1]) == ([0, 1, 0], [0, 0, -1])


def test_rows_of_entries_with_several_examples_hold_them_one_by_one() -> None:
    example = sample(9, 2, 3, learned=1, images="a")
    found = collated([example, example], packing="rows")
    assert found["input_ids"] == [[9, 2, 3, 9, 2, 3]]
    assert (found["pixels"], found["image_index"]) == ([[97, 97]], [0, 0])
    assert collated([example, example])["input_ids"] == [[9, 2, 3], [9, 2, 3]]


def test_shared_rows_hold_an_image_of_several_examples_once() -> None:
    entries = [
        sample(9, 2, 3, 4, learned=1, images="a", index=1),
        sample(9, 5, 6, learned=1, images="b", index=2),
        sample(9, 2, 8, 4, learned=1, images="a", index=3),
    ]
    assert collated(*entries, packing="shared") == {
        "input_ids": [[9, 2, 3, 4, 8, 4, 9, 5, 6]],
        "labels": [[X, X, X, 4, X, 4, X, X, 6]],
        "position_ids": [[0, 1, 2, 3, 2, 3, 0, 1, 2]],
        "segment_ids": [[0, 0, 1, 1, 2, 2, 3, 3, 3]],
        "prefix_ids": [[-1, -1, 0, 0, 0, 0, -1, -1, -1]],
        "label_sources": [0, 0, 0],
        "index": [1, 3, 2],
        "pixels": [[97, 97], [98, 98]],
        "image_index": [0, 1],
    }


def test_shared_prompts_are_beginnings_and_what_follows_each() -> None:
    entries = [
        [sample(1, 9, 2, 9, 3, learned=None, images="ab"), sample(1, 9, 2, 9, 4, 5, learned=None, images="ac")],
        [sample(9, 6, learned=None, images="d", index=1)],
    ]
    assert collated(*entries, packing="shared") == {
        "input_ids": [[1, 9, 2], [7, 7, 9]],
        "attention_mask": [[1, 1, 1], [0, 0, 1]],
        "suffix_ids": [[7, 9, 3], [9, 4, 5], [7, 7, 6]],
        "suffix_mask": [[0, 1, 1], [1, 1, 1], [0, 0, 1]],
        "suffix_prefix": [0, 0, 1],
        "index": [0, 0, 1],
        "pixels": [[ord(image)] * 2 for image in "adbc"],
        "image_index": [0, 1, 2, 3],
    }


@pytest.mark.parametrize("packing", ["none", "rows", "shared"])
def test_each_packing_has_its_name(packing: str) -> None:
    assert collated(sample(1, 2, learned=1), packing=packing)["input_ids"] == [[1, 2]]


def test_another_packing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"collator_kwargs\.packing: expected one of 'none', 'rows', 'shared', found"):
        Collator(pad_token_id=0, packing="row")  # type: ignore[arg-type]
