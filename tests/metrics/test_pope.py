from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mllm.errors import ConfigError, DataError
from mllm.metrics.pope import POPE, says_no, says_no_publicly
from mllm.registry import METRICS
from mllm.types import GroundTruth, Prediction


def answers(*pairs: tuple[str, str]) -> list[Prediction]:
    return [
        Prediction(key=f"a:{n}", index=n, text=text, truth=GroundTruth(texts=(label,), options=("yes", "no")))
        for n, (text, label) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("text", "public", "words"),
    [
        ("no", True, True),
        ("No, there is none", True, True),
        ("The answer is no .", True, True),
        ("There is not a dog", True, True),
        ("no, not really", True, True),
        ("Yes. There is no doubt", False, False),
        ("yes", False, False),
        ("nothing", False, False),
        ("", False, False),
        ("No.", True, True),
        # what the public script takes as yes
        ("NO", False, True),
        ("no!", False, True),
        ("**No**", False, True),
        ("Not really", False, True),
        ("no\nThere is none", False, True),
        ("(no)", False, True),
        ("There isn't a dog", False, True),
        ("There isn\u2019t one", False, True),
        ("\\boxed{no}", False, True),
        ("<answer>No</answer>", False, True),
        ("<think>No cat. Yes</think> The answer is **no**", False, True),
        # what it takes as no
        ("<think>There is no cat here</think>Yes", True, False),
        ("3.5 not", False, False),
    ],
)
def test_an_answer_is_read_to_the_letter_of_the_public_script_or_by_its_words(
    text: str, public: bool, words: bool
) -> None:
    """The first column was checked against RUCAIBox/POPE's evaluate.py."""
    assert says_no_publicly(text) is public
    assert says_no(text) is words


def test_pope_publishes_the_public_reading_by_default() -> None:
    given = answers(("NO", "no"), ("no", "no"), ("yes", "yes"))
    assert POPE()(given)["accuracy"] == pytest.approx(2 / 3)
    assert POPE()(given)["failure_none"] == 1
    assert POPE(reading="words")(given)["accuracy"] == 1
    assert POPE(reading="words")(given)["failure_none"] == 0
    with pytest.raises(
        ConfigError, match=r"'POPE': reading: expected one of .*, found str 'word'; did you mean 'words'\?"
    ):
        METRICS.make({"type": "POPE", "reading": "word"})


def test_scores() -> None:
    scores = POPE()(
        answers(("yes", "yes"), ("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no"), ("a dog", "no"))
    )
    assert scores == {
        "accuracy": 0.5,
        "precision": 0.5,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3)),
        "yes_ratio": pytest.approx(4 / 6),
        "count": 6,
        "failure_none": 1,
    }


def test_no_true_positives() -> None:
    scores = POPE()(answers(("no", "yes"), ("no", "no")))
    assert (scores["precision"], scores["recall"], scores["f1"], scores["yes_ratio"]) == (0, 0, 0, 0)


def test_each_score_but_the_count_has_a_meaning() -> None:
    scores = POPE()(answers(("yes", "yes")))
    assert set(scores) - {"count"} <= set(POPE.meanings)  # those of its three parts, where there are any, beside them
    assert POPE.headline in scores


def test_errors() -> None:
    with pytest.raises(DataError, match=r"a:0: truth.texts: expected yes or no, found list \"\['maybe'\]\""):
        POPE()(answers(("yes", "maybe")))


def in_categories(**pairs: list[tuple[str, str]]) -> list[Prediction]:
    every = [(category, one) for category, several in pairs.items() for one in several]
    given = answers(*(one for _, one in every))
    return [replace(one, group={"category": category}) for one, (category, _) in zip(given, every, strict=True)]


def test_pope_gives_each_category_and_the_means() -> None:
    given = in_categories(
        random=[("yes", "yes"), ("no", "no")],
        popular=[("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "no")],
        adversarial=[("yes", "no"), ("no", "yes")],
    )
    scores = POPE()(given)
    assert scores["accuracy"] == pytest.approx(5 / 8)
    assert {
        name: value for name, value in scores.items() if "_" in name and name not in ("yes_ratio", "failure_none")
    } == {
        "accuracy_random": 1,
        "accuracy_popular": 0.75,
        "accuracy_adversarial": 0,
        "mean_accuracy": pytest.approx(1.75 / 3),
        "f1_random": 1,
        "f1_popular": pytest.approx(2 / 3),
        "f1_adversarial": 0,
        "mean_f1": pytest.approx((1 + 2 / 3) / 3),
    }
    assert set(scores) - {"count"} <= set(POPE.meanings)


def test_pope_gives_means_of_two_categories() -> None:
    scores = POPE()(in_categories(random=[("yes", "yes")], popular=[("yes", "no")]))
    assert (scores["mean_accuracy"], scores["mean_f1"]) == (0.5, 0.5)


def test_parts_are_the_categories_of_the_benchmark() -> None:
    given = in_categories(random=[("yes", "yes")], other=[("yes", "yes")])
    assert [POPE().parts_of(each) for each in given] == [{"category": ["random"]}, {}]


def test_the_headline_follows_from_tallies() -> None:
    given = answers(("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no"))
    assert [POPE().value(each) for each in given] == [1, 0, 0, 1]
    assert [POPE().tally(each) for each in given] == [(1, 2), (0, 1), (0, 1), (0, 0)]
    assert POPE().headline_of(np.array([[1.0, 4.0], [0.0, 0.0]])).tolist() == [0.5, 0]


@pytest.mark.parametrize(("reading", "depth"), [("public", "public"), ("words", "short_answer")])
def test_each_reading_has_its_depth(reading: str, depth: str) -> None:
    assert METRICS.make({"type": "POPE", "reading": reading}).depth == depth


def test_pope_gives_no_means_of_one_category() -> None:
    assert "mean_f1" not in POPE()(in_categories(random=[("yes", "yes"), ("no", "no")]))
    assert "mean_f1" not in POPE()(answers(("yes", "yes")))
