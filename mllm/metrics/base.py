"""What every metric does, and the check that every metric makes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from mllm.errors import DataError
from mllm.types import Prediction


class Metric(Protocol):
    """Predictions, which carry their truth -> named scores, always with `count`."""

    headline: str
    """The key that stands for the whole: the one to compare runs by."""
    meanings: Mapping[str, str]
    """What each key of the scores says, as a phrase for a report."""

    def __call__(self, predictions: Sequence[Prediction]) -> Mapping[str, float]: ...


def by_index(predictions: Sequence[Prediction]) -> list[Prediction]:
    """The predictions in dataset order, so that no score depends on the order they came in.

    Raises:
        DataError: there are none, or two answer the same item (as when processes duplicate samples).
    """
    if not predictions:
        raise DataError("no predictions to score")
    ordered = sorted(predictions, key=lambda prediction: prediction.index)
    for before, after in pairwise(ordered):
        if before.index == after.index:
            raise DataError(f"two predictions for item {after.index}, expected one", where=after.key)
    return ordered
