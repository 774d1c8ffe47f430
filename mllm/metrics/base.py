"""What every metric does, and the check that every metric makes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from mllm.errors import DataError
from mllm.types import Prediction


class Metric(Protocol):
    """Turns predictions, which carry their ground truth, into named scores, always with `count`."""

    headline: str
    """The score to compare runs by."""
    meanings: Mapping[str, str]
    """The meaning of each score, as a phrase for the report."""

    def __call__(self, predictions: Sequence[Prediction]) -> Mapping[str, float]: ...


def by_index(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Sort predictions into dataset order, so that no score depends on the order they came in.

    Raises:
        DataError: there are none, or two of them answer the same item.
    """
    if not predictions:
        raise DataError("no predictions to score")
    ordered = sorted(predictions, key=lambda prediction: prediction.index)
    for before, after in pairwise(ordered):
        if before.index == after.index:
            raise DataError(f"two predictions for item {after.index}, expected one", where=after.key)
    return ordered
