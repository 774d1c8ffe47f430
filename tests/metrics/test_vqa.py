"""Parity with the public evaluation: answers, scores and normalised texts that it gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mllm.errors import ConfigError, DataError
from mllm.metrics.vqa import (
    RULES,
    AnswerAccuracy,
    VQAAccuracy,
    consensus,
    exact_consensus,
    flamingo_consensus,
    flamingo_okvqa_consensus,
    flamingo_vizwiz_consensus,
    normalised_answer,
    same_answer,
    textvqa_consensus,
)
from mllm.registry import METRICS
from mllm.types import GroundTruth, Prediction

OFFICIAL = json.loads((Path(__file__).parent / "vqav2_official.json").read_text())["questions"]
NORMALISED = json.loads((Path(__file__).parent / "vqa_normalised.json").read_text())["normalise"]

FLAMINGO = json.loads((Path(__file__).parent / "vqa_openflamingo.json").read_text(encoding="utf-8"))["cases"]


def answer(index: int, text: str, *references: str) -> Prediction:
    return Prediction(key=f"a:{index}", index=index, text=text, truth=GroundTruth(texts=references))


@pytest.mark.parametrize("question", OFFICIAL)
def test_scores_are_the_official_ones(question: str) -> None:
    entry = OFFICIAL[question]
    for text, percent in entry["predictions"]:
        assert round(100 * consensus(text, entry["answers"]), 2) == percent, text


@pytest.mark.parametrize(("text", "expected"), NORMALISED.items())
def test_normalised_texts_are_the_public_ones(text: str, expected: str) -> None:
    assert normalised_answer(text) == expected


def test_normalised_texts_have_neither_articles_nor_number_words() -> None:
    assert normalised_answer("a dog, an ape, the owl") == "dog ape owl"
    assert normalised_answer("X ray") == "x ray"
    assert normalised_answer("none zero one two three four five six seven eight nine ten eleven") == (
        "0 0 1 2 3 4 5 6 7 8 9 10 eleven"
    )


@pytest.mark.parametrize(("matches", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_three_others_are_enough(matches: int, score: float) -> None:
    others = ["dog"] * matches + [f"cat {number}" for number in range(10 - matches)]
    assert consensus("dog", others) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "people", "score"),
    [
        # annotators differ: both sides are normalised
        ("four", ["four"] * 6 + ["one"] * 4, 1),
        ("4", ["four"] * 6 + ["4"] * 4, 1),
        ("Four.", ["4"] * 2 + ["four"] + ["none"] * 7, 0.9),
        ("dont", ["don't"] * 5 + ["do not"] * 5, 1),
        ("a dog", ["dog", "a dog", "a dog", "a dog"], 1),
        ("Dog.", ["dog"] * 9 + ["cat"], 1),
        ("t shirt", ["T-shirt"] * 5 + ["shirt"] * 5, 1),
        ("1000", ["1,000"] * 2 + ["lots"] * 8, 0.6),
        ("the", ["a"] * 4 + ["an"] * 6, 1),
        # all agree, line breaks apart: the texts are compared as they stand
        ("Dog", ["dog"] * 10, 0),
        ("four", ["4"] * 10, 0),
        ("a\tdog\n", ["a dog"] * 10, 1),
        ("two", ["two\n", "two", " two"], 2 / 3),
        # of the periods that no digit follows the first 32 are dropped
        ("." * 33 + "5", [".5"] * 5 + ["6"] * 5, 1),
        ("." * 32 + "x", ["x"] * 5 + ["6"] * 5, 1),
        ("." * 33 + "x", ["x"] * 5 + ["6"] * 5, 0),
    ],
)
def test_consensus_normalises_both_sides_where_annotators_differ(text: str, people: list[str], score: float) -> None:
    """Each score as the code at GT-Vision-Lab/VQA's last commit gives it."""
    assert consensus(text, people) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "people", "score"),
    [
        ("Dog", ["dog"] * 10, 1),
        ("the bus's", ["bus 's"] * 10, 1),
        ("what, now?", ["what now"] * 10, 1),
        ("1,000", ["1000"] * 3 + ["x"] * 7, 0.9),
        ("two", ["2"] * 10, 1),
        ("coca cola", ["coca-cola"] * 10, 1),
        ("pepsi", ["coca cola"] * 10, 0),
    ],
)
def test_textvqa_consensus_always_normalises(text: str, people: list[str], score: float) -> None:
    assert textvqa_consensus(text, people) == pytest.approx(score)
    assert VQAAccuracy(rule="textvqa")([answer(0, text, *people)])["vqa_accuracy"] == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "people", "score"),
    [
        ("dog", ["dog"] * 2 + ["cat"] * 8, 2 / 3),  # VQA's rule, which leaves one annotator out, gives 0.6
        ("dog", ["dog"] * 3 + ["cat"] * 7, 1),
        ("dog", ["dog"] * 10, 1),
        ("Dog", ["dog"] * 10, 0),
        ("a dog", ["dog"] * 10, 0),
        ("two", ["2"] * 10, 0),
        ("x", ["dog"] * 10, 0),
    ],
)
def test_exact_consensus_of_aokvqa(text: str, people: list[str], score: float) -> None:
    assert exact_consensus(text, people) == pytest.approx(score)
    assert VQAAccuracy(rule="aokvqa")([answer(0, text, *people)])["vqa_accuracy"] == pytest.approx(score)


def test_vqa_accuracy_scores_the_text_as_it_stands_where_asked() -> None:
    """The answer is read by default, never by what annotators gave; a bare answer is scored as it stands."""
    people = ["u.s."] * 10
    texts = ["u.s.", "The answer is u.s.", "**u.s.**", "U.S."]
    by_answer = [VQAAccuracy()([answer(0, text, *people)])["vqa_accuracy"] for text in texts]
    as_it_stands = [VQAAccuracy(reading="text")([answer(0, text, *people)])["vqa_accuracy"] for text in texts]
    assert by_answer == [1, 0, 0, 0]  # the final stop of an answer that is read is dropped
    assert as_it_stands == [1, 0, 0, 0]
    for bare in ("yes.", "yes ."):  # all agree: the public rule compares the texts as they stand
        assert VQAAccuracy()([answer(0, bare, *["yes"] * 10)])["vqa_accuracy"] == consensus(bare, ["yes"] * 10) == 0
    spoken = [answer(0, "<think>no</think>The answer is **yes**.", *["yes"] * 10)]
    assert VQAAccuracy()(spoken)["vqa_accuracy"] == 1
    assert VQAAccuracy(reading="text")(spoken)["vqa_accuracy"] == 0


@pytest.mark.parametrize("reading", ["answer", "text"])
def test_vqa_accuracy_of_bare_answers_is_the_official_one(reading: str) -> None:
    questions = list(OFFICIAL.values())
    for number in range(max(len(entry["predictions"]) for entry in questions)):
        entries = [entry for entry in questions if len(entry["predictions"]) > number]
        given = [answer(n, entry["predictions"][number][0], *entry["answers"]) for n, entry in enumerate(entries)]
        expected = sum(entry["predictions"][number][1] for entry in entries) / 100 / len(entries)
        assert VQAAccuracy(reading=reading)(given)["vqa_accuracy"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "vqa2"}, "'VQAAccuracy': rule: expected one of .*, found str 'vqa2'; did you mean 'vqa'"),
        (
            {"reading": "txt"},
            "'VQAAccuracy': reading: expected one of 'answer', 'text' or None, found str 'txt'; did you mean 'text'?",
        ),
    ],
)
def test_vqa_accuracy_names_a_wrong_argument(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        METRICS.make({"type": "VQAAccuracy", **arguments})


def test_vqa_accuracy_of_a_set() -> None:
    people = ["two"] * 5 + ["2"] * 5
    scores = VQAAccuracy()(
        [
            answer(1, "", *people),
            answer(0, "The answer is 7. The answer is 2.", *people),
            answer(2, "So the answer is 9.", *people),
        ]
    )
    assert scores == {"vqa_accuracy": pytest.approx(1 / 3), "count": 3, "failure_none": 1}
    with pytest.raises(
        DataError, match=r"a:0: truth.texts: expected the answers of at least two people, found 1; Answer"
    ):
        VQAAccuracy()([answer(0, "yes", "yes")])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("reading", [None, "answer", "text"])
def test_each_rule_and_reading_has_a_name_in_configs(rule: str, reading: str | None) -> None:
    metric = METRICS.make({"type": "VQAAccuracy", "rule": rule, "reading": reading})
    people = ["dog"] * 3 + ["cat"] * 7
    assert metric.value(answer(0, "dog", *people)) == pytest.approx(RULES[rule]("dog", people))


def test_each_reading_has_its_depth() -> None:
    assert [VQAAccuracy().depth, VQAAccuracy(reading="text").depth] == ["short_answer", "text"]
    assert [AnswerAccuracy().depth, AnswerAccuracy(rule="gqa").depth] == ["short_answer", "gqa"]
    whole = "share of all texts that are the reference in lower case, apart from final full stops"
    assert AnswerAccuracy(rule="gqa").meanings["accuracy"] == whole


@pytest.mark.parametrize("rule", ["vqa", "gqa"])
def test_each_rule_of_answers_has_a_name_in_configs(rule: str) -> None:
    metric = METRICS.make({"type": "AnswerAccuracy", "rule": rule})
    assert [metric.value(answer(0, text, "dog")) for text in ("Dog.", "cat")] == [1, 0]


@pytest.mark.parametrize(
    "text",
    ["**two**", "'two'", "\\boxed{2}", "<answer>two</answer>", "<think>3? no.</think>two", "Answer: *Two*."],
)
def test_wrapped_answers_are_read(text: str) -> None:
    assert AnswerAccuracy()([answer(0, text, "2")])["accuracy"] == 1
    assert VQAAccuracy()([answer(0, text, *["two"] * 5, *["2"] * 5)])["vqa_accuracy"] == 1


def test_answer_accuracy() -> None:
    scores = AnswerAccuracy()(
        [
            answer(0, "The answer is a red car.", "red car"),
            answer(1, "Two", "2"),
            answer(2, "blue", "red"),
            answer(3, "", "x"),
        ]
    )
    assert scores == {"accuracy": 0.5, "count": 4, "failure_none": 1}
    with pytest.raises(DataError, match=r"a:0: truth\.texts: expected at least one text, found nothing"):
        AnswerAccuracy()([answer(0, "yes")])


@pytest.mark.parametrize("metric", [VQAAccuracy(), AnswerAccuracy()])
def test_each_score_but_the_count_has_a_meaning(metric: VQAAccuracy | AnswerAccuracy) -> None:
    scores = metric([answer(0, "yes", "yes", "no")])
    assert set(scores) - {"count"} == set(metric.meanings)
    assert metric.headline in scores


@pytest.mark.parametrize(
    ("text", "reference", "same"),
    [("+", "-", False), ("-", "-", True), ("", "the", False), ("A", "a", True), ("the dog", "Dog!", True)],
)
def test_same_answer_keeps_texts_of_signs_apart(text: str, reference: str, same: bool) -> None:
    assert same_answer(text, reference) is same


@pytest.mark.parametrize(("text", "people", "score"), FLAMINGO)
def test_flamingo_consensus_is_the_one_of_its_harness(text: str, people: list[str], score: float) -> None:
    assert flamingo_consensus(text, people) == pytest.approx(score, abs=1e-6)
    assert VQAAccuracy(rule="openflamingo")([answer(0, text, *people)])["vqa_accuracy"] == pytest.approx(
        score, abs=1e-6
    )


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("red, blue", "red"),
        ("dog Question:what", "dog"),
        ("yes Answer: no", "yes"),
        ("two\n", "2"),
        ("a,b", "b"),
        ("dog, Question", "dog"),
    ],
)
def test_flamingo_consensus_cuts_the_text_and_always_normalises(text: str, kept: str) -> None:
    assert flamingo_consensus(text, [kept] * 10) == 1
    assert flamingo_consensus("Short answer: dog", ["dog"] * 10) == 0
    assert flamingo_consensus("Two", ["two"] * 10) == 1  # VQAv2's own rule compares these as they stand


# of ten annotators so many said "dog": what OpenFlamingo's code gives where answers have no numbers
VIZWIZ = [0, 0.3, 0.5333, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0]


@pytest.mark.parametrize(("matches", "score"), enumerate(VIZWIZ))
def test_flamingo_vizwiz_consensus_leaves_equal_answers_out_together(matches: int, score: float) -> None:
    people = ["Dog"] * matches + [f"cat {n}" for n in range(10 - matches)]
    assert flamingo_vizwiz_consensus("dog, brown", people) == pytest.approx(score, abs=1e-4)
    found = VQAAccuracy(rule="openflamingo_vizwiz")([answer(0, "dog", *people)])
    assert found["vqa_accuracy"] == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "stem"), [("riding a horse", "ride horse"), ("leaves, grass", "leaf"), ("yes", "yes")]
)
def test_flamingo_okvqa_consensus_stems_the_words_of_its_table(text: str, stem: str) -> None:
    assert flamingo_okvqa_consensus(text, [stem] * 10) == 1
    assert VQAAccuracy(rule="openflamingo_okvqa")([answer(0, text, *[stem] * 10)])["vqa_accuracy"] == 1


def test_vqa_accuracy_takes_whole_texts_by_the_rules_of_openflamingo() -> None:
    given = [answer(0, "dog The answer is cat", *["dog The answer is cat"] * 10)]
    assert VQAAccuracy(rule="openflamingo")(given)["vqa_accuracy"] == 1
    assert VQAAccuracy(rule="openflamingo", reading="answer")(given)["vqa_accuracy"] == 0


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("Yes.", "yes", 1),
        ("yes..", "yes", 1),
        ("the dog", "dog", 0),
        ("two", "2", 0),
        ("yes .", "yes", 0),
        (" yes", "yes", 0),
        ("The answer is yes.", "yes", 0),
    ],
)
def test_answer_accuracy_of_gqa_is_that_of_llava(text: str, reference: str, right: int) -> None:
    assert AnswerAccuracy(rule="gqa")([answer(0, text, reference)])["accuracy"] == right
