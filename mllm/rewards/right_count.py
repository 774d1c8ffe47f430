"""How many things there are."""

from __future__ import annotations

from dataclasses import dataclass

from mllm.metrics.counting import Counting, Reading, known_number
from mllm.registry import REWARDS
from mllm.types import Prediction


@REWARDS.register_module()
@dataclass(frozen=True, slots=True, kw_only=True)
class RightCount:
    """1 where the answer states the right number, or with reading "regions" holds as many regions, else 0.

    `reading`: as of the metric `Counting`. It does not apply where the truth has neither regions nor a number.
    """

    reading: Reading = "regions"

    def __call__(self, prediction: Prediction) -> float | None:
        if known_number(prediction.truth) is None:
            return None
        return Counting(reading=self.reading).value(prediction)
