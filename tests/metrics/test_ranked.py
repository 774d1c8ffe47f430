from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from mllm.errors import DataError
from mllm.metrics.choice import ChoiceAccuracy
from mllm.metrics.outcome import outcome
from mllm.metrics.ranked import RankedAccuracy, RocAuc
from mllm.types import GroundTruth, Prediction


def answer(index: int, scores: Mapping[str, float], truth: str) -> Prediction:
    best_first = dict(sorted(scores.items(), key=lambda pair: -pair[1]))
    text = next(iter(best_first), "")
    known = GroundTruth(texts=(truth,))
    return Prediction(key=f"a:{index}", index=index, text=text, truth=known, candidate_scores=best_first)


def yes(index: int, share: float, truth: str) -> Prediction:
    return answer(index, {"yes": math.log(share), "no": math.log(1 - share)}, truth)


def test_top_one_and_top_five() -> None:
    names = dict(zip("abcdefg", range(7), strict=True))
    scores = RankedAccuracy()([answer(0, names, "g"), answer(1, names, "c"), answer(2, names, "b")])
    assert scores == {"top1": pytest.approx(1 / 3), "top5": pytest.approx(2 / 3), "count": 3}


def test_the_value_is_whether_the_most_likely_candidate_is_right() -> None:
    names = {"a": -1.0, "b": -2.0, "c": -3.0}
    assert [RankedAccuracy().value(answer(0, names, truth)) for truth in "abc"] == [1, 0, 0]


def test_the_score_of_several_candidates_is_the_log_odds_of_one() -> None:
    """Of one in two, and of one in three: the first is the likelier, whatever the best of the others."""
    half = answer(0, dict(yes=math.log(0.5), no=math.log(0.25), maybe=math.log(0.25)), "yes")
    third = answer(1, dict(yes=math.log(0.34), no=math.log(0.6), maybe=math.log(0.06)), "no")
    assert RocAuc()([half, third])["roc_auc"] == 1
    assert RocAuc()([replace(half, truth=third.truth), replace(third, truth=half.truth)])["roc_auc"] == 0
    close = answer(1, dict(yes=math.log(0.4), no=math.log(0.31), maybe=math.log(0.29)), "yes")
    alone = answer(0, dict(yes=math.log(0.39), no=math.log(0.61)), "no")
    assert RocAuc()([alone, close])["roc_auc"] == 1
    likelier = answer(0, dict(yes=math.log(0.45), no=math.log(0.55)), "yes")
    of_three = answer(1, dict(yes=math.log(0.4), no=math.log(0.3), maybe=math.log(0.3)), "no")
    assert RocAuc()([likelier, of_three])["roc_auc"] == 1


def test_area_is_the_share_of_pairs_in_order_and_ties_count_half() -> None:
    """By hand: of (.9, .5, .2) against (.5, .1) the pairs are 1 1, .5 1, 0 1."""
    likely = [(0.9, "yes"), (0.5, "yes"), (0.2, "yes"), (0.5, "no"), (0.1, "no")]
    scores = RocAuc()([yes(index, share, truth) for index, (share, truth) in enumerate(likely)])
    assert scores == {"roc_auc": pytest.approx(4.5 / 6), "accuracy": pytest.approx(3 / 5), "positives": 3, "count": 5}


def test_area_of_many_is_that_of_all_pairs() -> None:
    rng = random.Random(0)
    found = [(rng.randrange(1, 20) / 20, rng.choice(["yes", "no"])) for _ in range(200)]
    pairs = [(a, b) for a, truth in found if truth == "yes" for b, other in found if other == "no"]
    expected = sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)
    predictions = [yes(index, share, truth) for index, (share, truth) in enumerate(found)]
    assert RocAuc()(predictions)["roc_auc"] == pytest.approx(expected)
    known = outcome(RocAuc(), predictions, [str(index) for index in range(200)])
    assert known.interval is not None
    assert known.interval.low < expected < known.interval.high
    error = math.sqrt(1 / 12 * (1 / 100 + 1 / 100))  # of an area of one half with 100 items of each class
    assert known.interval.high - known.interval.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_probabilities_near_one_are_told_apart() -> None:
    predictions = [answer(0, {"yes": -1e-9, "no": -50.0}, "yes"), answer(1, {"yes": -1e-9, "no": -45.0}, "no")]
    assert RocAuc()(predictions)["roc_auc"] == 1


def test_items_of_one_class_have_no_area() -> None:
    assert "roc_auc" not in RocAuc()([yes(0, 0.5, "yes")])
    known = outcome(RocAuc(), [yes(0, 0.5, "yes"), yes(1, 0.6, "yes")], ["a", "b"])
    assert known.interval is None


def test_errors() -> None:
    generated = Prediction(key="a:0", index=0, text="yes", truth=GroundTruth(texts=("yes",)))
    for metric in (RocAuc(), RankedAccuracy()):
        with pytest.raises(DataError, match=r"a:0: candidate_scores: .*data_args.ranking"):
            metric([generated])
    with pytest.raises(DataError, match=r"a:0: candidate_scores: expected 'maybe' and another, found"):
        RocAuc(positive="maybe")([yes(0, 0.5, "yes")])


def test_each_score_but_the_count_has_a_meaning() -> None:
    for metric in (RocAuc(), RankedAccuracy()):
        scores = metric([yes(0, 0.4, "yes"), yes(1, 0.6, "no")])
        assert set(scores) - {"count"} == set(metric.meanings)
        assert metric.headline in scores


def test_a_ranked_option_is_taken_as_it_stands() -> None:
    """Among options that are letters, or say more, an answer in words would be read otherwise."""
    options = ("A", "not B", "the answer is A")
    truth = GroundTruth(texts=("C",), options=options)
    scores: dict[str, float] = dict.fromkeys(options, -1.0)
    told = Prediction(key="a:0", index=0, text=options[2], truth=truth)
    assert ChoiceAccuracy()([told])["accuracy"] == 0
    ranked = Prediction(key="a:0", index=0, text=options[2], truth=truth, candidate_scores=scores)
    assert ChoiceAccuracy()([ranked])["accuracy"] == 1
    assert ChoiceAccuracy().value(ranked) == 1
