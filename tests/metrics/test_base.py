"""The headline of every metric of regions follows from what it tells of each answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mllm.metrics.base import Metric, Tallied, read_by
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


def test_read_by_takes_the_steps_of_words_where_no_region_was_asked_for() -> None:
    answer = Prediction(key="a", index=0, text="<think>?</think>red", truth=GroundTruth(texts=("red",)))
    assert read_by(None, answer) == ("thinking",)
