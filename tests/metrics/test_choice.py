from __future__ import annotations

from dataclasses import replace

import pytest

from mllm.errors import ConfigError, DataError
from mllm.metrics.choice import ChoiceAccuracy, chosen_letter, llava_letter
from mllm.registry import METRICS
from mllm.types import GroundTruth, Prediction

OPTIONS = ("table", "a fork", "candle", "The floor")


def answer(index: int, text: str, letter: str = "B", options: tuple[str, ...] = OPTIONS) -> Prediction:
    truth = GroundTruth(texts=(letter,), options=options)
    return Prediction(key=f"a:{index}", index=index, text=text, truth=truth)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b.", "B"),
        ("(B)", "B"),
        ("The answer is B.", "B"),
        ("The answer is (A). No, the answer is (B).", "B"),
        ("The answer is (B). The answer is hard to see.", "B"),
        ("The answer is B. BECAUSE: (A) is wrong.", "B"),
        ("B. a fork", "B"),
        ("(B) a fork", "B"),
        ("Option B", "B"),
        ("It is (B), I think", "B"),
        ("fork", "B"),
        ("The answer is the fork.", "B"),
        ("floor", "D"),
        ("A", "A"),
        ("A dog", None),
        ("(A) or (B)?", "A"),
        ("between (A) and (B)", None),
        ("I see a fork there", None),
        ("", None),
        ("Z", "Z"),
        ("The answer is not clear. It may be a cup. The answer is B.", "B"),
        ("The answer is not (A). The answer is (B).", "B"),
        ("It isn't (A), it is (C)", "C"),
        ("B. The answer is obvious.", "B"),
        ("The answer is Z. The answer is B.", "B"),
        ("The answer is B. The answer is Z.", "B"),
        ("**B**", "B"),
        ("The answer is **B**.", "B"),
        ("**Answer:** B", "B"),
        ("**The answer is (B)**", "B"),
        ("Answer: *B*", "B"),
        ("`B`", "B"),
        ("'B'", "B"),
        ('"B."', "B"),
        ("\u201cB\u201d", "B"),
        ("[B]", "B"),
        ("B - a fork", "B"),
        ("B\nbecause it has tines", "B"),
        ("I think the answer is B because A is wrong.", "B"),
        ("### Answer\nB", "B"),
        ("$B$", "B"),
        ("$\\boxed{B}$", "B"),
        ("So $\\boxed{\\text{B}}$.", "B"),
        ("\\boxed{\\text{(B) a fork}}", "B"),
        ("First \\boxed{A}, no: \\boxed{B}", "B"),
        ("<answer>B</answer>", "B"),
        ("<think>A?</think><answer>It has tines: <|begin_of_box|>B<|end_of_box|>.</answer>", "B"),
        ("<answer>\n(B) a fork\n</answer>", "B"),
        ("I use <answer></answer>: <answer>B</answer>", "B"),
        ("B</answer>", "B"),
        ("<think>A? The answer is A.</think>B", "B"),
        ("<think>A? The answer is A.</think>\n\nThe answer is **B**.", "B"),
        ("The answer is A.</think>B", "B"),
        ("<think>The answer is A.", None),
        ("<think>The answer is A.</think>", None),
        ("\u25c1think\u25b7A\u25c1/think\u25b7B", "B"),
        ("The final answer is: ``` B ```", None),
        ("```\nB\n```", "B"),
        ("Answer: The answer is B", "B"),
        ("A, B", None),
        ("A,B and C.", None),
        ("(A) and (C)", None),
        ("A/B", None),
        ("The answer is A, B.", None),
        ("A, a cup", "A"),
        ("Both look alike: **D**", "D"),
        ("Both look alike: **(D)**", "D"),
        ("It has tines, so **B**.", "B"),
        ("It has tines, so **B.**", "B"),
        ("It has tines, so *B*", "B"),
        ("It has tines, so __B__", "B"),
        ("It has tines, so `B`", "B"),
        ("It has tines, so **option B**.", "B"),
        ("It has tines: **B. a fork**", "B"),
        ("It has tines.\n\n**B**\n", "B"),
        ("It **has** tines, so I pick **B**", "B"),
        ("B fits best: **B**", "B"),
        ("The answer is not clear. I pick **B**.", "B"),
        ("<think>A? C?</think>It has tines, so **B**.", "B"),
        ("It has tines, so $\\boxed{B}$.", "B"),
        ("Both look alike: \\boxed{D}", "D"),
        ("Vitamin **C** is in A and B", None),
        ("Vitamin **C** is good", None),
        ("Either **A** or **B**", None),
        ("**A** is wrong, so is **B**.", None),
        ("The answer is not **B**.", None),
        ("It isn't **B**", None),
        ("Not **B**", None),
        ("It has tines: **B, C**", None),
        ("It is **a fork or so**", None),
        ("Both look alike: D", "D"),
        *((text, "C") for text in ("So, C.", "Ans: C", "Ans. C", "Thus C", "It must be C.", "I choose C", "\u9009C")),
        *((text, "C") for text in ("C!", "C is correct.", "Option C is the right answer", "C (candle)", "candle, C")),
        *((text, "C") for text in ("C candle", "\uff23", "\uff08C\uff09", "\u3010C\u3011", "choice: C", "Letter C")),
        *(
            (text, None)
            for text in ("It is not C", "It isn't option C.", "Not A. Not C", "A or B? C", "at 30 C", "Is it C?")
        ),
        *((text, None) for text in ("It is I", "C is right of B", "I like Vitamin C and B", "C cup", "the ABC")),
    ],
)
def test_which_letter_is_meant(text: str, letter: str | None) -> None:
    assert chosen_letter(text, OPTIONS) == letter


def test_words_come_before_letters() -> None:
    assert chosen_letter("C", ("B", "C")) == "B"


@pytest.mark.parametrize(
    ("text", "options", "letter"),
    [
        ("aa", ("Aa", "aa"), "B"),
        ("the answer is Aa", ("aa", "Aa"), "B"),
        ("AA", ("Aa", "aa"), None),
        ("-5", ("5", "-5"), "B"),
        ("+", ("-", "+"), "B"),
        ("dog", ("cat", "dog", "dog"), "B"),
        ("Dog.", ("a dog", "the dog"), None),  # normalised they are one, as texts they are not
        ("B", ("dog", "dog"), "B"),
        ("There is more salt in solution **B**", ("neither", "Solution A", "Solution B"), None),
        ("There is more salt in solution **B**", ("neither", "the left", "the right"), "B"),
        ("There is more salt in solution B", ("neither", "Solution A", "Solution B"), None),
        ("It barks, so **A**", ("A dog", "A cat"), "A"),
        ("It barks, so **A**", ("B", "A"), None),  # the letter, or the words?
    ],
)
def test_the_strictest_likeness_of_words_decides(text: str, options: tuple[str, ...], letter: str | None) -> None:
    assert chosen_letter(text, options) == letter


@pytest.mark.parametrize("text", ["B", "D", "dog", "The answer is (B).", "the dog"])
def test_options_with_equal_texts_count_as_equal(text: str) -> None:
    options = ("cat", "dog", "cow", " dog")
    for letter in ("B", "D"):
        scores = ChoiceAccuracy()([answer(0, text, letter, options), answer(1, "A", letter, options)])
        assert scores == {
            "accuracy": 0.5,
            "count": 2,
            "failure_none": 0,
            "failure_out_of_range": 0,
            "chance": 0.5,
        }


def test_scores() -> None:
    scores = ChoiceAccuracy()([answer(0, "B"), answer(1, "E"), answer(2, "who knows"), answer(3, "A", "A", ("x", "y"))])
    assert scores == {
        "accuracy": 0.5,
        "count": 4,
        "failure_none": 1,
        "failure_out_of_range": 1,
        "chance": (3 * 0.25 + 0.5) / 4,
    }


def test_each_score_but_the_count_has_a_meaning() -> None:
    scores = ChoiceAccuracy()([answer(0, "B")])
    assert set(scores) - {"count"} == set(ChoiceAccuracy.meanings)
    assert ChoiceAccuracy.headline in scores


def test_errors() -> None:
    with pytest.raises(DataError, match="a:0: truth: expected options and the letter of one of them, found"):
        ChoiceAccuracy()([answer(0, "B", "E")])
    with pytest.raises(DataError, match=r"a:0: truth\.options: expected at most 26, found 27"):
        ChoiceAccuracy()([answer(0, "B", "B", tuple(map(str, range(27))))])
    with pytest.raises(DataError, match="expected one prediction for item 0, found two"):
        ChoiceAccuracy()([answer(0, "B"), answer(0, "B")])


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("B. a fork", "B"),
        ("The answer is B.", "B"),
        ("Since it is metal. The answer is B. BECAUSE: it is.", "B"),
        ("The answer is B, a fork", "B"),
        ("A", "A"),
        ("C", "C"),
        ("D", "D"),
        ("E", "E"),
        # what the script calls FAILED
        ("b", None),
        ("(B)", None),
        ("B.", None),
        (" B", None),
        ("a fork", None),
        ("The answer is B", None),
        ("The answer is B. The answer is B.", None),
        ("The answer is F.", None),
        ("the answer is B.", None),
        ("", None),
    ],
)
def test_llava_letter_reads_as_the_script_for_scienceqa(text: str, letter: str | None) -> None:
    assert llava_letter(text, OPTIONS) == letter


@pytest.mark.parametrize(
    ("reading", "right", "none", "out_of_range"),
    [("options", 4, 0, 1), ("llava", 2, 2, 1), ("text", 1, 4, 0)],
)
def test_choice_accuracy_by_reading(reading: str, right: int, none: int, out_of_range: int) -> None:
    texts = ["B", "The answer is B.", "a fork", "(B)", "E"]
    scores = ChoiceAccuracy(reading=reading)([answer(n, text) for n, text in enumerate(texts)])  # type: ignore[arg-type]
    assert scores["accuracy"] == right / 5
    assert (scores["failure_none"], scores["failure_out_of_range"]) == (none, out_of_range)


def test_choice_accuracy_by_text_is_to_the_letter() -> None:
    """As A-OKVQA's evaluation compares choices."""
    values = [ChoiceAccuracy(reading="text").value(answer(0, text)) for text in (" a fork\n", "A fork", "fork", "B")]
    assert values == [1, 0, 0, 0]


def test_choice_accuracy_of_ranked_options_takes_the_text_as_it_stands() -> None:
    """Whether all options were ranked, or some; where other texts were, the answer is read."""
    text, options = "The answer is B.", ("The answer is B.", "A fork")
    for ranked, value in ((options, 1), (options[:1], 1), (("a", "b"), 0), ((), 0)):
        given = replace(answer(0, text, "A", options), candidate_scores=dict.fromkeys(ranked, 0.0))
        assert ChoiceAccuracy().value(given) == value


def test_choice_accuracy_takes_as_many_options_as_there_are_letters() -> None:
    assert ChoiceAccuracy().value(answer(0, "Z", "Z", tuple(f"option {n}" for n in range(26)))) == 1


def test_options_that_differ_in_case_are_different() -> None:
    assert [ChoiceAccuracy().value(answer(0, text, "A", ("Dog", "dog"))) for text in ("Dog", "dog")] == [1, 0]


@pytest.mark.parametrize(("reading", "depth"), [("options", "short_answer"), ("llava", "llava"), ("text", "text")])
def test_each_reading_has_its_depth(reading: str, depth: str) -> None:
    assert METRICS.make({"type": "ChoiceAccuracy", "reading": reading}).depth == depth


def test_choice_accuracy_names_a_wrong_reading() -> None:
    with pytest.raises(ConfigError, match=r"reading: expected one of 'options', 'llava', 'text', found str 'lava'"):
        METRICS.make({"type": "ChoiceAccuracy", "reading": "lava"})
