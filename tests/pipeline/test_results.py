from __future__ import annotations

from typing import Any

import pytest

from mllm.metrics.outcome import Outcome, as_record
from mllm.metrics.phrase_grounding import PhraseGrounding
from mllm.metrics.rec import REC
from mllm.metrics.text import ExactMatch
from mllm.report.summary import joint_summary, summary
from mllm.types import Box, GroundTruth, Prediction

BOX = Box(x1=0, y1=0, x2=10, y2=10)


def answer(*boxes: Box, truth: GroundTruth, **found: Any) -> Prediction:
    return Prediction(key="a:1", index=0, text="hm", boxes=boxes, truth=truth, **found)


@pytest.mark.parametrize(
    ("prediction", "fields"),
    [
        (
            answer(BOX, truth=GroundTruth(boxes=(BOX,))),
            {"pred": [BOX.xyxy], "target": [BOX.xyxy], "failure": None, "iou": 1},
        ),
        (answer(truth=GroundTruth(boxes=(BOX,))), {"pred": [], "failure": "none", "iou": 0}),
        (answer(BOX, BOX, truth=GroundTruth(boxes=(BOX,))), {"failure": "wrong_count", "iou": 0}),
        (answer(failure="malformed", truth=GroundTruth(boxes=(BOX,))), {"failure": "malformed", "iou": 0}),
        (answer(BOX, clipped=1, truth=GroundTruth(boxes=(BOX,))), {"clipped": 1, "iou": 1}),
        # nothing to point at
        (
            answer(truth=GroundTruth(no_target=True, texts=("x",))),
            {"pred": [], "target": [], "failure": None, "iou": 1},
        ),
        (answer(BOX, truth=GroundTruth(no_target=True)), {"target": [], "failure": "wrong_count", "iou": 0}),
        # nothing was asked for: what looks like a region in words is no failure
        (answer(failure="malformed", truth=GroundTruth(texts=("x",))), {"target": ["x"], "failure": None}),
    ],
)
def test_as_record_judges_an_answer_by_its_truth(prediction: Prediction, fields: dict[str, Any]) -> None:
    record = as_record(prediction, image="a.jpg", metric=None)
    assert {name: record[name] for name in fields} == fields
    assert ("clipped" in record) == bool(prediction.clipped)
    assert ("iou" in record) == ("iou" in fields)


def test_joint_summary_has_a_line_for_each_test_set() -> None:
    scores = {
        **{"test_acc@0.5": 0.25, "test_constant_box_acc@0.5": 0.125, "test_count": 4.0, "test_failure_none": 2},
        **{"test_failure_malformed": 1, "test_runtime": 1.5},
        **{"multitest_words_exact_match": 1.0, "multitest_words_count": 12, "multitest_plain_loss": 2.5},
    }
    metrics = {"test": REC(), "multitest_words": ExactMatch(), "multitest_plain": None}
    lines = joint_summary(scores, metrics).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["test", "acc@0.5", "0.2500", "0.1250", "4", "3"],
        ["multitest_words", "exact_match", "1.0000", "12", "0"],
        ["multitest_plain", "loss", "2.5000"],
    ]


def test_summary_prints_counts_whole_and_says_what_was_not_read() -> None:
    said = summary("eval", Outcome(scores={"count": 2.0, "acc@0.5": 1.0, "failure_none": 2}), REC(), None)
    assert [line.split()[:2] for line in said.splitlines()[1:3]] == [["acc@0.5", "1.0000"], ["count", "2"]]
    assert "nothing to read" in said
    assert "failure_none" not in said


def test_summary_shows_shares_of_groups_as_shares() -> None:
    scores = {"recall@1": 0.5, "recall@1/people": 1.0, "phrases/people": 3}
    lines = summary("eval", Outcome(scores=scores), PhraseGrounding(), None).splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["recall@1/people", "1.0000"], ["phrases/people", "3"]]
