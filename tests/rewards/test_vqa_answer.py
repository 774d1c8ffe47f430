from __future__ import annotations

import pytest

from mllm.rewards.vqa_answer import VQAAnswer
from tests.rewards.answers import answered, box, said, truth


def test_annotators_agree_in_part() -> None:
    """Two of ten: of each annotator's nine others one or two, each third of which counts."""
    texts = ["red"] * 2 + ["blue"] * 8
    assert VQAAnswer()(said("red", *texts)) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    assert VQAAnswer()(said("Blue.", *texts)) == 1.0
    assert VQAAnswer()(said("red", "red")) is None, "one annotator agrees with nobody"
    assert VQAAnswer()(answered("[1, 2, 3, 4]", truth(box(1, 2, 3, 4)))) is None
