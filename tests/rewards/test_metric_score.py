from __future__ import annotations

import pytest

from mllm.errors import ConfigError
from mllm.registry import REWARDS
from tests.rewards.answers import answered, box, truth


def test_it_is_what_the_predictions_file_says_of_an_answer() -> None:
    give = REWARDS.make({"type": "MetricScore", "metric": {"type": "BoxesF1"}})
    given = answered('[{"bbox_2d": [0, 0, 9, 9]}, {"bbox_2d": [20, 20, 30, 30]}]', truth(box(0, 0, 9, 9)))
    assert give(given) == pytest.approx(2 / 3)


def test_a_metric_of_all_answers_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="metric: expected a metric that scores each answer by itself, found"):
        REWARDS.make({"type": "MetricScore", "metric": "Captions"})
