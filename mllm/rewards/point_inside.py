"""Points, or the centres of boxes, in a box or on the pixels of a mask."""

from __future__ import annotations

from dataclasses import dataclass

from mllm.metrics.point_in import PointIn, Rule
from mllm.registry import REWARDS
from mllm.types import Prediction


@REWARDS.register_module()
@dataclass(frozen=True, slots=True, kw_only=True)
class PointInside:
    """1 where the answer points into the region, else 0; with rule "match" the F1 of the points.

    The region is the masks of the truth, or its candidates, or its boxes; what `rule` and `box_centre` mean is said at
    the metric `PointIn`. It does not apply to items without a region.
    """

    rule: Rule = "first"
    box_centre: bool = True

    def __call__(self, prediction: Prediction) -> float | None:
        truth = prediction.truth
        if not (truth.masks or truth.candidates or truth.boxes or truth.no_target):
            return None
        return PointIn(rule=self.rule, box_centre=self.box_centre).value(prediction)
