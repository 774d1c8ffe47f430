"""Time spans against those that were asked for."""

from __future__ import annotations

from dataclasses import dataclass

from mllm.metrics.temporal_iou import temporal_iou_of
from mllm.registry import REWARDS
from mllm.types import Prediction


@REWARDS.register_module()
@dataclass(frozen=True, slots=True, kw_only=True)
class SpanIoU:
    """Temporal IoU of the answer's time spans and the true ones, in [0, 1]; several count as their union.

    An answer without a span that can be read gets 0. Where there is no such moment, an answer without a region gets 1,
    any other 0. It does not apply to items whose truth speaks of no time span.
    """

    def __call__(self, prediction: Prediction) -> float | None:
        truth = prediction.truth
        return temporal_iou_of(prediction) if truth.time_spans or truth.no_target else None
