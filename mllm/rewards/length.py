"""How long an answer is."""

from __future__ import annotations

from dataclasses import dataclass

from mllm.fields import PositiveInt
from mllm.registry import REWARDS
from mllm.types import Prediction


@REWARDS.register_module()
@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """0 up to `most` words, falling in a line to -1 at `over` words more, and -1 from there on.

    Source: the soft punishment of overlong answers in Yu et al. 2025 (DAPO, arXiv 2503.14476), here in words.
    """

    most: PositiveInt
    over: PositiveInt

    def __call__(self, prediction: Prediction) -> float:
        beyond = len(prediction.text.split()) - self.most
        return -min(max(beyond / self.over, 0.0), 1.0)
