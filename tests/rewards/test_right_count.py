from __future__ import annotations

import pytest

from mllm.rewards.right_count import RightCount
from mllm.types import GroundTruth
from tests.rewards.answers import answered, box, said, truth


@pytest.mark.parametrize(
    ("text", "value"), [("[1, 2, 30, 40] [5, 6, 70, 80]", 1.0), ("[1, 2, 30, 40]", 0.0), ("two", 0.0)]
)
def test_regions_are_counted(text: str, value: float) -> None:
    assert RightCount()(answered(text, truth(box(1, 2, 3, 4), box(5, 6, 7, 8)))) == value


def test_numbers_are_read() -> None:
    assert RightCount(reading="last")(said("I see 2, no: three.", "3")) == 1.0
    assert RightCount(reading="last")(said("3.5", "3")) == 0.0
    assert RightCount(reading="last")(answered("none", GroundTruth(no_target=True))) == 1.0
    assert RightCount()(answered("", GroundTruth())) is None
    assert RightCount(reading="last")(said("3", "a dog")) is None
