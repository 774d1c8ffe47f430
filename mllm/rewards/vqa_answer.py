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

    `rule`: as of the metric `VQAAccuracy`. It does not apply to items with the answers of fewer than two annotators,
    nor to those whose text holds regions.
    """

    rule: Rule = "vqa"

    def __call__(self, prediction: Prediction) -> float | None:
        if not in_words(prediction) or len(prediction.truth.texts) < 2:
            return None
        return VQAAccuracy(rule=self.rule).value(prediction)
