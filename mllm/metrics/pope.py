"""Yes or no: does a model see things that are not there?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from mllm.errors import DataError
from mllm.metrics.base import by_index
from mllm.registry import METRICS
from mllm.types import Prediction

NO = ("no", "not")


@METRICS.register_module()
class POPE:
    """Accuracy, precision, recall and F1 of the answer yes, and how often it is given.

    An answer is read as the public script does: its first sentence, up to the first full stop; `no` or `not` among its
    words means no, all else yes.

    Scores:
        accuracy, precision, recall, f1: in [0, 1], yes being positive; 0 where nothing is divided by nothing.
        yes_ratio: share of answers that say yes; half of the questions of POPE ask for it.
        count: predictions scored.
        failure_none: answers with neither yes nor no in their first sentence, which count as yes.

    Source: Li et al. 2023, Evaluating Object Hallucination, arXiv 2305.10355; RUCAIBox/POPE, evaluate.py.
    """

    headline = "f1"
    meanings: Mapping[str, str] = {
        "accuracy": "share of all answers that are right",
        "precision": "of the answers yes, those that are right",
        "recall": "of the things that are there, those that were seen",
        "f1": "harmonic mean of precision and recall",
        "yes_ratio": "share of answers that say yes",
        "failure_none": "answers with neither yes nor no, which count as yes",
    }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth that is neither yes nor no.
        """
        predictions = by_index(predictions)
        pairs: Counter[tuple[bool, bool]] = Counter()
        unclear = 0
        for prediction in predictions:
            if prediction.truth.texts not in (("yes",), ("no",)):
                raise DataError(f"{prediction.key}: expected yes or no as the truth, found {prediction.truth.texts}")
            words = first_words(prediction.text)
            unclear += not {"yes", *NO} & words
            pairs[not words.intersection(NO), prediction.truth.texts == ("yes",)] += 1
        hits, false_alarms, misses = pairs[True, True], pairs[True, False], pairs[False, True]
        count = len(predictions)
        return {
            "accuracy": (hits + pairs[False, False]) / count,
            "precision": _share(hits, hits + false_alarms),
            "recall": _share(hits, hits + misses),
            "f1": _share(2 * hits, 2 * hits + false_alarms + misses),
            "yes_ratio": (hits + false_alarms) / count,
            "count": count,
            "failure_none": unclear,
        }


def first_words(text: str) -> set[str]:
    """The words of the first sentence in lower case, without signs."""
    return set(re.findall(r"[^\W\d_]+", text.strip().split(".")[0].lower()))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
