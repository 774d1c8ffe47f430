"""Trees of prompts, worked out by hand and against the set of all beginnings."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.conversation import prefix_tree as module
from mllm.conversation.prefix_tree import LEAST, Segment, leaves, prefix_tree

INTRO, QUESTION, OTHER = tuple(range(20)), tuple(range(30, 40)), tuple(range(50, 65))


def shape(prompts: Sequence[Sequence[int]], answers: Sequence[int], head: int = 0) -> list[tuple[int, int, int | None]]:
    """(start, stop, parent) of each segment; an answer is so many tokens behind its prompt."""
    lengths = [head + len(prompt) + answer for prompt, answer in zip(prompts, answers, strict=True)]
    return [(each.start, each.stop, each.parent) for each in prefix_tree(prompts, lengths, head=head)]


def test_a_picture_two_questions_and_their_answers_are_three_levels() -> None:
    prompts = [INTRO + QUESTION, INTRO + OTHER, INTRO + QUESTION, INTRO + OTHER]
    assert shape(prompts, [3, 4, 5, 6], head=256) == [
        (0, 276, None),
        (276, 286, 0),
        (286, 289, 1),
        (286, 291, 1),
        (276, 291, 0),
        (291, 295, 4),
        (291, 297, 4),
    ]


def test_branches_come_in_the_order_of_the_examples() -> None:
    prompts = [OTHER, QUESTION, OTHER, INTRO]
    lengths = [20, 21, 22, 23]
    tree = prefix_tree(prompts, lengths, head=4)
    assert leaves(tree, lengths) == [0, 2, 1, 3]


def test_a_single_example_is_one_segment() -> None:
    assert prefix_tree([INTRO], [25], head=3) == [Segment(0, 0, 25, None)]
    assert prefix_tree([], []) == []


def test_texts_with_nothing_in_common_are_trees_of_their_own() -> None:
    assert shape([INTRO, OTHER, INTRO], [1, 1, 2]) == [(0, 20, None), (20, 21, 0), (20, 22, 0), (0, 16, None)]


def test_images_are_shared_however_few_tokens_they_are() -> None:
    assert shape([(1,), (2,)], [1, 1], head=1) == [(0, 1, None), (1, 3, 0), (1, 3, 0)]
    assert shape([(), ()], [1, 1], head=1) == [(0, 1, None), (1, 2, 0), (1, 2, 0)]


@pytest.mark.parametrize("short", [LEAST - 1, LEAST])
def test_a_short_segment_behind_the_images_is_repeated(short: int) -> None:
    prompts = [(*range(short), 100), (*range(short), 200)]
    repeated = [(0, 4, None), (4, 4 + short + 2, 0), (4, 4 + short + 2, 0)]
    prompts = [(50, *prompts[0]), (50, *prompts[1]), (60,)]  # so that the segment is none of the root's
    found = shape(prompts, [1, 1, 1], head=4)
    own = short + 1 >= LEAST
    assert (len(found) == 5) == own
    assert found[0] == repeated[0]


def test_what_is_behind_a_short_segment_counts_with_it() -> None:
    """Three tokens alike in all, and six more in two of them: nine, which those two share."""
    alike = (1, 2, 3)
    found = shape([alike + (4,) * 6, alike + (5,) * 6, alike + (4,) * 6], [1, 1, 1])
    assert found == [(0, 9, None), (9, 10, 0), (9, 10, 0), (0, 10, None)]


PROMPTS = st.lists(st.lists(st.integers(0, 2), max_size=8).map(tuple), min_size=1, max_size=12)


@given(prompts=PROMPTS, head=st.integers(0, 3), least=st.integers(1, 4))
def test_every_example_is_read_along_its_branches(prompts: list[tuple[int, ...]], head: int, least: int) -> None:
    lengths = [head + len(prompt) + 1 + number % 3 for number, prompt in enumerate(prompts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAST", least)
        tree = prefix_tree(prompts, lengths, head=head)
    ends = leaves(tree, lengths)
    assert sorted(ends) == list(range(len(prompts)))
    inner = [number for number, each in enumerate(tree) if each.stop < lengths[each.example]]
    for number, segment in enumerate(tree):
        line = [segment]
        while line[0].parent is not None:
            assert line[0].parent < number
            assert tree[line[0].parent].stop == line[0].start
            line.insert(0, tree[line[0].parent])
        assert line[0].start == 0
        for each in line:  # along a branch all examples say what its own says
            said = prompts[each.example][max(0, each.start - head) : each.stop - head]
            own = prompts[segment.example][max(0, each.start - head) : each.stop - head]
            assert own == said or each is segment
    for number in inner:
        assert sum(each.parent == number for each in tree) >= 2
        assert len(tree[number]) >= least or tree[number].start < head
    if least == 1:  # nothing is said twice
        beginnings = {prompt[:n] for prompt in prompts for n in range(1, len(prompt) + 1)} if len(prompts) > 1 else ()
        once = head + len(beginnings) if len(prompts) > 1 else head + len(prompts[0])
        behind = sum(length - head - len(prompt) for length, prompt in zip(lengths, prompts, strict=True))
        assert sum(map(len, tree)) == once + behind
