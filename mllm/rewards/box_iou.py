"""One box against the one that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mllm.errors import ConfigError
from mllm.fields import Range
from mllm.metrics.failures import failure_of
from mllm.metrics.overlaps import Overlap, overlaps
from mllm.metrics.rec import iou_of, truth_of
from mllm.registry import REWARDS
from mllm.types import Prediction


@REWARDS.register_module()
@dataclass(frozen=True, slots=True, kw_only=True)
class BoxIoU:
    """IoU of the answer's box and the true one, in pixels of the original image.

    Attributes:
        kind: "iou", in [0, 1], or "giou", the generalised IoU in [-1, 1], which tells a near miss from a far one.
        threshold: 1 where the IoU is above it, else 0, in place of the IoU itself.

    An answer that cannot be read, has swapped corners, or holds another number of boxes than one gets the least: 0, of
    "giou" -1. Where there is nothing to find, an answer without a region gets 1, any other the least.
    It does not apply to items whose truth is neither one box nor none.

    Source: Rezatofighi et al. 2019 (arXiv 1902.09630) for the generalised IoU.
    """

    kind: Overlap = "iou"
    threshold: Annotated[float, Range(least=0, below=1)] | None = None

    def __post_init__(self) -> None:
        if self.kind != "iou" and self.threshold is not None:
            raise ConfigError(field="threshold", expected="none beside kind='giou'", found=str(self.threshold))

    def __call__(self, prediction: Prediction) -> float | None:
        truth = prediction.truth
        if len(truth.boxes) != 1 and not truth.no_target:
            return None
        if self.kind == "iou":
            iou = iou_of(prediction)
            return iou if self.threshold is None else float(iou > self.threshold)
        if failure_of(prediction) is not None:
            return -1.0
        box = truth_of(prediction)
        return 1.0 if box is None else float(overlaps(prediction.boxes, [box], "giou")[0, 0])
