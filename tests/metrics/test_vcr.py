from __future__ import annotations

from dataclasses import replace

import pytest

from mllm.errors import DataError
from mllm.metrics.base import read_by
from mllm.metrics.vcr import VCRAccuracy
from mllm.types import GroundTruth, Prediction

TRUTH = GroundTruth(texts=("B",), options=("he", "she", "it", "they"))


def asked(*questions: tuple[str, str]) -> list[Prediction]:
    """Two predictions for each pair of answer and reason, all answers first; B is right."""
    found: list[Prediction] = []
    for place, task in enumerate(("answer", "reason")):
        for number, texts in enumerate(questions):
            group = {"task": task}
            known = Prediction(key=f"v.jsonl:{number}", index=len(found), text=texts[place], truth=TRUTH, group=group)
            found.append(known)
    return found


def test_vcr_counts_a_question_where_answer_and_reason_are_right() -> None:
    scores = VCRAccuracy()(asked(("B", "B"), ("B", "A"), ("C", "(B) she"), ("?", "E")))
    assert scores == {
        "q_ar": 0.25,
        "q_a": 0.5,
        "qa_r": 0.5,
        "count": 8,
        "failure_none": 1,
        "failure_out_of_range": 1,
        "chance": 1 / 16,
    }
    assert set(scores) - {"count"} == set(VCRAccuracy.meanings) - {"accuracy"}
    assert VCRAccuracy.headline in scores


def test_vcr_reads_options_as_it_is_told() -> None:
    answers = asked(("she", "B"))
    assert VCRAccuracy()(answers)["q_ar"] == 1.0
    assert VCRAccuracy(reading="llava")(answers)["q_ar"] == 0.0
    assert read_by(VCRAccuracy(reading="llava"), answers[0]) == ("llava",)


def test_vcr_of_one_task_has_no_joint_score() -> None:
    answers = asked(("B", "B"), ("A", "B"))[:2]
    assert VCRAccuracy()(answers) == {
        "q_a": 0.5,
        "count": 2,
        "failure_none": 0,
        "failure_out_of_range": 0,
        "chance": 0.25,
    }


def test_vcr_refuses_what_is_not_asked_once_for_each() -> None:
    answers = asked(("B", "B"), ("B", "B"))
    with pytest.raises(DataError, match=r"v.jsonl:1: expected a question for the .* only one for the answer"):
        VCRAccuracy()(answers[:3])
    twice = [*answers, replace(answers[0], index=4)]
    with pytest.raises(DataError, match=r"v.jsonl:0: expected the answer to be asked for once, found twice"):
        VCRAccuracy()(twice)
    with pytest.raises(DataError, match=r"v.jsonl:0: group.task: expected one of answer, reason"):
        VCRAccuracy()([replace(answers[0], group={})])
