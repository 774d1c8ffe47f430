from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mllm.dataset.left_right_text import mirrored, names_sides


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<image>\nWhere is left guy? Answer with its box.", "<image>\nWhere is right guy? Answer with its box."),
        ("Find the second zebra from right and give its box.", "Find the second zebra from left and give its box."),
        ("The cup on the left side of the table.", "The cup on the right side of the table."),
        ("the man on the left <boxes>, in blue", "the man on the right <boxes>, in blue"),
        ("top-left corner", "top-right corner"),
        ("the back-left of the room", "the back-right of the room"),
        ("right red car", "left red car"),
        ("right elephant's trunk", "left elephant's trunk"),
        ("the left half of the image", "the right half of the image"),
        ("Leftmost dog, RIGHTMOST cat", "Rightmost dog, LEFTMOST cat"),
        ("a left-handed batter", "a right-handed batter"),
        ("Left and right shoes, from left to right", "Right and left shoes, from right to left"),
        ("They turn clockwise.", "They turn counterclockwise."),
        ("woman facing right", "woman facing left"),
        ("a bright, upright frame", "a bright, upright frame"),
        ("a dog", "a dog"),
    ],
)
def test_sides_change_places(text: str, expected: str) -> None:
    assert mirrored(text) == expected
    assert mirrored(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        *("What is she doing right now?", "All right, he does.", "The bus turned right before the bridge."),
        *("He left the room.", "Someone left a cup on the table.", "Two slices are left.", "leftover pizza"),
        *("He left half of it.", "The plate left in the sink.", "the right answer", "the right person for the job"),
        *("the right of way", "a matter of right and wrong", "standing right in front of the man", "Human rights"),
        *(
            "guy left",
            "The man in the back left.",
            "l guy",
            "rt boy",
            "Right.",
            "lEFT man",
            "counter-clockwise",
            "the east wall",
        ),
        *("What does the sign say?", "the letter on his shirt", 'the sign "STOP"', "player 23", "number 5 bus #5"),
        *("the clock", "the license plate", "the word on the wall"),
    ],
)
def test_what_is_not_sure_is_refused(text: str) -> None:
    assert mirrored(text) is None


WORDS = (
    "left right Left RIGHT leftmost right-hand the The on to from of and / hand side man red wrong half is his far top "
    "clockwise counterclockwise counter - . , ? <boxes> dog left-over now"
)
PIECES = st.tuples(st.sampled_from(WORDS.split()), st.sampled_from(["", " ", " ", " "])).map("".join)


@given(st.lists(PIECES, max_size=12).map("".join))
@example("x-counterclockwise")
@example("counter counterclockwise")
def test_mirrored_twice_it_is_the_same(text: str) -> None:
    once = mirrored(text)
    if once is not None:
        assert mirrored(once) == text


def test_naming_sides_in_any_sense() -> None:
    assert all(map(names_sides, ["He left.", "right now", "LEFTMOST", "rt guy"]))
    assert not any(map(names_sides, ["a bright dog", "upright, swift", "a cleft rock"]))
