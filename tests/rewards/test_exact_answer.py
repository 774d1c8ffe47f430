from __future__ import annotations

from mllm.rewards.exact_answer import ExactAnswer
from tests.rewards.answers import answered, box, said, truth


def test_an_answer_equals_a_reference_by_each_rule() -> None:
    assert ExactAnswer()(said("<think>hm</think> Red.", "red")) == 1.0
    assert ExactAnswer()(said("the red", "red")) == 0.0
    assert ExactAnswer(rule="vqa")(said("the red", "red")) == 1.0
    assert ExactAnswer(rule="gqa")(said("Red..", "red")) == 1.0
    assert ExactAnswer(rule="gqa")(said("the red", "red")) == 0.0
    assert ExactAnswer()(said("[1, 2, 3, 4]", "<boxes>")) is None
    assert ExactAnswer()(answered("[1, 2, 3, 4]", truth(box(1, 2, 3, 4)))) is None
