"""Rows of several examples, worked out by hand; what models make of them is in tests/runs/test_sharing.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mllm.conversation.packing import (
    PackedRow,
    bin_pack,
    concatenate,
    group_by_image,
    groups,
    prefix_and_suffixes,
    prefix_tree_row,
    split_rounds,
)
from mllm.conversation.rendering import IGNORE
from mllm.records import read_item
from mllm.types import EncodedSample, Item

PHOTO: Any = ("photo",)
"""Images are only compared here."""


def sample(*ids: int, learned: int, images: Any = PHOTO, images_end: int = 3) -> EncodedSample:
    """Of these tokens the last `learned` are labelled."""
    labels = [IGNORE] * (len(ids) - learned) + list(ids)[len(ids) - learned :]
    tensors = torch.tensor(ids), torch.tensor(labels)
    key = " ".join(map(str, ids))
    return EncodedSample(
        key=key, index=0, input_ids=tensors[0], labels=tensors[1], images=images, pixels=(), images_end=images_end
    )


# an image of two tokens, 9; what may be shared ends one token before the first that is learned
SEVEN = sample(1, 9, 9, 5, 6, 7, 2, learned=2)
FOUR = sample(1, 9, 9, 5, 8, 4, 2, learned=2)
THREE = sample(1, 9, 9, 3, 6, 2, learned=1)


def lists(row: PackedRow) -> dict[str, list[int]]:
    return {name: getattr(row, name).tolist() for name in PackedRow.__dataclass_fields__}


def test_prefix_tree_row_is_the_common_beginning_and_what_each_adds() -> None:
    row = prefix_tree_row([SEVEN, FOUR])
    assert len(row) == 10
    assert lists(row) == {
        "input_ids": [1, 9, 9, 5, 6, 7, 2, 8, 4, 2],
        "labels": [IGNORE] * 5 + [7, 2, IGNORE, 4, 2],
        "position_ids": [0, 1, 2, 3, 4, 5, 6, 4, 5, 6],
        "segment_ids": [0, 0, 0, 0, 1, 1, 1, 2, 2, 2],
        "prefix_ids": [-1] * 4 + [0] * 6,
    }


def test_prefix_tree_row_of_one_example_is_the_example() -> None:
    assert lists(prefix_tree_row([THREE])) == {
        "input_ids": [1, 9, 9, 3, 6, 2],
        "labels": [IGNORE] * 5 + [2],
        "position_ids": [0, 1, 2, 3, 4, 5],
        "segment_ids": [0] * 6,
        "prefix_ids": [-1] * 6,
    }


def test_prefix_tree_row_shares_nothing_where_all_is_learned() -> None:
    """The first token predicts the second, which each example learns for itself."""
    twice = [sample(1, 5, 2, learned=2, images=(), images_end=0)] * 2
    row = lists(prefix_tree_row(twice))
    assert row["input_ids"] == [1, 5, 2, 1, 5, 2]
    assert row["position_ids"] == [0, 1, 2, 0, 1, 2]
    assert (row["segment_ids"], row["prefix_ids"]) == ([0, 0, 0, 1, 1, 1], [-1] * 6)


def test_prefix_tree_row_of_unlabelled_examples_leaves_the_last_token_apart() -> None:
    row = lists(prefix_tree_row([sample(1, 9, 5, learned=0, images_end=2)] * 2))
    assert (row["input_ids"], row["segment_ids"]) == ([1, 9, 5, 5], [0, 0, 1, 2])


def test_prefix_tree_row_of_several_answers_to_two_questions() -> None:
    """Two answers to the first question, whose nine tokens are a segment of their own, behind the image."""
    asked = (1, 9, 9, *range(20, 28), 5)
    first, again = sample(*asked, 6, 2, learned=2), sample(*asked, 7, 7, 2, learned=3)
    other = sample(1, 9, 9, 30, 5, 8, 2, learned=2)
    (group,) = group_by_image([[first], [other], [again]], None)
    assert [example.key for example in group] == [first.key, again.key, other.key]
    row = lists(prefix_tree_row(group))
    assert row == {
        "input_ids": [1, 9, 9, *range(20, 28), 5, 6, 2, 5, 7, 7, 2, 30, 5, 8, 2],
        "labels": [IGNORE] * 12 + [6, 2, IGNORE, 7, 7, 2, IGNORE, IGNORE, 8, 2],
        "position_ids": [*range(11), 11, 12, 13, 11, 12, 13, 14, 3, 4, 5, 6],
        "segment_ids": [0] * 3 + [1] * 8 + [2] * 3 + [3] * 4 + [4] * 4,
        "prefix_ids": [-1] * 3 + [0] * 8 + [1] * 7 + [0] * 4,
    }
    assert lists(concatenate([prefix_tree_row([THREE]), prefix_tree_row(group)]))["prefix_ids"] == [-1] * 9 + [
        each + 1 for each in row["prefix_ids"][3:]
    ]


def test_concatenate_numbers_segments_on_and_keeps_each_prefix() -> None:
    shared, single = prefix_tree_row([SEVEN, FOUR]), prefix_tree_row([THREE])
    row = lists(concatenate([shared, single]))
    assert row["segment_ids"] == [0] * 4 + [1] * 3 + [2] * 3 + [3] * 6
    assert row["prefix_ids"] == [-1] * 4 + [0] * 6 + [-1] * 6
    row = lists(concatenate([single, shared]))
    assert row["input_ids"] == [1, 9, 9, 3, 6, 2, 1, 9, 9, 5, 6, 7, 2, 8, 4, 2]
    assert row["labels"] == [IGNORE] * 5 + [2] + [IGNORE] * 5 + [7, 2, IGNORE, 4, 2]
    assert row["position_ids"] == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 4, 5, 6]
    assert row["segment_ids"] == [0] * 6 + [1] * 4 + [2] * 3 + [3] * 3
    assert row["prefix_ids"] == [-1] * 10 + [1] * 6


def counts(entries: list[list[EncodedSample]], room: int | None) -> list[list[str]]:
    return [[example.key for example in group] for group in group_by_image(entries, room)]


def test_group_by_image_joins_what_has_the_images_in_common() -> None:
    other = replace(SEVEN, images=("another",), key="another")  # type: ignore[arg-type]
    found = counts([[SEVEN], [other], [FOUR, THREE]], None)
    assert found == [[SEVEN.key, FOUR.key, THREE.key], ["another"]]


@pytest.mark.parametrize(("room", "sizes"), [(10, [2, 1]), (9, [1, 1, 1]), (13, [3]), (12, [2, 1])])
def test_group_by_image_fills_rows_up_to_the_room(room: int, sizes: list[int]) -> None:
    """Four tokens in common and three of each: 7, 10, 13."""
    assert [len(group) for group in group_by_image([[SEVEN], [FOUR], [SEVEN]], room)] == sizes


def test_group_by_image_goes_on_with_the_newest_group() -> None:
    assert [len(group) for group in group_by_image([[SEVEN]] * 5, 10)] == [2, 2, 1]


def test_group_by_image_keeps_the_answers_to_a_question_together() -> None:
    """Whatever their order was, so that a row that is full has said as little as possible twice."""
    questions = [(1, 9, 9, *[token] * 8, 5) for token in (20, 21)]
    entries = [[sample(*questions[number % 2], 30 + number, learned=1)] for number in range(6)]
    found = [[example.input_ids[-1].item() for example in group] for group in group_by_image(entries, 3 + 8 + 3 * 2)]
    assert found == [[30, 32, 34], [31, 33, 35]]


def test_group_by_image_leaves_alone_what_begins_otherwise() -> None:
    """SEVEN and THREE have three tokens in common: enough for images that end there, not for ones that end behind."""
    assert [len(group) for group in group_by_image([[SEVEN, THREE]], None)] == [2]
    late = [replace(example, images_end=4) for example in (SEVEN, THREE, SEVEN)]
    assert [len(group) for group in group_by_image([late], None)] == [2, 1]
    answered = replace(SEVEN, images_end=5)  # the last of its image predicts its first label
    assert [len(group) for group in group_by_image([[answered, answered]], None)] == [1, 1]


def test_group_by_image_joins_texts_of_one_entry_alone() -> None:
    text = replace(SEVEN, images=(), images_end=0)
    assert [len(group) for group in group_by_image([[text, text], [text]], None)] == [2, 1]


def prompt(*ids: int) -> EncodedSample:
    return replace(sample(*ids, learned=0), labels=None)


@pytest.mark.parametrize(
    ("prompts", "prefix", "suffixes"),
    [
        ([(1, 9, 5), (1, 9, 6, 7)], [1, 9], [[5], [6, 7]]),
        ([(1, 9, 5), (1, 9, 5)], [1, 9], [[5], [5]]),
        ([(1, 9, 5), (1, 9, 5, 6)], [1, 9], [[5], [5, 6]]),
        ([(1, 9, 5, 6)], [1, 9, 5], [[6]]),
        ([(1, 2), (3, 2)], [], [[1, 2], [3, 2]]),
    ],
)
def test_prefix_and_suffixes_leave_each_prompt_a_token(
    prompts: list[tuple[int, ...]], prefix: list[int], suffixes: list[list[int]]
) -> None:
    found = prefix_and_suffixes([prompt(*ids) for ids in prompts])
    assert found[0].tolist() == prefix
    assert [suffix.tolist() for suffix in found[1]] == suffixes


def test_a_shared_beginning_ends_before_images_that_differ() -> None:
    """Their tokens, two of 9 each, are the same."""
    ids = (1, 9, 9, 5, 9, 9, 6)
    examples = [
        replace(prompt(*ids), images=("photo", name), image_starts=(1, 4))  # pyright: ignore[reportArgumentType]
        for name in ("a", "b")
    ]
    prefix, suffixes, inside = prefix_and_suffixes(examples)
    assert (prefix.tolist(), [rest.tolist() for rest in suffixes], inside) == ([1, 9, 9, 5], [[9, 9, 6]] * 2, 1)
    prefix, _, inside = prefix_and_suffixes([examples[0]] * 2)
    assert (prefix.tolist(), inside) == ([1, 9, 9, 5, 9, 9], 2)


def test_items_behind_the_same_demonstrations_are_a_group() -> None:
    record = {"images": ["a.jpg"], "conversations": [{"from": "human", "value": "<image>\n?"}]}
    plain = read_item(record, key="a")
    items = [replace(plain, demonstrations=shown, demonstrated_images=1) for shown in (("x",), ("y",), ("x",))]
    assert groups([*items, plain, plain], 2, demonstrated=True) == [[0, 2], [1], [3, 4]]
    assert groups(items, 3) == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("lengths", "room", "rows"),
    [
        ([3, 2, 1], None, [[0, 1, 2]]),
        ([5, 5], 10, [[0, 1]]),
        ([5, 6], 10, [[1], [0]]),  # the longest first
        ([12, 3], 10, [[0], [1]]),
        ([3, 3, 3, 3], 11, [[0, 2], [1, 3]]),  # best fit alone gives 9 and 3
        ([7, 4, 3], 10, [[0], [1, 2]]),  # 7 and 7, where best fit gives 10 and 4
        ([3, 4, 5, 6], 10, [[0, 3], [1, 2]]),  # 9 and 9, where best fit gives 10 and 8
        ([3, 3, 2, 2, 2], 6, [[0, 1], [2, 3, 4]]),  # spread they would be 7 and 5
    ],
)
def test_bin_pack_by_hand(lengths: list[int], room: int | None, rows: list[list[int]]) -> None:
    assert bin_pack(lengths, room) == rows


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30), room=st.integers(10, 60))
def test_bin_pack_fills_rows_without_loss(lengths: list[int], room: int) -> None:
    rows = bin_pack(lengths, room)
    assert sorted(piece for row in rows for piece in row) == list(range(len(lengths)))
    assert all(len(row) == 1 or sum(lengths[piece] for piece in row) <= room for row in rows)
    assert sum(lengths) > (len(rows) - 1) * room / 2, "two half-empty rows would have been one"


def asked(text: str, images: int, colour: str = "black") -> Item:
    """Two rounds, the first with all images."""
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "A."}]
    turns += [{"from": "human", "value": "And?"}, {"from": "gpt", "value": "B."}]
    shown = {"images": [Image.new("RGB", (8, 8), colour)] * images} if images else {}
    return read_item({**shown, "conversations": turns}, key="a:1")


@pytest.mark.parametrize(
    ("text", "images", "second"),
    [
        ("<image>\nWhat?", 1, "<image>\nAnd?"),
        ("<image> <image> What?", 2, "<image> <image>And?"),
        ("What of <image> and <image>?", 2, "<image>\n<image>\nAnd?"),
        ("<image> or <image>?", 2, "<image>\n<image>\nAnd?"),
        ("What?", 0, "And?"),
    ],
)
def test_split_rounds_begins_each_round_with_the_images_of_the_first(text: str, images: int, second: str) -> None:
    rounds = split_rounds(asked(text, images))
    assert [[turn.text for turn in each.turns] for each in rounds] == [[text, "A."], [second, "B."]]
    assert all(len(each.images) == images for each in rounds)


def test_groups_are_of_the_same_images_up_to_a_size() -> None:
    items = [asked("<image>\nWhat?", 1) for _ in range(5)]
    same, other = items[0].images, asked("<image>\nWhat?", 1, "red").images
    given_images = [same, other, same, same, other]
    given_items = [replace(item, images=images) for item, images in zip(items, given_images, strict=True)]
    assert groups(given_items, 2) == [[0, 2], [1, 4], [3]]
    assert groups(given_items, 3) == [[0, 2, 3], [1, 4]]
    assert groups([*given_items, given_items[0]], 2) == [[0, 2], [1, 4], [3, 5]]


def test_groups_leave_alone_what_has_no_image_at_its_beginning() -> None:
    late, text = asked("Where is it in <image>?", 1), asked("What?", 0)
    assert groups([late, late, text, text], 4) == [[0], [1], [2], [3]]
