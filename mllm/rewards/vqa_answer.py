"""A short answer in words, by the agreement of annotators."""

from __future__ import annotations

from dataclasses import dataclass

from mllm.metrics.vqa import Rule, VQAAccuracy
from mllm.registry import REWARDS
from mllm.rewards.base import in_words
from mllm.types import Prediction


@REWARDS.register_module()
@dataclass(frozen=True, slots=True, kw_only=True)
class VQAAnswer:
    """VQA's soft accuracy, in [0, 1]: how many annotators gave this answer.

    `rule`: as of the metric `VQAAccuracy`. It does not apply to items without a text, nor to those whose text holds
    regions.
    """

    rule: Rule = "vqa"

    def __call__(self, prediction: Prediction) -> float | None:
        return VQAAccuracy(rule=self.rule).value(prediction) if in_words(prediction) else None
