"""All boxes of an answer against all that there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mllm.fields import Range
from mllm.metrics.boxes_f1 import labelled_overlaps
from mllm.metrics.failures import unreadable_reason
from mllm.metrics.overlaps import assigned, overlaps
from mllm.registry import REWARDS
from mllm.types import Prediction


@REWARDS.register_module()
@dataclass(frozen=True, slots=True, kw_only=True)
class BoxSetF1:
    """F1 of lists of boxes that are matched one to one (Hungarian method), in [0, 1].

    Attributes:
        threshold: a pair with a smaller IoU counts nothing.
        soft: a pair counts its IoU; False: it counts 1.
        labels: a pair needs the same label, where the true box has one.

    Ten copies of a right box are one right box and nine wrong ones. A region that cannot be read counts as one more
    wrong box. Where there is nothing to find, an answer without a region gets 1, any other 0. It does not apply to
    items whose truth does not speak of boxes.
    """

    threshold: Annotated[float, Range(least=0, most=1)] = 0.5
    soft: bool = True
    labels: bool = True

    def __call__(self, prediction: Prediction) -> float | None:
        truth = prediction.truth
        if not truth.boxes and not truth.no_target:
            return None
        unread = unreadable_reason(prediction) not in (None, "none")
        answered = len(prediction.boxes) + len(prediction.points) * truth.no_target + unread
        if not answered and not truth.boxes:
            return 1.0
        values = (labelled_overlaps if self.labels else overlaps)(prediction.boxes, truth.boxes)
        values[values < self.threshold] = 0.0
        pairs = [float(values[pair]) for pair in assigned(values.clip(min=0), maximize=True)]
        matched = sum(pairs) if self.soft else sum(value > 0 for value in pairs)
        return 2 * matched / (answered + len(truth.boxes))
