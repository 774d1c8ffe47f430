"""Why an answer does not hold the regions that were asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
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

LIST_FAILURES: tuple[Failure, ...] = tuple(name for name in FAILURES if name != "wrong_count")
"""Where an answer may hold any number of regions, how many it holds is scored, and is no failure."""
LIST_MEANINGS: Mapping[str, str] = {
    **{name: meaning for name, meaning in MEANINGS.items() if name != "failure_wrong_count"},
    "failure_none": "no region in the answer, though there is one in the image",
    "failure_malformed": "a region that cannot be read, or an answer that was cut off while thinking",
    "failure_out_of_range": "a region wholly outside the image",
}


def failure_of(prediction: Prediction) -> Failure | None:
    """The class of failure; None where the answer has as many regions as its truth, or where none was asked for.

    This is where an answer meets its truth: reading it knows nothing of how many regions there should be. Time spans
    are compared as a whole, and not counted.
    """
    truth = prediction.truth
    if not (truth.boxes or truth.points or truth.time_spans or truth.no_target):
        return None
    failure = unreadable_reason(prediction)
    if failure is not None:
        return failure
    counts = ((len(truth.boxes), len(prediction.boxes)), (len(truth.points), len(prediction.points)))
    asked = [(expected, found) for expected, found in counts if expected or truth.no_target]
    asked += [(0, len(prediction.time_spans))] * truth.no_target
    return None if all(expected == found for expected, found in asked) else "wrong_count"


def unreadable_reason(prediction: Prediction) -> Failure | None:
    """Why a region of the answer could not be read, or why it has none of the kind that was asked for; else None.

    Unlike `failure_of` this does not count the regions.
    """
    truth = prediction.truth
    of_time_alone = bool(truth.time_spans) and not (truth.boxes or truth.points)
    if prediction.failure is not None and not of_time_alone:
        return prediction.failure
    if prediction.time_failure is not None and truth.time_spans:
        return prediction.time_failure
    if truth.no_target and prediction.text.strip() and not stated(prediction.text).strip():
        return "malformed"  # cut off while thinking, it says nothing yet
    asked = [
        found
        for expected, found in (
            (truth.boxes, prediction.boxes),
            (truth.points, prediction.points),
            (truth.time_spans, prediction.time_spans),
        )
        if expected
    ]
    return "none" if asked and not any(asked) else None


def list_failures(
    predictions: Iterable[Prediction], failure: Callable[[Prediction], Failure | None] = unreadable_reason
) -> dict[str, float]:
    """`failure_none`, `failure_malformed`, ... (all but `wrong_count`, always): how many answers failed so."""
    counted = Counter(map(failure, predictions))
    return {f"failure_{name}": counted[name] for name in LIST_FAILURES}


def says_nothing_is_there(prediction: Prediction) -> bool:
    """Whether an answer, which was read to its end, has no region."""
    regions = (*prediction.boxes, *prediction.points, *prediction.time_spans)
    return not regions and unreadable_reason(prediction) in (None, "none")
