"""Points: do they lie where they should, in a box or on the pixels of a mask?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import fsum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mllm.errors import DataError
from mllm.fields import show
from mllm.metrics.base import MeanHeadline, sort_by_index, split_by_group
from mllm.metrics.boxes_f1 import f1
from mllm.metrics.failures import LIST_MEANINGS, list_failures, says_nothing_is_there, unreadable_reason
from mllm.metrics.overlaps import Matrix, assigned
from mllm.registry import METRICS
from mllm.types import Box, Failure, Mask, Point, Prediction

Rule = Literal["first", "all", "match"]
RULES: Mapping[Rule, str] = {
    "first": "share of all answers whose first point lies in the region",
    "all": "share of all answers that have points, all of which lie in the region",
    "match": "share of all answers with exactly the right points",
}
Inside = Callable[[Point], bool]
FAR = 1e9
"""Pixels between two points on different images: more than any image has."""


@METRICS.register_module()
class PointIn(MeanHeadline):
    """Whether points lie in the true regions: masks, or else candidates (boxes), or else boxes.

    A point lies in a box if it is within its edges or on them. It lies in a mask if the mask holds the pixel that the
    point is in: pixel (column, row) covers [column, column + 1) x [row, row + 1) of the original image, and what lies
    on the right or lower edge of the image belongs to its last pixel.

    Args:
        rule: `"first"`: the first point lies in one of the regions (ScreenSpot). `"all"`: there are points, and each
            lies in one of the regions (Point-Bench). `"match"`: points are matched to the points of the truth one to
            one, by the least sum of distances, and are right if they lie in the region of their partner, whose number
            is the same (PixMo-Points).
        box_centre: take the centres of boxes where an answer has boxes and no point, as SeeClick does.
        group: a name in the records' `group`, by which the headline is broken down.
        counted: values of this group for which an answer also needs as many points as the truth (Point-Bench's
            "counting").

    Scores:
        accuracy: share of ALL predictions that are right by the rule; with "match", those with precision and recall 1.
        f1, precision, recall: with "match" only, means over ALL predictions: matched points that are right, out of
            those answered and out of those that there are.
        accuracy/VALUE, or f1/VALUE: of each group. mean_accuracy, or mean_f1: their mean.
        count: predictions scored.
        box_centres: answers whose boxes stood for points.
        no_target_acc, no_target_count: where some items have nothing to point at, the share answered without a region,
            which is the right answer there and scores 1.
        failure_none, failure_malformed, ...: see `mllm.metrics.failures`.

    Source: Cheng et al. 2024 (SeeClick, arXiv 2401.10935); Deitke et al. 2024 (Molmo, arXiv 2409.17146), whose code
    rounds coordinates to the nearest pixel; Cheng et al. 2025 (PointArena, arXiv 2505.09990).
    """

    def __init__(
        self,
        *,
        rule: Rule = "first",
        box_centre: bool = True,
        group: str | None = None,
        counted: Sequence[str] = (),
    ) -> None:
        self.rule: Rule = rule
        self.box_centre = box_centre
        self.group = group
        self.counted = frozenset(counted)
        self.headline = "f1" if rule == "match" else "accuracy"
        matching = {
            "f1": "harmonic mean of precision and recall, mean over the answers",
            "precision": "share of the answered points that are right, mean over the answers",
            "recall": "share of the objects that a right point is on, mean over the answers",
        }
        self.meanings: Mapping[str, str] = {
            **(matching if rule == "match" else {}),
            "accuracy": RULES[rule],
            f"mean_{self.headline}": "mean over the groups",
            "box_centres": "answers whose boxes stood for points",
            "no_target_acc": "share of the items with nothing to point at that were answered without a region",
            "no_target_count": "items with nothing to point at",
            **{name: meaning for name, meaning in LIST_MEANINGS.items() if name != "clipped"},
        }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, a truth without a region, a mask that cannot be decoded, or, to
                match, other than one region for each point.
        """
        predictions = sort_by_index(predictions)
        each = {prediction.index: self._score(prediction) for prediction in predictions}
        count = len(predictions)
        names = ("accuracy", "f1", "precision", "recall") if self.rule == "match" else ("accuracy",)
        scores: dict[str, float] = {name: fsum(one[name] for one in each.values()) / count for name in names}
        if self.group is not None:
            groups = {
                name: fsum(each[prediction.index][self.headline] for prediction in own) / len(own)
                for name, own in split_by_group(predictions, self.group).items()
            }
            scores[f"mean_{self.headline}"] = fsum(groups.values()) / len(groups)
            scores |= {f"{self.headline}/{name}": value for name, value in groups.items()}
        scores["count"] = count
        scores["box_centres"] = sum(self.box_centre and bool(p.boxes) and not p.points for p in predictions)
        absent = [each[prediction.index]["accuracy"] for prediction in predictions if prediction.truth.no_target]
        if absent:
            scores["no_target_acc"] = sum(absent) / len(absent)
            scores["no_target_count"] = len(absent)
        return {**scores, **list_failures(predictions, self.failure)}

    def parts_of(self, prediction: Prediction) -> dict[str, list[str]]:
        return {} if self.group is None else {self.group: [str(prediction.group[self.group])]}

    def value(self, prediction: Prediction) -> float:
        return self._score(prediction)[self.headline]

    def _points(self, prediction: Prediction) -> Sequence[Point]:
        if prediction.points or not self.box_centre:
            return prediction.points
        return [Point(x=(b.x1 + b.x2) / 2, y=(b.y1 + b.y2) / 2, image=b.image) for b in prediction.boxes]

    def failure(self, prediction: Prediction) -> Failure | None:
        if prediction.truth.no_target or prediction.failure is not None:
            return unreadable_reason(prediction)
        return None if self._points(prediction) else "none"

    def _score(self, prediction: Prediction) -> dict[str, float]:
        if prediction.truth.no_target:
            right = float(says_nothing_is_there(prediction))
            return dict.fromkeys(("accuracy", "f1", "precision", "recall"), right)
        points, regions = self._points(prediction), regions_of(prediction)
        if self.rule == "match":
            score, precision, recall = f1(matched(prediction, points, regions), len(points), len(regions))
            return {"accuracy": float(score == 1), "f1": score, "precision": precision, "recall": recall}
        tried = points[:1] if self.rule == "first" else points
        right = bool(tried) and all(any(inside(point) for inside in regions) for point in tried)
        if self.group is not None and str(prediction.group.get(self.group)) in self.counted:
            right = right and len(points) == (len(prediction.truth.points) or len(regions))
        return {"accuracy": float(right)}


def regions_of(prediction: Prediction) -> list[Inside]:
    """A test for each region of the truth: whether a point lies in it.

    Raises:
        DataError: there is none, or a mask cannot be decoded.
    """
    truth = prediction.truth
    if truth.masks:
        images = [point.image for point in truth.points] or [0]
        images = images if len(images) == len(truth.masks) else images[:1] * len(truth.masks)
        return [
            _in_mask(decode_mask(mask, prediction.key), image) for mask, image in zip(truth.masks, images, strict=True)
        ]
    boxes = truth.candidates or truth.boxes
    if not boxes:
        expected = "masks, candidates or boxes, where points may lie"
        raise DataError(where=prediction.key, field="truth", expected=expected, found="none of them")
    return [_in_box(box) for box in boxes]


def decode_mask(mask: Mask, key: str) -> NDArray[np.uint8]:
    """uint8 [height, width] of a mask in COCO's run-length encoding, compressed or not.

    Raises:
        DataError: its runs do not fill its size.
    """
    from pycocotools import mask as masks

    coco: Any = masks
    height, width = mask["size"]
    runs: Any = mask["counts"]
    try:
        packed: Any = dict(mask)
        if not isinstance(runs, str):
            if sum(runs) != height * width:
                raise ValueError(f"its runs cover {sum(runs)} pixels")
            packed = coco.frPyObjects(packed, height, width)
        return coco.decode(packed)
    except (ValueError, TypeError, OverflowError) as error:
        expected, found = f"runs of {height} x {width} pixels", f"{show(runs)}: {error}"
        raise DataError(where=key, field="truth.masks", expected=expected, found=found, kind="coordinates") from error


def matched(prediction: Prediction, points: Sequence[Point], regions: Sequence[Inside]) -> int:
    """How many points lie in the region of the true point that they are matched to."""
    true = prediction.truth.points
    if len(true) != len(regions):
        expected = f"a region for each of the {len(true)} points"
        raise DataError(where=prediction.key, field="truth", expected=expected, found=str(len(regions)))
    if not points:
        return 0
    a, b = (np.array([point.xy for point in some], dtype=np.float64) for some in (points, true))
    distances: Matrix = np.linalg.norm(a[:, None] - b[None], axis=-1)
    elsewhere = np.not_equal.outer([point.image for point in points], [point.image for point in true])
    distances = distances + elsewhere * FAR  # a point is matched on its own image, where one is left
    return sum(regions[column](points[row]) for row, column in assigned(distances))


def _in_box(box: Box) -> Inside:
    return lambda p: p.image == box.image and box.x1 <= p.x <= box.x2 and box.y1 <= p.y <= box.y2


def _in_mask(pixels: NDArray[np.uint8], image: int) -> Inside:
    height, width = pixels.shape

    def inside(point: Point) -> bool:
        if point.image != image or not (0 <= point.x <= width and 0 <= point.y <= height):
            return False
        return bool(pixels[min(int(point.y), height - 1), min(int(point.x), width - 1)])

    return inside
