"""Pointing: which of the regions that were offered does an answer mean?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mllm.errors import DataError
from mllm.geometry import iou
from mllm.metrics.base import MeanHeadline, sort_by_index
from mllm.metrics.failures import FAILURES, MEANINGS, failure_of
from mllm.registry import METRICS
from mllm.types import Box, Failure, Point, Prediction


@METRICS.register_module()
class PointingAccuracy(MeanHeadline):
    """Share of questions whose box or point picks the right one of the candidates, in pixels of the original image.

    A box means the candidate with which its IoU is greatest; a point the smallest candidate that it lies in.

    Scores:
        accuracy: over ALL predictions, readable or not.
        count: predictions scored.
        clipped: answers with a box that reached out of the image, and was cut off at its edge.
        failure_none, failure_malformed, ...: answers without exactly one readable region, by class
            (`mllm.types.Failure`); always all five.
        failure_no_candidate: answers that touch no candidate.
        chance: the accuracy of guessing, mean of 1 / candidates.

    Source: Zhu et al. 2016, Visual7W, arXiv 1511.03416: four boxes to choose from.
    """

    headline = "accuracy"
    meanings: Mapping[str, str] = {
        "accuracy": "share of all answers that mean the right candidate",
        **MEANINGS,
        "failure_no_candidate": "a region that touches no candidate",
        "chance": "accuracy of guessing",
    }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth without at least two candidates.
        """
        predictions = sort_by_index(predictions)
        right = 0
        failures: Counter[str] = Counter()
        for prediction in predictions:
            if len(prediction.truth.candidates) < 2:
                found = str(len(prediction.truth.candidates))
                raise DataError(where=prediction.key, expected="at least two candidates in the truth", found=found)
            region = answered_region(prediction)
            if not isinstance(region, (Box, Point)):
                failures[region] += 1
                continue
            chosen = nearest_candidate(region, prediction.truth.candidates)
            failures["no_candidate"] += chosen is None
            right += chosen == 0
        count = len(predictions)
        scores: dict[str, float] = {"accuracy": right / count, "count": count}
        scores["clipped"] = sum(prediction.clipped > 0 for prediction in predictions)
        for failure in (*FAILURES, "no_candidate"):
            scores[f"failure_{failure}"] = failures[failure]
        scores["chance"] = sum(1 / len(prediction.truth.candidates) for prediction in predictions) / count
        return scores

    def value(self, prediction: Prediction) -> float:
        region = answered_region(prediction)
        if not isinstance(region, (Box, Point)):
            return 0.0
        return float(nearest_candidate(region, prediction.truth.candidates) == 0)


def answered_region(prediction: Prediction) -> Box | Point | Failure:
    """The one region of an answer, of the kind that was asked for, or why there is none."""
    failure = failure_of(prediction)
    if failure is not None:
        return failure
    regions: Sequence[Box | Point] = prediction.points if prediction.truth.points else prediction.boxes
    if len(regions) == 1:
        return regions[0]
    return "wrong_count" if regions else "none"


def nearest_candidate(region: Box | Point, candidates: Sequence[Box]) -> int | None:
    """The number of the candidate that a region means; None where it touches none."""
    scores: list[float] = []
    for box in candidates:
        if box.image != region.image:
            scores.append(0.0)
        elif isinstance(region, Box):
            scores.append(iou(region, box))
        else:
            inside = box.x1 <= region.x <= box.x2 and box.y1 <= region.y <= box.y2
            area = (box.x2 - box.x1) * (box.y2 - box.y1)
            scores.append(1 / (1 + area) if inside else 0.0)
    best = max(range(len(scores)), key=scores.__getitem__)
    return best if scores[best] > 0 else None
