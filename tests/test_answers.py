from __future__ import annotations

import pytest

from mllm.answers import short_answer, stated, stated_answers, steps_of, whole_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("yes", "yes"),
        ("Yes.", "Yes"),
        ("a dog on the U.S. flag", "a dog on the U.S. flag"),
        ("The answer is yes.", "yes"),
        ("the answer is yes", "yes"),
        ("The answer is yes .", "yes"),
        ("It has rained. So the answer is wet.", "wet"),
        ("Answer: 2 dogs", "2 dogs"),
        ("Ans: 2 dogs", "2 dogs"),
        ("The ants: 2 dogs", "The ants: 2 dogs"),
        ("The answer is: left", "left"),
        ("The answer is no. It does not rain.", "no"),
        ("The answer is yes. The answer is no.", "no"),
        ("The answer is yes. The answer is", "yes"),
        ("The answer is yes, so the answer is no", "no"),
        ("The answer is yes\nThe answer is no", "no"),
        ("The answer is 3.5 metres.", "3.5 metres"),
        ("The answer is Dr. Pepper.", "Dr. Pepper"),
        ("The answer is St. Louis.", "St. Louis"),
        ("The answer is J. K. Rowling.", "J. K. Rowling"),
        ("The answer is dogs vs. cats", "dogs vs. cats"),
        ("It is red.\n\n### Answer\nred", "red"),
        ("It is blue.\n## Final answer\n\nred. It is.", "red"),
        ("<answer></answer>", ""),
        ("<answer> </answer> red", ""),
        ("The answer is the U.S. flag. It waves.", "the U.S. flag"),
        ("The answer is", ""),
        ("The answer is .", ""),
        ("", ""),
        ("  ", ""),
        ("red..", "red."),
        ("'red.'.", "red"),
        ("Answer: The answer is red", "red"),
        ("The answer would be red.", "red"),
        ("The correct option is B.", "B"),
        ("So the right choice must be: B", "B"),
        ("It is the right choice.", "It is the right choice"),
        ("**red**", "red"),
        ("The answer is **red**.", "red"),
        ("**Answer:** red", "red"),
        ("**Final Answer**: red", "red"),
        ("The answer is __red__", "red"),
        ("*red*.", "red"),
        ("_red_", "red"),
        ("'red'", "red"),
        ('"red."', "red"),
        ("\u201cred\u201d", "red"),
        ("\u00abred\u00bb", "red"),
        ('The answer is "red".', "red"),
        ("`red`", "red"),
        ("```\nred\n```", "red"),
        ("$\\boxed{red}$", "red"),
        ("\\[ \\boxed{\\text{red}} \\]", "red"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{red", "red"),
        ("It is \\boxed{blue}; no, \\boxed{red}.", "red"),
        ("<answer>red</answer>", "red"),
        ("<answer> The answer is red. </answer> Bye.", "red"),
        ("<ANSWER>red", "red"),
        ("<answer>blue</answer> wait: <answer>red</answer> <answer> </answer>", "red"),
        ("<conclusion>red</conclusion>", "red"),
        ("<answer>So it is <|begin_of_box|>red<|end_of_box|>.</answer>", "red"),
        ("No <|begin_of_box|>blue<|end_of_box|>, <|begin_of_box|>**red**", "red"),
        ("<think>blue? The answer is blue.</think>red", "red"),
        ("<think>blue</think>\n<answer>**red**</answer>", "red"),
        ("<thinking>blue</thinking> red", "red"),
        ("[THINK]blue[/THINK]red", "red"),
        ("blue\n</think>\n\nred", "red"),
        ("<think>a</think> b <think>c</think> red", "red"),
        ("<think>The answer is blue", ""),
        # no mark-up
        ("2 * 3 * 4", "2 * 3 * 4"),
        ("5*6*7", "5*6*7"),
        ("snake_case_name", "snake_case_name"),
        ("don't", "don't"),
        ("'tis the dog's", "'tis the dog's"),
        ("$5", "$5"),
        ("a < b", "a < b"),
    ],
)
def test_short_answer(text: str, answer: str) -> None:
    assert short_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red", ["red"]),
        ("The answer is not clear. The answer is **A**.", ["A", "not clear"]),
        ("The answer is. Answer: B", ["B"]),
        ("", [""]),
    ],
)
def test_answers_come_the_last_first(text: str, expected: list[str]) -> None:
    assert stated_answers(text) == expected


def test_whole_answer_keeps_all_that_was_said() -> None:
    assert whole_answer("<think>hm</think> **The answer is red. It shines.**") == "The answer is red. It shines"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <thin> line </thinker> [0.1,0.2,0.3,0.4]", None),
        ("**[0.1,0.2,0.3,0.4]** or <patch_index_0001> `x`", None),
        ("<think>[1]</think> **[2]**", "**[2]**"),
        ("[1] then <answer>[2]</answer> [3]", "[2]"),
        ("<think>[1]</think>[2] <answer>\\boxed{[3]}</answer>", "[3]"),
        ("<answer>At <|begin_of_box|>[[1]]<|end_of_box|></answer>", "At <|begin_of_box|>[[1]]<|end_of_box|>"),
        ('\\boxed{{"bbox_2d": [1, 2, 3, 4]}}', '{"bbox_2d": [1, 2, 3, 4]}'),
        ("<think>[1]", ""),
    ],
)
def test_stated_leaves_the_answer_as_it_is_written(text: str, expected: str | None) -> None:
    assert stated(text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("text", "stated_by", "read_by"),
    [
        ("red", (), ()),
        (" red ", (), ()),
        ("", (), ()),
        ("red.", (), ("wrapping",)),
        ("'red'", (), ("wrapping",)),
        ("**red**", (), ("emphasis",)),
        ("**red**.", (), ("emphasis", "wrapping")),
        ("The answer is red.", (), ("the_answer_is",)),
        ("<think>blue</think> red", ("thinking",), ("thinking",)),
        ("<think>blue", ("thinking",), ("thinking",)),
        ("<answer>red</answer>", ("answer_tag",), ("answer_tag",)),
        ("red</answer>", ("answer_tag",), ("answer_tag",)),
        ("\\boxed{red}", ("boxed",), ("boxed",)),
        ("<|begin_of_box|>red<|end_of_box|>", (), ("boxed",)),
        ("\\boxed{blue} <answer>red</answer>", ("answer_tag",), ("answer_tag",)),
        (
            "<think>?</think><answer>**The answer is \\boxed{red}**</answer>",
            ("thinking", "answer_tag", "boxed"),
            ("thinking", "answer_tag", "boxed"),
        ),
    ],
)
def test_steps_of_names_the_steps_that_read_an_answer(
    text: str, stated_by: tuple[str, ...], read_by: tuple[str, ...]
) -> None:
    assert steps_of(text, "stated") == stated_by
    assert steps_of(text, "short_answer") == read_by


def test_steps_of_a_whole_answer_is_not_looked_for_behind_words() -> None:
    assert steps_of("The answer is red.", "whole_answer") == ("wrapping",)
