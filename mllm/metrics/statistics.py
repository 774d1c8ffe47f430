"""How sure a score is: intervals by images, and paired comparison of two models on the same questions.

Answers about one image are not independent: what is drawn anew is images, with all their answers (cluster bootstrap;
Cameron, Gelbach and Miller 2008). Draws follow from a fixed seed, so that an interval is reproducible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mllm.metrics.base import MeanHeadline, Metric, Resampled, Tallied, Totals
from mllm.types import Prediction

DRAWS = 2000
SEED = 0
LEVEL = 0.95
POWER = 0.8
AT_ONCE = 4_000_000
"""Counts of images in draws that are held at once: a bound on memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Bounds that hold a score in 95 of 100 samples of as many images."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Of two models on the same items, B minus A.

    Attributes:
        interval: of the difference.
        only_a, only_b: items that only one of them answers right; None where answers are not just right or wrong.
        p: of McNemar's exact test that both are as likely; likewise.
        detectable: the smallest difference that as many images show in 4 of 5 such comparisons.
    """

    a: float
    b: float
    difference: float
    interval: Interval
    count: int
    images: int
    only_a: int | None
    only_b: int | None
    p: float | None
    detectable: float

    @property
    def is_significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval.low > 0 or self.interval.high < 0

    @property
    def count_needed(self) -> int | None:
        """How many such items would show a difference as large as this one in 4 of 5 comparisons; None for none."""
        if not self.difference:
            return None
        return ceil(self.count * (self.detectable / abs(self.difference)) ** 2)


def interval(metric: Metric, predictions: Sequence[Prediction], images: Sequence[str]) -> Interval | None:
    """The 95 % interval of a metric's headline; `images` names the image of each prediction.

    None for a metric that is neither `Tallied` nor `Resampled`, and for fewer than two images, which say nothing of
    others.
    """
    if isinstance(metric, Resampled):
        return _resampled(metric, predictions, images)
    if not isinstance(metric, Tallied):
        return None
    tallies = np.array([metric.tally(prediction) for prediction in predictions], dtype=np.float64)  # [N, K]
    totals = _by_image(tallies, images)
    if len(totals) < 2:
        return None
    found = _bounds(metric.headline_of(_drawn(totals)))
    if isinstance(metric, MeanHeadline) and found.low == found.high and found.low in (0.0, 1.0):
        # all answers are worth the same, and so is every draw: the exact bounds of as many independent images
        reach = 1 - ((1 - LEVEL) / 2) ** (1 / len(totals))
        return Interval(low=0.0, high=reach) if found.high == 0.0 else Interval(low=1 - reach, high=1.0)
    return found


def _resampled(metric: Resampled, predictions: Sequence[Prediction], images: Sequence[str]) -> Interval | None:
    count, numbers = _numbered(images)
    if count < 2:
        return None
    found = [metric.headline_of_counts(predictions, counts[:, numbers].astype(np.float64)) for counts in _counts(count)]
    values = np.concatenate(found)
    known = values[~np.isnan(values)]
    return _bounds(known) if len(known) else None


def compare_values(a: Sequence[float], b: Sequence[float], images: Sequence[str]) -> Difference:
    """Compare the values of the same answers of two models, in the same order.

    Args:
        a, b: in [0, 1].
        images: the image of each, by name.

    Raises:
        ValueError: fewer than two images.
    """
    scores_N2 = np.array([a, b], dtype=np.float64).T
    count = len(scores_N2)
    totals = _by_image(np.column_stack([scores_N2[:, 1] - scores_N2[:, 0], np.ones(count)]), images)
    if len(totals) < 2:
        raise ValueError("one image says nothing of others")
    drawn = _drawn(totals)
    differences = drawn[:, 0] / drawn[:, 1]
    error = float(differences.std(ddof=1))
    binary = bool(np.isin(scores_N2, (0.0, 1.0)).all())
    only_a = int((scores_N2[:, 0] > scores_N2[:, 1]).sum())
    only_b = int((scores_N2[:, 1] > scores_N2[:, 0]).sum())
    mean_a, mean_b = (float(mean) for mean in scores_N2.mean(axis=0))
    return Difference(
        a=mean_a,
        b=mean_b,
        difference=mean_b - mean_a,
        interval=_bounds(differences),
        count=count,
        images=len(totals),
        only_a=only_a if binary else None,
        only_b=only_b if binary else None,
        p=_mcnemar(only_a, only_b) if binary else None,
        detectable=(NormalDist().inv_cdf((1 + LEVEL) / 2) + NormalDist().inv_cdf(POWER)) * error,
    )


def _mcnemar(only_a: int, only_b: int) -> float:
    """The two-sided probability of a split at least as uneven, were both as likely."""
    from scipy.stats import binomtest  # pyright: ignore  # no stubs; takes a second to import

    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0  # pyright: ignore


def _by_image(rows: Totals, images: Sequence[str]) -> Totals:
    """The sums [C, K] of the rows [N, K] of each image."""
    count, numbers = _numbered(images)
    totals = np.zeros((count, rows.shape[1]))
    np.add.at(totals, numbers, rows)
    return totals


def _numbered(images: Sequence[str]) -> tuple[int, NDArray[np.intp]]:
    """How many images there are, and the number [N] of each row's."""
    names, numbers = np.unique(np.asarray(images, dtype=object).astype(str), return_inverse=True)
    return len(names), numbers


def _drawn(totals: Totals) -> Totals:
    """Sums [DRAWS, K] over as many images, drawn with replacement, as there are."""
    return np.concatenate([counts @ totals for counts in _counts(len(totals))])


def _counts(images: int) -> Iterator[NDArray[np.int64]]:
    """How often each image is drawn [D, images], with replacement; all `DRAWS`, some at a time."""
    generator = np.random.default_rng(SEED)
    at_once = max(1, AT_ONCE // images)
    for start in range(0, DRAWS, at_once):
        yield generator.multinomial(images, np.full(images, 1 / images), size=min(at_once, DRAWS - start))


def _bounds(values: Totals) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(low=float(low), high=float(high))
