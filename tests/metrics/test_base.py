"""The headline of every metric of regions follows from what it tells of each answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mllm.errors import DataError
from mllm.metrics.base import (
    MeanHeadline,
    Metric,
    Tallied,
    read_by,
    require_references,
    require_texts,
    sort_by_index,
    split_by_group,
)
from mllm.metrics.boxes_f1 import BoxesF1
from mllm.metrics.breakdown import breakdown
from mllm.metrics.choice import ChoiceAccuracy
from mllm.metrics.counting import Counting
from mllm.metrics.density_f1 import DensityF1
from mllm.metrics.detection import Detection
from mllm.metrics.grec import GREC
from mllm.metrics.phrase_grounding import PhraseGrounding
from mllm.metrics.point_in import PointIn
from mllm.metrics.pope import POPE
from mllm.metrics.rec import REC
from mllm.metrics.ref_l4 import RefL4
from mllm.metrics.text import ExactMatch
from mllm.metrics.vqa import AnswerAccuracy, VQAAccuracy
from mllm.types import Box, GroundTruth, Prediction
from tests.metrics.official_boxes import stored_answers

ANSWERS = stored_answers("domain")
AIMED = [one for one in ANSWERS if one.truth.boxes]
ONE_BOX = [replace(one, truth=replace(one.truth, boxes=one.truth.boxes[:1])) for one in AIMED]
CASES = [
    (BoxesF1(), ANSWERS),
    (GREC(), ANSWERS),
    (DensityF1(), ANSWERS),
    (PhraseGrounding(group=None), AIMED),
    (RefL4(group=None), ONE_BOX),
    (PointIn(rule="all"), ANSWERS),
    (Counting(reading="regions"), ANSWERS),
]


@pytest.mark.parametrize(("metric", "answers"), CASES, ids=[type(metric).__name__ for metric, _ in CASES])
def test_headline_follows_from_tallies(metric: Metric, answers: list[Prediction]) -> None:
    assert isinstance(metric, Tallied)
    totals = np.array([metric.tally(one) for one in answers]).sum(axis=0)
    assert float(metric.headline_of(totals)) == pytest.approx(metric(answers)[metric.headline])
    assert all(0 <= metric.value(one) <= 1 for one in answers)


def test_breakdown_leaves_out_parts_that_the_headline_is_not_of() -> None:
    names = [str(one.index) for one in ANSWERS]
    for metric in (DensityF1(group=None), Detection()):
        values = [part.value for part in breakdown(metric, ANSWERS, names)["domain"]]
        assert values == ["attribute", "position", "reasoning"]  # not "rejection"


@pytest.mark.parametrize(
    ("metric", "text", "rules"),
    [
        (None, "[0, 0, 1, 1]", ("marked",)),
        (REC(), "[0, 0, 1, 1]", ("marked",)),
        (REC(reading="internvl"), "[0, 0, 1, 1]", ("internvl",)),
        (Counting(reading="regions"), "one", ("marked",)),
        (Counting(), "one", ("text",)),
        (Counting(), "The answer is **one**.", ("emphasis", "the_answer_is")),
        (ExactMatch(), "The answer is one.", ("wrapping",)),
        (POPE(), "no", ("public",)),
        (POPE(reading="words"), "no", ("text",)),
        (VQAAccuracy(reading="text"), "no", ("text",)),
        (AnswerAccuracy(rule="gqa"), "no", ("gqa",)),
        (ChoiceAccuracy(reading="llava"), "A", ("llava",)),
        (ChoiceAccuracy(), " ", ()),
    ],
)
def test_read_by_names_the_rules_that_a_metric_reads_an_answer_by(
    metric: Metric | None, text: str, rules: tuple[str, ...]
) -> None:
    box = Box(x1=0, y1=0, x2=1, y2=1)
    answer = Prediction(key="a", index=0, text=text, truth=GroundTruth(boxes=(box,)), read_by=("marked",))
    assert read_by(metric, answer) == rules


def test_read_by_of_ranked_candidates_is_their_ranking() -> None:
    ranked = Prediction(key="a", index=0, text="yes", candidate_scores={"yes": -1.0}, truth=GroundTruth(texts=("yes",)))
    assert read_by(ExactMatch(), ranked) == ("ranking",)


def test_read_by_takes_the_steps_of_words_where_no_region_was_asked_for() -> None:
    answer = Prediction(key="a", index=0, text="<think>?</think>red", truth=GroundTruth(texts=("red",)))
    assert read_by(None, answer) == ("thinking",)


def said(index: int, *texts: str, **group: str) -> Prediction:
    return Prediction(key=f"a:{index}", index=index, text="", truth=GroundTruth(texts=texts), group=group)


def test_by_index_sorts_answers_to_different_items() -> None:
    first, second = said(0), said(1)
    assert sort_by_index([second, first]) == [first, second]
    with pytest.raises(DataError, match=r"^expected predictions to score, found none"):
        sort_by_index([])
    with pytest.raises(DataError, match=r"a:1: expected one prediction for item 1, found two"):
        sort_by_index([second, first, second])


def test_by_group_collects_answers_in_the_order_of_the_alphabet() -> None:
    given = [said(0, kind="dog"), said(1, kind="cat"), said(2, kind="dog")]
    assert list(split_by_group(given, "kind").items()) == [("cat", [given[1]]), ("dog", [given[0], given[2]])]
    with pytest.raises(DataError, match=r"a:3: group: expected a value for 'kind'") as caught:
        split_by_group([said(3)], "kind")
    assert caught.value.kind == "missing-field"


def test_with_texts_wants_a_text_of_each_truth() -> None:
    given = [said(1, "a"), said(0, " ")]
    assert require_texts(given) == given[::-1]
    with pytest.raises(DataError, match=r"a:2: truth\.texts: expected at least one text, found nothing"):
        require_texts([*given, said(2)])


@pytest.mark.parametrize("texts", [(), ("a", " ")])
def test_with_references_wants_texts_that_are_not_blank(texts: tuple[str, ...]) -> None:
    given = [said(1, "a", "b"), said(0, "a")]
    assert require_references(given) == given[::-1]
    with pytest.raises(DataError, match=r"a:2: truth\.texts: expected at least one reference, none of them blank"):
        require_references([*given, said(2, *texts)])


def test_a_mean_headline_needs_a_value() -> None:
    with pytest.raises(NotImplementedError, match=r"MeanHeadline has no value\(\)"):
        MeanHeadline().tally(said(0))
