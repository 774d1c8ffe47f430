from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.dataset.questions import EXPR, OBJS, QUESTION, Questions, fill, plain, text_field, without_image
from mllm.errors import ConfigError, DataError
from mllm.types import IMAGE, VIDEO

POOLS = {
    "rec": (IMAGE, EXPR),
    "boxes": (IMAGE, EXPR),
    "point": (IMAGE, EXPR),
    "moment": (VIDEO, EXPR),
    "reg": (IMAGE, OBJS),
    "region_caption": (IMAGE, OBJS),
    "grounded_caption": (IMAGE,),
    "caption": (IMAGE,),
    "count": (IMAGE, EXPR),
    "phrase_of_boxes": (IMAGE, OBJS),
    "choice": (IMAGE, QUESTION),
    "classify": (IMAGE, QUESTION),
    "yes_no": (IMAGE, QUESTION),
    "problem": (QUESTION,),
    "vqa": (IMAGE, QUESTION),
    "vqa_reason": (IMAGE, QUESTION),
    "vqa_reason_boxes": (IMAGE, QUESTION),
    "vqa_reason_points": (IMAGE, QUESTION),
}


TASKS = {"detect": (IMAGE, EXPR), "phrase": (IMAGE, EXPR), "phrase_grounding": (IMAGE, EXPR)}
"""One wording each: the words of the task that PaliGemma, Kosmos-2 and Florence-2 were trained with."""


def test_every_pool_has_its_test() -> None:
    assert {path.stem for path in Path("config/questions").glob("*.json")} == {*POOLS, *TASKS}
    for name, placeholders in TASKS.items():
        assert len(Questions(f"config/questions/{name}.json", placeholders)) == 1


@pytest.mark.parametrize("name", POOLS)
def test_the_pools_that_come_with_the_sources(name: str) -> None:
    questions = Questions(f"config/questions/{name}.json", POOLS[name])
    assert len(questions) >= 20
    assert len(set(questions.templates)) == len(questions)
    for template in questions.templates:
        assert IMAGE not in without_image(template)
        assert "the image" not in without_image(template) or "the image" in template


def test_evaluation_asks_the_first(pool: Callable[[Sequence[Any]], str]) -> None:
    questions = Questions(pool(["<image>a", "<image>b", "<image>c"]))
    assert questions.draw(None) == "<image>a"
    assert {questions.draw(random.Random(n)) for n in range(50)} == set(questions.templates)


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        (["<image> <expr>", "<image>"], "entry 1: expected <expr> once, found nowhere"),
        (["<image> <expr> <expr>"], "entry 0: expected <expr> once, found 2 times"),
        (["<image> <expr> <objs>"], "entry 0: expected <objs> nowhere, found once"),
        (["<image> <expr> <boxes>"], "entry 0: expected <boxes> nowhere, found once"),
        (["<image> <expr>", 5], "1: expected a text, found int '5'"),
        ([], "expected a non-empty list of texts, found list '[]'"),
        ({"a": "<image>"}, "expected a JSON array, found dict"),
    ],
)
def test_a_bad_pool_says_which_entry(pool: Callable[[Any], str], templates: Any, message: str) -> None:
    path = pool(templates)
    with pytest.raises(ConfigError) as caught:
        Questions(path, (IMAGE, EXPR))
    assert str(caught.value) == f"{path}: {message}"


def test_a_pool_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Questions(str(tmp_path / "none.json"))
    broken = tmp_path / "broken.json"
    broken.write_text('["a",\n b]')
    with pytest.raises(
        ConfigError, match=r"broken\.json:2: expected a JSON array, found ' b]': Expecting value in column 2"
    ):
        Questions(str(broken))
    broken.write_bytes(b'["\xe9"]')
    with pytest.raises(ConfigError, match=r"broken\.json: expected UTF-8"):
        Questions(str(broken))


@given(st.text().filter(lambda text: text.strip() and not any(p in text for p in ("<image>", "<boxes>", "<points>"))))
def test_any_text_fills_a_template_untouched(text: str) -> None:
    assert fill("<image>\nWhere is <expr>?", {EXPR: text}) == "<image>\nWhere is " + text + "?"


@pytest.mark.parametrize("text", ["{}", "{0}", "{expr}", r"\1 \g<0>", "<expr>", "<objs> [x] (y", "%s"])
def test_values_are_never_read_again(text: str) -> None:
    assert fill("<expr> and <question>", {EXPR: text, "<question>": "<expr>?"}) == f"{text} and <expr>?"


def test_fill_without_values() -> None:
    assert fill("<image>\nwhat?", {}) == "<image>\nwhat?"


@pytest.mark.parametrize("reserved", ["<image>", "<boxes>", "<points>"])
def test_reserved_placeholders_in_user_text(reserved: str) -> None:
    for name, refuse in (
        ("said", lambda: plain(f"a {reserved}", "said")),
        (EXPR, lambda: fill("<expr>", {EXPR: f"a {reserved}"})),
        ("said", lambda: text_field({"said": f"a {reserved}"}, "said")),
    ):
        with pytest.raises(DataError) as caught:
            refuse()
        assert str(caught.value) == f"{name}: expected a text without the reserved {reserved}, found 'a {reserved}'"


@pytest.mark.parametrize(
    "blank", ["", " \n", "\u200b", "\u2800 \u3164", "\u00ad\u200e\ufeff", "\u034f\x00", "\u202e\U000e0001"]
)
def test_blank_words(blank: str) -> None:
    with pytest.raises(DataError) as caught:
        text_field({"said": blank}, "said")
    assert str(caught.value) == f"said: expected words, found {blank!a}"


def test_without_image() -> None:
    assert without_image("<image>\nWhere is it?") == "Where is it?"
    assert without_image("Where\nis it?\n<image>") == "Where\nis it?"
    assert without_image("In <image>, where is it?") == "In the image, where is it?"
    assert without_image("<image><image>\nWhere is it?") == "Where is it?"
