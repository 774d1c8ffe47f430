"""Why an answer does not hold the regions that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from mllm.answers import stated
from mllm.types import Failure, Prediction

FAILURES: tuple[Failure, ...] = get_args(Failure)
MEANINGS: Mapping[str, str] = {
    "failure_none": "no region in the answer",
    "failure_malformed": "numbers that cannot be read, or an answer that was cut off while thinking",
    "failure_out_of_range": "a region wholly outside the image",
    "failure_wrong_count": "more or fewer regions than were asked for",
    "failure_inverted": "corners swapped: x1 > x2 or y1 > y2",
    "clipped": "answers with a box that reached out of the image, cut off at its edge",
}


def failure_of(prediction: Prediction) -> Failure | None:
    """The class of failure; None where the answer has as many regions as its truth, or where none was asked for.

    This is where an answer meets its truth: reading it knows nothing of how many regions there should be.
    """
    truth = prediction.truth
    if not (truth.boxes or truth.points or truth.no_target):
        return None
    if prediction.failure is not None:
        return prediction.failure
    if truth.no_target and prediction.text.strip() and not stated(prediction.text).strip():
        return "malformed"  # cut off while thinking, it says nothing yet
    counts = ((len(truth.boxes), len(prediction.boxes)), (len(truth.points), len(prediction.points)))
    asked = [(expected, found) for expected, found in counts if expected or truth.no_target]
    if all(expected == found for expected, found in asked):
        return None
    return "wrong_count" if any(found for _, found in asked) else "none"
