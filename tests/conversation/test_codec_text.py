from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from mllm.conversation.codec_base import Reading, check_rows
from mllm.conversation.codec_text import (
    Marks,
    add_unmarked_rows,
    labelled,
    numbers,
    read_rows,
    rows_in_lists,
    rows_of_four,
    swap_axes,
    to_steps,
    token_numbers,
)
from mllm.errors import ConfigError
from mllm.registry import CODECS

TOKEN = re.compile(r"<(\d+)>")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1, -2.5,.5 , +3.", [1, -2.5, 0.5, 3]),
        ("", None),
        ("1,", None),
        ("1 2", None),
        ("1e3", None),
        ("1, x", None),
    ],
)
def test_numbers_stand_between_commas(text: str, found: list[float] | None) -> None:
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1, 2", [[1, 2]]),
        ("[1, 2]", [[1, 2]]),
        ("[[1, 2], [3, x]]", [[1, 2], None]),
        ("[1, 2] and [3, 4]", [None]),
        ("[[1, 2], 3]", [None]),
    ],
)
def test_rows_in_lists_may_have_brackets_around_each(text: str, rows: list[list[float] | None]) -> None:
    assert rows_in_lists(text) == rows


def regions(marks: Marks, text: str) -> list[tuple[str, tuple[str, ...], bool, str | None]]:
    return [(text[slice(*group.span)], group.parts, group.closed, group.label) for group in marks.find(text)]


def test_marks_find_regions_one_by_one_or_joined_with_the_phrase_before_them() -> None:
    assert regions(Marks("{", "}"), "a {1}{2} {3") == [
        ("{1}", ("1",), True, None),
        ("{2}", ("2",), True, None),
        ("{3", ("3",), False, None),
    ]
    assert regions(Marks("{", "}", joint=""), "{1} {2}, {3}") == [
        ("{1} {2}", ("1", "2"), True, None),
        ("{3}", ("3",), True, None),
    ]
    joined = Marks("{", "}", joint=";", label=("<p>", "</p>"))
    assert regions(joined, "<P>the dog </p> {1} ; {2} {3}, <p> </p>{4") == [
        ("<P>the dog </p> {1} ; {2}", ("1", "2"), True, "the dog"),
        ("{3}", ("3",), True, None),
        ("<p> </p>{4", ("4",), False, None),
    ]
    assert regions(Marks("{", "}"), "{1 {2}") == [("{1 ", ("1 ",), False, None), ("{2}", ("2",), True, None)]


def test_an_unclosed_group_is_malformed_whatever_its_numbers_are() -> None:
    closed, unclosed = Marks("{", "}", label=("<p>", "</p>")).find("<p>a</p>{1} {1")
    row = (0.1, 0.2, 0.3, 0.4)
    assert closed.read([row]) == Reading(boxes=(row,), label="a", span=(0, 11))
    assert unclosed.read([row]) == Reading(failure="malformed", span=(12, 14))


def test_add_unmarked_rows_takes_tokens_that_no_marks_hold() -> None:
    def read(row: Sequence[float]) -> Reading:
        return check_rows([[value / 10 for value in row]])

    text = "<1><2>(<3><4>)<5> <6>, <7>"
    marked, unplaced = Reading(failure="inverted", span=(6, 14)), Reading(failure="malformed")
    assert add_unmarked_rows(text, [marked, unplaced], TOKEN, read) == [
        unplaced,
        Reading(points=((0.1, 0.2),), span=(0, 6)),
        marked,
        Reading(points=((0.5, 0.6),), span=(14, 21)),
    ]
    assert add_unmarked_rows(text, [Reading(span=(5, 15))], TOKEN, read) == [Reading(span=(5, 15))]


def test_labelled_gives_each_box_the_words_beside_the_form() -> None:
    group = check_rows([(0, 0, 1, 1)] * 2)
    assert labelled(group, " the dog.\n").labels == ("the dog", "the dog")
    assert labelled(group, " ; ") is group


def test_rows_of_tokens() -> None:
    assert rows_of_four([1, 2, 3, 4, 5, 6]) == [[1, 2, 3, 4], [5, 6]]
    assert token_numbers("<1> <23>", TOKEN) == [1, 23]
    assert token_numbers("<1>, <23>", TOKEN) is None
    assert swap_axes([1, 2, 3, 4, 5]) == [2, 1, 4, 3, 5]


@pytest.mark.parametrize(
    ("row", "box", "failure"),
    [
        ((100, 200, 500, 400), (0.1, 0.2, 0.5, 0.4), None),
        ((0, 0, 1, 1), (0, 0, 0.001, 0.001), None),  # whole numbers
        ((0.5, 0.5, 1.5, 1.5), (0.0005, 0.0005, 0.0015, 0.0015), None),
        ((0.1, 0.2, 1, 0.4), None, "out_of_range"),  # fractions
        (None, None, "malformed"),
    ],
)
def test_read_rows_takes_fractions_for_none_where_numbers_are_whole(
    row: Sequence[float] | None, box: tuple[float, ...] | None, failure: str | None
) -> None:
    read = read_rows([row], scale=(1000, 1000))
    assert (read.boxes, read.failure) == ((box,) if box else (), failure)


def test_read_rows_divides_each_axis_by_its_own_scale() -> None:
    assert read_rows([(0.1, 0.2, 0.5, 0.4)]).boxes == ((0.1, 0.2, 0.5, 0.4),)
    assert read_rows([(0.1, 0.2, 0.5, 0.4)], scale=(100, 100), decimals=True).boxes == ((0.001, 0.002, 0.005, 0.004),)
    assert read_rows([(5, 10, 10, 20)], scale=(10, 20)).boxes == ((0.5, 0.5, 1, 1),)
    assert read_rows([(10, 5, 20, 10)], scale=(10, 20), y_first=True).boxes == ((0.5, 0.5, 1, 1),)
    assert read_rows([(5, 10)], scale=(10, 20)).points == ((0.5, 0.5),)
    assert read_rows([(5, 10)], scale=(10, 20), points=False).failure == "wrong_count"


def test_to_steps_is_the_nearest_up_to_the_top() -> None:
    assert to_steps((0, 0.1234, 0.1236, 1), 1000) == [0, 123, 124, 1000]
    assert to_steps((0.5, 1), 1000, top=999) == [500, 999]


def test_a_fraction_has_one_to_nine_digits() -> None:
    for digits in (1, 9):
        assert CODECS.make({"type": "shikra", "digits": digits}).error((1, 1)) == pytest.approx(
            0.5 * 10**-digits, abs=2e-9
        )
    for digits in (0, 10):
        with pytest.raises(ConfigError, match="digits: expected"):
            CODECS.make({"type": "shikra", "digits": digits})
