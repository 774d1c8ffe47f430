from __future__ import annotations

import pytest

from mllm.metrics.answers import short_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("yes", "yes"),
        ("Yes.", "Yes"),
        ("a dog on the U.S. flag", "a dog on the U.S. flag"),
        ("The answer is yes.", "yes"),
        ("the answer is yes", "yes"),
        ("The answer is yes .", "yes"),
        ("It has rained. So the answer is wet.", "wet"),
        ("Answer: 2 dogs", "2 dogs"),
        ("The answer is: left", "left"),
        ("The answer is no. It does not rain.", "no"),
        ("The answer is yes. The answer is no.", "yes"),
        ("The answer is yes, so the answer is no", "yes"),
        ("The answer is yes\nThe answer is no", "yes"),
        ("The answer is 3.5 metres.", "3.5 metres"),
        ("The answer is Dr. Pepper.", "Dr. Pepper"),
        ("The answer is St. Louis.", "St. Louis"),
        ("The answer is the U.S. flag. It waves.", "the U.S. flag"),
        ("The answer is", ""),
        ("The answer is .", ""),
        ("", ""),
        ("  ", ""),
    ],
)
def test_short_answer(text: str, answer: str) -> None:
    assert short_answer(text) == answer
