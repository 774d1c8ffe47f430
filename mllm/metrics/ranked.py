"""Scores of ranked candidates: the share of right ones among the best, and how well two classes are told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mllm.errors import DataError
from mllm.fields import show
from mllm.metrics.base import MeanHeadline, Totals, require_references
from mllm.registry import METRICS
from mllm.types import Prediction


@METRICS.register_module()
class RankedAccuracy(MeanHeadline):
    """Share of items whose right class is the most likely candidate, or among the five most likely: ImageNet's top-1
    and top-5. Needs answers by `data_args.ranking`.

    Scores:
        top1, top5: of ALL items.
        count: items scored.
    """

    headline = "top1"
    meanings: Mapping[str, str] = {
        "top1": "share of items whose most likely candidate is right",
        "top5": "share of items with the right one among the five most likely candidates",
    }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, a truth without texts, or an answer without candidates.
        """
        predictions = require_references(predictions)
        hits = {best: sum(_among(best, prediction) for prediction in predictions) for best in (1, 5)}
        scores = {f"top{best}": hit / len(predictions) for best, hit in hits.items()}
        return {**scores, "count": len(predictions)}

    def value(self, prediction: Prediction) -> float:
        return float(_among(1, prediction))


@METRICS.register_module()
class RocAuc:
    """Area under the ROC curve of two classes, as of Hateful Memes: how often an item of the `positive` class has a
    higher score than one of the other; equal scores count half. Needs answers by `data_args.ranking`.

    An item's score is the share of the `positive` candidate in the softmax over its candidates.

    Args:
        positive: the candidate that says so, and the truth of the items of that class.

    Scores:
        roc_auc: see above; left out where all items are of one class.
        accuracy: share of items whose most likely candidate is right.
        positives: items of the positive class.
        count: items scored.

    Source: Fawcett 2006, An introduction to ROC analysis, section 7.
    """

    headline = "roc_auc"
    meanings: Mapping[str, str] = {
        "roc_auc": "area under the ROC curve of the positive class",
        "accuracy": "share of items whose most likely candidate is right",
        "positives": "items of the positive class",
    }

    def __init__(self, *, positive: str = "yes") -> None:
        self.positive = positive

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, a truth without texts, or an answer without the candidate.
        """
        predictions = require_references(predictions)
        self._scores(predictions)
        positives = sum(map(self._is_positive, predictions))
        scores = {
            "accuracy": sum(_among(1, prediction) for prediction in predictions) / len(predictions),
            "positives": positives,
            "count": len(predictions),
        }
        if not 0 < positives < len(predictions):
            return scores
        return {"roc_auc": float(self.headline_of_counts(predictions, np.ones((1, len(predictions))))[0]), **scores}

    def headline_of_counts(self, predictions: Sequence[Prediction], counts: Totals) -> Totals:
        """The area [D] where each of N predictions stands so often [D, N]; nan without one of each class."""
        scores = self._scores(predictions)
        positive = np.array([self._is_positive(prediction) for prediction in predictions])
        order = np.argsort(scores, kind="stable")
        starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of items with equal scores
        true, false = (np.add.reduceat((counts * kind)[:, order], starts, axis=1) for kind in (positive, ~positive))
        wins = true * (np.cumsum(false, axis=1) - false / 2)
        pairs = true.sum(axis=1) * false.sum(axis=1)
        return np.divide(wins.sum(axis=1), pairs, out=np.full(len(counts), np.nan), where=pairs > 0)

    def _is_positive(self, prediction: Prediction) -> bool:
        return self.positive in prediction.truth.texts

    def _scores(self, predictions: Sequence[Prediction]) -> Totals:
        return np.array([self._score(prediction) for prediction in predictions])

    def _score(self, prediction: Prediction) -> float:
        """The logarithm of the odds, which orders items as their probability does, and is exact near 0 and 1."""
        scores = dict(_candidates(prediction))
        if self.positive not in scores or len(scores) < 2:
            expected, found = f"{self.positive!r} and another", show(list(scores))
            raise DataError(where=prediction.key, field="candidate_scores", expected=expected, found=found)
        mine = scores.pop(self.positive)
        best = max(scores.values())
        return mine - best - math.log(sum(math.exp(score - best) for score in scores.values()))


def _candidates(prediction: Prediction) -> Mapping[str, float]:
    if not prediction.candidate_scores:
        expected = "scores of candidates: set data_args.ranking"
        raise DataError(where=prediction.key, field="candidate_scores", expected=expected, found="none")
    return prediction.candidate_scores


def _among(best: int, prediction: Prediction) -> bool:
    return any(name in prediction.truth.texts for name in list(_candidates(prediction))[:best])
