"""What every metric does, and the check that every metric makes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Protocol, cast, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mllm.answers import Depth, steps_of
from mllm.errors import DataError
from mllm.fields import show
from mllm.json_fields import describe_absent
from mllm.types import Prediction

Totals = NDArray[np.float64]


BOX_SIZE, WORDS = "box size", "words of the expression"
"""Names that scores are broken down by, beside those of the records."""


class Metric(Protocol):
    """Turns predictions, which carry their ground truth, into named scores, always with `count`.

    Optional members:

    - `failure(prediction)`: why an answer could not be read, where that is not `failure_of`;
    - `depth: str | None`: how texts are read, see `read_by`;
    - `parts_of(prediction)`, `{name: [values]}`: the names of its own break-downs, and the values that an answer counts
      under.
    """

    headline: str
    """The score to compare runs by."""
    meanings: Mapping[str, str]
    """The meaning of each score, as a phrase for the report."""

    def __call__(self, predictions: Sequence[Prediction]) -> Mapping[str, float]: ...


@runtime_checkable
class Tallied(Protocol):
    """A metric whose headline follows from numbers that add up over the answers: it gets intervals.

    Whoever has a `value` for each answer, whose mean is the headline, inherits `MeanHeadline` instead.
    """

    def value(self, prediction: Prediction) -> float:
        """What one answer is worth, in [0, 1]: runs are compared by it, answer by answer."""
        ...

    def tally(self, prediction: Prediction) -> tuple[float, ...]:
        """K numbers of one answer."""
        ...

    def headline_of(self, totals: Totals) -> Totals:
        """The headline [...] of sums of tallies [..., K]."""
        ...


@runtime_checkable
class Resampled(Protocol):
    """A metric whose headline follows from all answers together, such as an area under a curve; it gets intervals."""

    def headline_of_counts(self, predictions: Sequence[Prediction], counts: Totals) -> Totals:
        """The headline [D] where each of N predictions stands so often [D, N]; nan where there is none."""
        ...


def read_by(metric: Metric | None, prediction: Prediction) -> tuple[str, ...]:
    """Which rules read an answer for a metric; none where there was nothing to read.

    They are the steps of `mllm.answers`, and of regions their `Form`; `text` is an answer in words that stands alone,
    `ranking` the best of given candidates.
    A metric whose `depth` is no function of `mllm.answers` reads texts by a rule of its own, of this name.
    """
    if prediction.candidate_scores:
        return ("ranking",)
    truth = prediction.truth
    depth: str | None = getattr(metric, "depth", None)
    if depth is None and (truth.boxes or truth.points or truth.time_spans or truth.no_target):
        return prediction.read_by
    if depth is not None and depth not in get_args(Depth):
        return (depth,)
    if not prediction.text.strip():
        return ()
    return steps_of(prediction.text, cast("Depth", depth or "short_answer")) or ("text",)


class MeanHeadline:
    """The headline is the mean over all answers of their `value`."""

    def value(self, prediction: Prediction) -> float:
        """What one answer is worth, in [0, 1]."""
        raise NotImplementedError(f"{type(self).__name__} has no value()")

    def tally(self, prediction: Prediction) -> tuple[float, ...]:
        return self.value(prediction), 1.0

    def headline_of(self, totals: Totals) -> Totals:
        return totals[..., 0] / totals[..., 1]


def sort_by_index(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Sort predictions into dataset order, so that no score depends on the order they came in.

    Raises:
        DataError: there are none, or two of them answer the same item.
    """
    if not predictions:
        raise DataError(expected="predictions to score", found="none")
    ordered = sorted(predictions, key=lambda prediction: prediction.index)
    for before, after in pairwise(ordered):
        if before.index == after.index:
            raise DataError(where=after.key, expected=f"one prediction for item {after.index}", found="two")
    return ordered


def split_by_group(predictions: Sequence[Prediction], name: str) -> dict[str, list[Prediction]]:
    """Predictions by the value that the record's `group` has for `name`; values in the order of the alphabet.

    Raises:
        DataError: a record has none.
    """
    groups: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        if name not in prediction.group:
            expected, found = (
                f"a value for '{name}', which scores are broken down by",
                describe_absent(prediction.group),
            )
            raise DataError(where=prediction.key, field="group", expected=expected, found=found, kind="missing-field")
        groups.setdefault(str(prediction.group[name]), []).append(prediction)
    return dict(sorted(groups.items()))


def require_texts(predictions: Sequence[Prediction]) -> list[Prediction]:
    """As `sort_by_index`, and check that each truth has a text.

    Raises:
        DataError: as `sort_by_index`, or one has none.
    """
    ordered = sort_by_index(predictions)
    for prediction in ordered:
        if not prediction.truth.texts:
            raise DataError(where=prediction.key, field="truth.texts", expected="at least one text", found="nothing")
    return ordered


def require_references(predictions: Sequence[Prediction]) -> list[Prediction]:
    """The same, and check that each has texts to compare it with.

    Raises:
        DataError: as `sort_by_index`, or a truth without texts, or with a blank one.
    """
    ordered = sort_by_index(predictions)
    for prediction in ordered:
        texts = prediction.truth.texts
        if not texts or not all(text.strip() for text in texts):
            expected = "at least one reference, none of them blank"
            raise DataError(where=prediction.key, field="truth.texts", expected=expected, found=show(list(texts)))
    return ordered
