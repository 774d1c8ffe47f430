from __future__ import annotations

import pytest

from mllm.rewards.length import Length
from tests.rewards.answers import said


@pytest.mark.parametrize(("words", "value"), [(0, 0), (4, 0), (5, -0.5), (6, -1), (60, -1)])
def test_it_falls_in_a_line_behind_the_most(words: int, value: float) -> None:
    assert Length(most=4, over=2)(said("word " * words, "a")) == value
