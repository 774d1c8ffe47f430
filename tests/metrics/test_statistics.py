from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mllm.metrics.base import Tallied
from mllm.metrics.pope import POPE
from mllm.metrics.ranked import RocAuc
from mllm.metrics.rec import REC
from mllm.metrics.statistics import Interval, compare_values, interval
from mllm.types import Box, GroundTruth, Prediction

TRUTH = Box(x1=0, y1=0, x2=100, y2=10)


def located(right: Sequence[bool]) -> list[Prediction]:
    """Answers that are right or wrong."""
    return [
        Prediction(
            key=f"a:{index}",
            index=index,
            text="",
            boxes=(TRUTH if hit else Box(x1=0, y1=0, x2=10, y2=10),),
            truth=GroundTruth(boxes=(TRUTH,)),
        )
        for index, hit in enumerate(right)
    ]


def yes_no(answers: Sequence[tuple[str, str]]) -> list[Prediction]:
    return [
        Prediction(key=f"a:{index}", index=index, text=text, truth=GroundTruth(texts=(truth,)))
        for index, (text, truth) in enumerate(answers)
    ]


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_interval_of_independent_answers_is_the_binomial_one() -> None:
    found = interval(REC(), located([True] * 600 + [False] * 400), names(1000))
    assert found is not None
    half = 1.96 * math.sqrt(0.6 * 0.4 / 1000)
    assert found.low == pytest.approx(0.6 - half, abs=0.003)
    assert found.high == pytest.approx(0.6 + half, abs=0.003)


def test_interval_of_answers_about_the_same_images_is_as_wide_as_that_of_the_images() -> None:
    """Ten equal answers about each of 100 images say no more than one about each."""
    right = [number % 5 != 0 for number in range(100) for _ in range(10)]
    images = [str(number) for number in range(100) for _ in range(10)]
    clustered = interval(REC(), located(right), images)
    single = interval(REC(), located(right[::10]), names(100))
    assert clustered == single
    independent = interval(REC(), located(right), names(1000))
    assert clustered is not None
    assert independent is not None
    assert clustered.high - clustered.low > 2.5 * (independent.high - independent.low)


def test_interval_of_answers_that_are_all_wrong_or_all_right_is_the_exact_binomial_one() -> None:
    wrong, right = (interval(REC(), located([hit] * 10), names(10)) for hit in (False, True))
    assert wrong is not None
    assert right is not None
    # Clopper and Pearson of 0 in 10: 1 - 0.025 ** (1 / 10)
    assert (wrong.low, wrong.high) == (0.0, pytest.approx(0.3085, abs=1e-4))
    assert (right.low, right.high) == (pytest.approx(0.6915, abs=1e-4), 1.0)


def test_interval_does_not_depend_on_the_order_of_the_answers() -> None:
    predictions = located([True, False, True, True, False, True])
    images = ["a", "a", "b", "c", "c", "d"]
    order = [3, 1, 5, 0, 4, 2]
    shuffled = interval(REC(), [predictions[place] for place in order], [images[place] for place in order])
    assert interval(REC(), predictions, images) == shuffled


def test_interval_of_one_image_is_unknown() -> None:
    assert interval(REC(), located([True, False]), ["a", "a"]) is None


def test_two_images_have_an_interval() -> None:
    assert interval(REC(), located([True, False]), ["a", "b"]) == Interval(low=0.0, high=1.0)
    assert compare_values([1.0, 0.0], [1.0, 1.0], ["a", "b"]).images == 2


def test_draws_in_parts_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, images = located([True, False, True, True, False]), names(5)
    at_once = interval(REC(), predictions, images)
    monkeypatch.setattr("mllm.metrics.statistics.AT_ONCE", 15)  # three draws of five images
    assert interval(REC(), predictions, images) == at_once


def ranked(*likely: tuple[float, str]) -> list[Prediction]:
    """Answers whose candidates are yes and no, by the share of yes and the truth."""
    return [
        replace(one, candidate_scores={"yes": math.log(share), "no": math.log(1 - share)})
        for one, (share, _) in zip(yes_no([("yes", truth) for _, truth in likely]), likely, strict=True)
    ]


def test_interval_of_an_area_leaves_out_draws_of_one_class() -> None:
    """Of two images, half of the draws have one of each; what they say is in order, or not."""
    for likely, area in ((((0.9, "yes"), (0.1, "no")), 1), (((0.1, "yes"), (0.9, "no")), 0)):
        found = interval(RocAuc(), ranked(*likely), ["a", "b"])
        assert found == Interval(low=area, high=area)
    assert interval(RocAuc(), ranked((0.9, "yes"), (0.1, "no")), ["a", "a"]) is None
    assert interval(RocAuc(), ranked((0.9, "yes"), (0.1, "yes")), ["a", "b"]) is None


@pytest.mark.parametrize(
    "answers", [[("yes", "yes"), ("no", "yes"), ("yes", "no"), ("no", "no")] * 25, [("no", "no")] * 10]
)
def test_the_tallies_of_pope_add_up_to_its_headline(answers: list[tuple[str, str]]) -> None:
    metric, predictions = POPE(), yes_no(answers)
    assert isinstance(metric, Tallied)
    totals = np.array([metric.tally(prediction) for prediction in predictions]).sum(axis=0)
    assert float(metric.headline_of(totals)) == pytest.approx(metric(predictions)["f1"])
    found = interval(metric, predictions, names(len(predictions)))
    assert found is not None
    assert 0 <= found.low <= metric(predictions)["f1"] <= found.high <= 1


def test_compare_counts_the_answers_that_only_one_gives() -> None:
    a = [1.0] * 60 + [0.0] * 40
    b = [1.0] * 55 + [0.0] * 5 + [1.0] * 20 + [0.0] * 20
    found = compare_values(a, b, names(100))
    assert (found.a, found.b, found.count, found.images) == (0.6, 0.75, 100, 100)
    assert found.difference == pytest.approx(0.15)
    assert (found.only_a, found.only_b) == (5, 20)
    # the exact binomial test of 5 in 25: 2 * sum(C(25, k), k <= 5) / 2**25
    assert found.p == pytest.approx(2 * sum(math.comb(25, k) for k in range(6)) / 2**25)
    half = 1.96 * math.sqrt((25 - 100 * 0.15**2) / 100 / 100)
    assert found.interval.low == pytest.approx(0.15 - half, abs=0.01)
    assert found.interval.high == pytest.approx(0.15 + half, abs=0.01)
    assert found.is_significant
    assert found.detectable == pytest.approx(half / 1.96 * (1.95996 + 0.84162), rel=0.05)


def test_compare_finds_nothing_between_a_model_and_itself() -> None:
    values = [float(number % 3 == 0) for number in range(30)]
    found = compare_values(values, values, names(30))
    assert (found.difference, found.p, found.is_significant, found.count_needed) == (0.0, 1.0, False, None)


def test_compare_leaves_mcnemar_out_of_values_between_right_and_wrong() -> None:
    found = compare_values([0.3, 1.0, 0.0, 0.6], [0.6, 1.0, 0.0, 0.9], names(4))
    assert (found.only_a, found.only_b, found.p) == (None, None, None)


def test_compare_tells_how_many_answers_a_small_difference_needs() -> None:
    draw = random.Random(0)
    a = [float(draw.random() < 0.6) for _ in range(500)]
    b = [value if draw.random() < 0.9 else float(draw.random() < 0.7) for value in a]
    found = compare_values(a, b, names(500))
    assert found.count_needed is not None
    # four times as many items show a difference of half the size
    assert found.count_needed == pytest.approx(500 * (found.detectable / found.difference) ** 2, abs=1)


def test_compare_refuses_one_image() -> None:
    with pytest.raises(ValueError, match="one image"):
        compare_values([1.0, 0.0], [0.0, 0.0], ["a", "a"])
