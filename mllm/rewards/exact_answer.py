"""A short answer in words, right or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mllm.metrics.text import is_exact_match
from mllm.metrics.vqa import AnswerAccuracy
from mllm.registry import REWARDS
from mllm.rewards.base import in_words
from mllm.types import Prediction


@REWARDS.register_module()
@dataclass(frozen=True, slots=True, kw_only=True)
class ExactAnswer:
    """1 where the answer is one of the references, else 0; it does not apply to items without a text, nor to
    those whose text holds regions.

    Attributes:
        rule: "text": equal apart from case and a final full stop. "vqa" and "gqa": as of the metric `AnswerAccuracy`.
    """

    rule: Literal["text", "vqa", "gqa"] = "text"

    def __call__(self, prediction: Prediction) -> float | None:
        if not in_words(prediction):
            return None
        if self.rule == "text":
            return float(is_exact_match(prediction))
        return AnswerAccuracy(rule=self.rule).value(prediction)
