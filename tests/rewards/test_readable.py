from __future__ import annotations

import pytest

from mllm.rewards.readable import Readable
from mllm.types import GroundTruth
from tests.rewards.answers import answered, box, said, truth

TRUE = truth(box(100, 100, 200, 200))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"bbox_2d": [1.5, 2, 3, 4]}', 1.0),
        ("[1.5, 2, 3, 4]", 0.0),
        ("<think>hm</think><answer></answer>", 0.0),
        ("<answer>here</answer>", 0.0),
        ('{"bbox_2d": [3, 4, 1, 2]}', 0.0),
        ('{"bbox_2d": [1, 2, 3]}', 0.0),
        ('{"point_2d": [1, 2]}', 0.0),
        ("", 0.0),
    ],
)
def test_boxes_are_readable_and_tags_alone_are_no_format(text: str, value: float) -> None:
    assert Readable()(answered(text, TRUE)) == value


def test_bare_numbers_are_readable_where_that_is_allowed() -> None:
    assert Readable(marked=False)(answered("[1.5, 2, 3, 4]", TRUE)) == 1.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('<think>It is left.</think>\n<answer>{"bbox_2d": [1, 2, 3, 4]}</answer>', 1.0),
        ('<think> </think><answer>{"bbox_2d": [1, 2, 3, 4]}</answer>', 0.0),
        ("<think>It is left.</think><answer>left</answer>", 0.0),
        ('<think>It is left.</think><answer>{"bbox_2d": [1, 2, 3, 4]}', 0.0),
        ('<think>a</think><answer>b</answer><answer>{"bbox_2d": [1, 2, 3, 4]}</answer>', 0.0),
        ('{"bbox_2d": [1, 2, 3, 4]}', 0.0),
    ],
)
def test_thinking_needs_words_and_a_readable_answer_in_its_tags(text: str, value: float) -> None:
    assert Readable(thinking=True)(answered(text, TRUE)) == value


def test_nothing_and_words_are_readable() -> None:
    nothing = GroundTruth(no_target=True)
    assert Readable()(answered("[]", nothing)) == 1.0
    assert Readable()(answered("", nothing)) == 0.0
    assert Readable()(answered("<think></think><answer></answer>", nothing)) == 0.0
    assert Readable()(said("<answer> </answer>", "a cat")) == 0.0
    assert Readable()(answered("<think>so far", nothing)) == 0.0
    assert Readable()(said("a dog", "a cat")) == 1.0
    assert Readable()(said("<think>a dog", "a cat")) == 0.0
