"""Time spans: how much of a moment in a video an answer covers, and how little else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum

from mllm.errors import DataError
from mllm.metrics.base import MeanHeadline, sort_by_index
from mllm.metrics.failures import list_failures, says_nothing_is_there
from mllm.registry import METRICS
from mllm.time_spans import temporal_iou
from mllm.types import Prediction

THRESHOLDS = (0.3, 0.5, 0.7)


@METRICS.register_module()
class TemporalIoU(MeanHeadline):
    """Temporal IoU of time spans, as in Charades-STA and ActivityNet Captions.

    Several spans, of an answer or of a truth, count as their union: their number is no failure.

    Scores:
        R1@0.3, R1@0.5, R1@0.7: share of ALL predictions, readable or not, whose temporal IoU is at least the threshold
            (the public code of both benchmarks counts `>=`).
        mean_tiou: over all predictions, 0 where there is no span.
        count: predictions scored.
        several: answers with more than one span.
        no_target_acc, no_target_count: where some items have no such moment, the share answered without a span, which
            is the right answer there and has a temporal IoU of 1.
        failure_none, failure_malformed, ...: see `mllm.metrics.failures`.

    Source: Gao et al. 2017 (TALL, arXiv 1705.02101), section 4.1, and its code, which counts `iou >= threshold`;
    Krishna et al. 2017 (ActivityNet Captions, arXiv 1705.00754).
    """

    headline = "R1@0.5"
    meanings: Mapping[str, str] = {
        **{f"R1@{threshold}": f"share of all answers with temporal IoU >= {threshold}" for threshold in THRESHOLDS},
        "mean_tiou": "mean temporal IoU over all answers, 0 where there is no span",
        "several": "answers with more than one time span",
        "no_target_acc": "share of the items without such a moment that were answered without a span",
        "no_target_count": "items without such a moment",
        "failure_none": "no time span in the answer",
        "failure_malformed": "a time, but no span that can be read, or an answer that was cut off while thinking",
        "failure_out_of_range": "a span that begins behind the end of the video",
        "failure_inverted": "a span that ends before it begins",
    }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth that does not speak of time spans.
        """
        predictions = sort_by_index(predictions)
        ious = [temporal_iou_of(prediction) for prediction in predictions]
        count = len(ious)
        scores: dict[str, float] = {f"R1@{least}": sum(iou >= least for iou in ious) / count for least in THRESHOLDS}
        scores["mean_tiou"] = fsum(ious) / count
        scores["count"] = count
        scores["several"] = sum(len(prediction.time_spans) > 1 for prediction in predictions)
        absent = [iou for iou, prediction in zip(ious, predictions, strict=True) if prediction.truth.no_target]
        if absent:
            scores["no_target_acc"] = sum(absent) / len(absent)
            scores["no_target_count"] = len(absent)
        return {**scores, **list_failures(predictions)}

    def value(self, prediction: Prediction) -> float:
        return float(temporal_iou_of(prediction) >= 0.5)


def temporal_iou_of(prediction: Prediction) -> float:
    """Temporal IoU of an answer's spans and the true ones. Where there is no such moment: 1 without a span, else 0.

    Raises:
        DataError: the truth speaks of no time span.
    """
    truth = prediction.truth
    if truth.no_target:
        return float(says_nothing_is_there(prediction))
    if not truth.time_spans:
        expected = "time spans, or an empty list where there is no such moment"
        raise DataError(where=prediction.key, field="truth.spans", expected=expected, found="nothing")
    return temporal_iou(prediction.time_spans, truth.time_spans)
